"""The texts that tuning predicts, with and without their document among the passages."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from nest_engine.config import NestConfig
from nest_engine.engine import NestEngine
from nest_engine.errors import InputError
from nest_engine.evaluation.conditions import CONDITIONS, request_for, search
from nest_engine.generation.request import Request, prepare
from nest_engine.generation.scoring import ForcedText
from nest_engine.records import Passage


@dataclass(frozen=True)
class Sample:
    """A text to predict after a request for its subject.

    Args:
        prompt: what the model reads.
        query: what the passages were searched for.
        text: the text.
        passages: what may be copied.
        condition: whether the text's document is among the passages, and whether they stand in the
            prompt.
    """

    prompt: str
    query: str
    text: str
    passages: tuple[Passage, ...]
    condition: str


def make_samples(
    engine: NestEngine, passages: Sequence[Passage], count: int, *, seed: int = 0
) -> list[Sample]:
    """Draw documents, and search passages for each with and without it.

    Args:
        engine: with the first-stage search; its configuration names the method.
        passages: the passages that are searched; the first one of a titled document is the text to
            predict.
        count: number of documents.
        seed: another seed draws other documents.

    Returns:
        two samples for each document. For a method that writes no passages into the prompt, two
        more with ``prompt_passages`` of them written there all the same.

    Raises:
        InputError: if no passage has a title, or the engine has no retriever.
    """
    if engine.retriever is None:
        raise InputError("the engine has no retriever: tuning searches passages; give one")
    leads: dict[str, Passage] = {}
    for passage in passages:
        if passage.title:
            leads.setdefault(passage.title, passage)
    if not leads:
        raise InputError(
            "no passage has a title: tuning asks for documents by title; give documents with titles"
        )
    chosen = random.Random(seed).sample(list(leads.values()), min(count, len(leads)))
    queries = [request_for(passage.title) for passage in chosen]
    found = search(
        engine.retriever,
        queries,
        [[passage.title] for passage in chosen],
        engine.config.passages_to_find,
    )
    samples = []
    for lead, query, passages_of in zip(chosen, queries, found, strict=True):
        prompt, text = engine.format_question(query), f" {lead.text}"
        searched = [
            Sample(prompt, query, text, passages_of[condition], condition)
            for condition in CONDITIONS
        ]
        samples += searched
        if not engine.config.uses_prompt_passages:
            samples += [_with_passages_in_prompt(engine, sample) for sample in searched]
    return samples


def force(engine: NestEngine, config: NestConfig, sample: Sample) -> ForcedText:
    """Return the text of a sample, ready to be predicted token by token.

    Args:
        engine: the engine.
        config: settings.
        sample: the sample.
    """
    request = _prepare(engine, config, sample)
    return ForcedText(engine.language_model, engine.key_cache, request, sample.text)


def _with_passages_in_prompt(engine: NestEngine, sample: Sample) -> Sample:
    """Return a sample with a few of its passages in the prompt.

    As in a chain, nothing says which part of the prompt is the question.
    """
    request = _prepare(engine, engine.config.replace(method="ra"), sample)
    placed = tuple(sample.passages[located.number] for located in request.located)
    return Sample(
        request.prompt, request.prompt, sample.text, placed, f"{sample.condition}, in prompt"
    )


def _prepare(engine: NestEngine, config: NestConfig, sample: Sample) -> Request:
    """Return the request of a sample; passages in its prompt leave room for the text."""
    room = len(engine.language_model.tokenizer.encode_prompt(sample.text).token_ids)
    [request] = prepare(
        engine,
        [sample.prompt],
        [sample.passages],
        [sample.query],
        config.replace(max_new_tokens=room),
    )
    return request
