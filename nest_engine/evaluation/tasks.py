"""The tasks: how each asks about an example, and what it measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nest_engine.config import NestConfig
from nest_engine.engine import NestEngine
from nest_engine.errors import InputError
from nest_engine.evaluation.articles import Articles
from nest_engine.evaluation.conditions import Condition, is_about, request_for, title_key
from nest_engine.evaluation.copying import (
    attribution,
    off_topic,
    quote_precision,
    sentence_kinds,
)
from nest_engine.evaluation.examples import Example, subject
from nest_engine.evaluation.facts import factual_precision
from nest_engine.evaluation.matching import names, words_of
from nest_engine.evaluation.metrics import Measures, answer_recall, rouge, truthful_deltas
from nest_engine.output import NestOutput
from nest_engine.records import Passage

PREFIX_TOKENS = 128
"""Length of the beginning of an article that a completion continues: Table 1a."""

ODD = 0.001
"""A token that the model gives less than this is odd."""


@dataclass(frozen=True)
class Task:
    """A way to ask about examples.

    Args:
        meaning: what is asked, and in which of the paper's tables.
        max_new_tokens: most tokens of an answer, as in the paper; None if none is generated.
        suits: whether an example can be asked.
        needs: what an example must have for it.
    """

    meaning: str
    max_new_tokens: int | None
    suits: Callable[[Example], bool]
    needs: str


TASKS: dict[str, Task] = {
    "completion": Task(
        f"articles continued behind their first {PREFIX_TOKENS} tokens (Table 1a)",
        256,
        lambda example: bool(example.text),
        'articles: WikiText tokens, or lines of {"title", "text"}',
    ),
    "qa": Task(
        "short-answer questions, TruthfulQA among them (Table 1b)",
        128,
        lambda example: any(words_of(answer).strip() for answer in example.answers),
        "questions with answers: NQ-open, TriviaQA, HotpotQA, EntityQuestions, TruthfulQA",
    ),
    "biography": Task(
        "requests for a subject (FActScore in Table 1b)",
        512,
        lambda example: bool(example.titles) and not example.answers,
        'subjects: a line for each, lines of {"topic"}, or articles',
    ),
    "attribution": Task(
        "any questions or subjects; only copying is measured (Table 2)",
        128,
        lambda example: True,
        "questions or subjects",
    ),
    "choice": Task(
        "multiple choice by perplexity (MMLU in Table 1b)",
        None,
        lambda example: example.right is not None,
        "choices: MMLU csv, TruthfulQA csv",
    ),
}


@dataclass(frozen=True)
class PromptedExample:
    """An example as a prompt.

    Args:
        example: the example.
        prompt: what the model continues.
        query: what passages are searched for.
        reference: the text that the answer is compared with; empty if there is none.
        article: the article about the subject; empty if it is not known.
    """

    example: Example
    prompt: str
    query: str
    reference: str
    article: str


def make_prompt(
    task: str, example: Example, engine: NestEngine, articles: Articles, max_new_tokens: int
) -> PromptedExample:
    """Make a prompt of an example.

    Args:
        task: name of the task.
        example: the example.
        engine: knows the model's question format and tokens.
        articles: where the article about the subject is looked up.
        max_new_tokens: most tokens of an answer; a completion is compared with as many.

    Raises:
        InputError: if an article is too short to be continued.
    """
    own = articles.passages(example.titles)
    article = example.text or "\n".join(passage.text for passage in own)
    if task == "completion":
        prefix, continuation = _cut(engine, example.text, max_new_tokens)
        return PromptedExample(example, prefix, prefix, continuation, article)
    question = request_for(example.titles[0]) if task == "biography" else example.question
    reference = own[0].text if own and task == "biography" else ""
    return PromptedExample(example, engine.format_question(question), question, reference, article)


def _cut(engine: NestEngine, text: str, max_new_tokens: int) -> tuple[str, str]:
    ends = engine.language_model.tokenizer.encode_prompt(text).ends
    if len(ends) <= PREFIX_TOKENS:
        raise InputError(
            f"the article has {len(ends)} tokens; a completion needs more than {PREFIX_TOKENS}"
        )
    start, end = ends[PREFIX_TOKENS - 1], ends[min(PREFIX_TOKENS + max_new_tokens, len(ends)) - 1]
    return text[:start], text[start:end]


def measure_answer(
    task: str, prompted: PromptedExample, output: NestOutput, config: NestConfig
) -> Measures:
    """Return every measure of an answer that the example allows."""
    example, stats = prompted.example, output.stats
    measures: Measures = {}
    if prompted.reference:
        measures |= rouge(output.text, prompted.reference)
    if task == "qa" and example.incorrect:
        measures |= truthful_deltas(output.text, example.answers, example.incorrect)
    elif task == "qa":
        measures |= answer_recall(output.text, example.answers)
    if prompted.article:
        subjects = [*example.titles, *map(subject, example.titles)]
        is_cut = output.finish_reason == "length"
        measures |= factual_precision(output.text, prompted.article, subjects, is_cut=is_cut)
    measures |= attribution(output) | quote_precision(output) | sentence_kinds(output)
    if example.titles:
        measures |= off_topic(output, example.titles)
    if example.titles and config.passages_to_find:
        keys = {title_key(title) for title in example.titles}
        measures["article_found"] = (
            float(any(is_about(passage, keys) for passage in output.passages)),
            1,
        )
    tokens = len(output.token_ids)
    return measures | {
        "mean_lambda": (sum(output.lambdas), tokens),
        "length": (tokens, 1),
        "tokens_per_forward": (tokens, stats.lm_forwards),
    }


def perplexity(
    engine: NestEngine, prompted: PromptedExample, passages: Sequence[Passage], config: NestConfig
) -> Measures:
    """Return the perplexity of the true continuation under p_M, as in Table 1a."""
    score = engine.score(
        prompted.reference,
        prompt=prompted.prompt,
        passages=passages,
        query=prompted.query,
        config=config,
    )
    return {"perplexity": (score.nll, score.num_tokens)}


def likelihood(
    engine: NestEngine,
    prompted: PromptedExample,
    passages: Sequence[Passage],
    output: NestOutput,
    config: NestConfig,
) -> Measures:
    """Return what the model itself thinks of an answer, with the passages in its prompt.

    Nothing, where there is no answer or its passages do not fit in the prompt beside it.
    """
    if not output.text:
        return {}
    try:
        score = engine.score(
            output.text,
            prompt=prompted.prompt,
            passages=passages,
            query=prompted.query,
            config=engine.config.replace(method="ra", prompt_passages=config.prompt_passages),
        )
    except InputError:  # the answer itself is as good as any other
        return {}
    odd = sum(log_prob < math.log(ODD) for log_prob in score.log_probs)
    return {"nll": (score.nll, score.num_tokens), "odd_tokens": (odd, score.num_tokens)}


def given(example: Example) -> dict[Condition, tuple[Passage, ...]]:
    """Return the passages that come with an example; without gold those that name no answer."""

    def names_an_answer(passage: Passage) -> bool:
        said = words_of(passage.text)
        return any(names(said, answer) for answer in example.answers)

    others = tuple(passage for passage in example.passages if not names_an_answer(passage))
    return {"gold": example.passages, "no-gold": others}


def choose(
    engine: NestEngine, prompted: PromptedExample, passages: Sequence[Passage], config: NestConfig
) -> int:
    """Return the index of the choice with the lowest perplexity: MMLU in Table 1b.

    Raises:
        InputError: if the perplexities cannot be compared.
    """
    perplexities = [
        engine.score(
            f" {choice}",
            prompt=prompted.prompt,
            passages=passages,
            query=prompted.query,
            config=config,
        ).perplexity
        for choice in prompted.example.choices
    ]
    if any(map(math.isnan, perplexities)) or min(perplexities) == math.inf:
        raise InputError(f"no choice is the likeliest: their perplexities are {perplexities}")
    return perplexities.index(min(perplexities))
