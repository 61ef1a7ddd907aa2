"""Beginnings of documents to predict token by token, with and without them among the passages."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from nest_engine.engine import NestEngine
from nest_engine.evaluation.conditions import CONDITIONS, request_for, search
from nest_engine.interfaces import PassageRetriever
from nest_engine.records import Passage


@dataclass(frozen=True)
class Sample:
    """A text to predict after a request for its subject.

    Args:
        prompt: what the model reads.
        query: what the passages were searched for.
        text: the text.
        passages: what may be copied.
        condition: whether the text's document is among the passages.
    """

    prompt: str
    query: str
    text: str
    passages: tuple[Passage, ...]
    condition: str


def make_samples(
    engine: NestEngine,
    retriever: PassageRetriever,
    passages: Sequence[Passage],
    count: int,
    *,
    seed: int = 0,
) -> list[Sample]:
    """Draw documents, and search passages for each with and without it.

    Args:
        engine: its configuration says how many passages to search for.
        retriever: first-stage search over the passages.
        passages: those that are searched; the first one of a titled document is the text.
        count: number of documents.
        seed: another seed draws other documents.

    Returns:
        two samples for each document.
    """
    leads: dict[str, Passage] = {}
    for passage in passages:
        if passage.title:
            leads.setdefault(passage.title, passage)
    chosen = random.Random(seed).sample([*leads.values()], min(count, len(leads)))
    queries = [request_for(passage.title) for passage in chosen]
    titles = [[passage.title] for passage in chosen]
    found = search(retriever, queries, titles, engine.config.passages_to_find)
    return [
        Sample(engine.format_question(query), query, f" {lead.text}", passages_of[name], name)
        for lead, query, passages_of in zip(chosen, queries, found, strict=True)
        for name in CONDITIONS
    ]
