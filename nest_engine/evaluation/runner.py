"""Evaluations: every example, by every variant, in every condition."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nest_engine._version import __version__
from nest_engine.config import NestConfig
from nest_engine.engine import NestEngine
from nest_engine.errors import ConfigError, InputError
from nest_engine.evaluation.articles import Articles
from nest_engine.evaluation.conditions import CONDITIONS, search
from nest_engine.evaluation.examples import Example, fingerprint
from nest_engine.evaluation.metrics import Measures
from nest_engine.evaluation.results import Key, Record, Results
from nest_engine.evaluation.tasks import (
    TASKS,
    PromptedExample,
    choose,
    given,
    likelihood,
    make_prompt,
    measure_answer,
    perplexity,
)
from nest_engine.interfaces import PassageRetriever
from nest_engine.output import NestOutput
from nest_engine.records import Passage

OPEN = "open"
"""Whatever the search finds, for examples whose article is unknown or not in the corpus."""

SETTINGS = (*CONDITIONS, OPEN)
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """What is to be measured.

    Args:
        task: name of the task.
        examples: the examples, in order.
        variants: settings by name; a plain method is named after itself.
        conditions: the conditions to measure in.
        left_out: examples that were not asked because the corpus lacks their article.
        data: hash of the whole data set, of which ``examples`` may be a part.
        unsuited: examples that lack what the task needs, such as an answer.
    """

    task: str
    examples: tuple[Example, ...]
    variants: Mapping[str, NestConfig]
    conditions: tuple[str, ...]
    left_out: int = 0
    data: str = ""
    unsuited: int = 0

    @property
    def max_new_tokens(self) -> int:
        """Most tokens of an answer, over the variants; completions are compared with as many."""
        return max(config.max_new_tokens or 1024 for config in self.variants.values())

    def keys(self) -> Iterator[Key]:
        """Yield the keys of all results, in the order of the tables."""
        for condition in self.conditions:
            for variant in self.variants:
                for example in self.examples:
                    yield Key(example.id, variant, condition)


def plan(
    task: str,
    examples: Sequence[Example],
    variants: Mapping[str, NestConfig],
    articles: Articles,
    *,
    conditions: Sequence[str] = (),
    limit: int | None = None,
    seed: int = 0,
) -> Evaluation:
    """Choose examples and conditions.

    Args:
        task: name of the task.
        examples: the data set.
        variants: settings by name.
        articles: the corpus.
        conditions: the conditions to measure in; by default ``gold`` and ``no-gold`` for the
            examples that come with passages or whose article is in the corpus, or ``open`` if there
            are none.
        limit: number of examples; a larger number later includes the same ones.
        seed: another seed draws other examples.

    Returns:
        the evaluation.

    Raises:
        ConfigError: if the task or a condition is unknown.
        InputError: if two examples have the same id, if no example suits the task, or if none has
            an article in the corpus and the conditions need one.
    """
    if task not in TASKS:
        raise ConfigError(f"task {task!r} is unknown: expected one of {', '.join(TASKS)}")
    for condition in conditions:
        if condition not in SETTINGS:
            raise ConfigError(
                f"condition {condition!r} is unknown: expected one of {', '.join(SETTINGS)}"
            )
    _require_distinct(examples)
    suited = [example for example in examples if TASKS[task].suits(example)]
    if not suited:
        raise InputError(
            f"none of {len(examples)} examples suits the task {task!r}, which needs "
            f"{TASKS[task].needs}"
        )
    # Without gold, passages that come with a question are those that name no answer.
    covered = [
        example
        for example in suited
        if (example.passages and example.answers) or articles.holds(example.titles)
    ]
    chosen = tuple(dict.fromkeys(conditions)) or (CONDITIONS if covered else (OPEN,))
    kept = suited if chosen == (OPEN,) else covered
    if not kept:
        raise InputError(
            f"none of {len(suited)} examples has its article among the passages, which "
            f"{' and '.join(chosen)} need: give --docs that hold the articles under their titles, "
            "or measure with --conditions open"
        )
    shuffled = random.Random(seed).sample(kept, len(kept))
    return Evaluation(
        task,
        tuple(shuffled[:limit]),
        variants,
        chosen,
        len(suited) - len(kept),
        fingerprint(examples),
        len(examples) - len(suited),
    )


def _require_distinct(examples: Sequence[Example]) -> None:
    """Raise ``InputError`` if two examples would have one result."""
    places: dict[str, int] = {}
    for place, example in enumerate(examples, 1):
        if (before := places.setdefault(example.id, place)) != place:
            raise InputError(
                f"examples {before} and {place} have the same id {example.id!r}; results are kept "
                "by id: give each its own"
            )


def identity(evaluation: Evaluation, engine: NestEngine, articles: Articles) -> dict[str, Any]:
    """Return everything that the results depend on, apart from the variants."""
    return {
        "task": evaluation.task,
        "max_new_tokens": evaluation.max_new_tokens,
        "data": evaluation.data,
        "passages": articles.fingerprint,
        "search": getattr(engine.retriever, "fingerprint", type(engine.retriever).__name__),
        "embedder": getattr(engine.sentence_embedder, "fingerprint", None),
        "model": engine.language_model.fingerprint,
        "version": __version__,
    }


def evaluate(
    evaluation: Evaluation,
    engine: NestEngine,
    articles: Articles,
    results: Results,
    *,
    batch_size: int = 8,
    progress: Progress = lambda done, total: None,
) -> list[Record]:
    """Measure whatever is missing from the results.

    An example that cannot be asked (its prompt fills the context, its article is too short) is
    recorded with the reason and enters no figure.

    Args:
        evaluation: what to measure.
        engine: the model, with the first-stage search.
        articles: the corpus.
        results: where results are kept; those already there are not measured again.
        batch_size: examples that are decoded together; it changes the speed, not the answers.
        progress: called with the number of results so far and their total.

    Returns:
        the results of the evaluation, including earlier ones.

    Raises:
        InputError: if the engine has no first-stage search.
    """
    searches = not all(example.passages for example in evaluation.examples)
    if searches and engine.retriever is None:
        raise InputError(
            "the engine has no retriever, and not every example comes with passages: an evaluation "
            "searches them; give one"
        )
    keys = list(evaluation.keys())
    done = sum(key in results for key in keys)
    progress(done, len(keys))
    for start in range(0, len(evaluation.examples), batch_size):
        batch = _Batch(
            evaluation,
            engine,
            engine.retriever,
            articles,
            evaluation.examples[start : start + batch_size],
        )
        for condition in evaluation.conditions:
            for variant in evaluation.variants:
                missing = [
                    example
                    for example in batch.examples
                    if Key(example.id, variant, condition) not in results
                ]
                if missing:
                    results.append(batch.measure(missing, variant, condition))
                    done += len(missing)
                    progress(done, len(keys))
    return results.of(keys)


class _Batch:
    """Examples whose passages are searched once for all variants and conditions."""

    def __init__(
        self,
        evaluation: Evaluation,
        engine: NestEngine,
        retriever: PassageRetriever | None,
        articles: Articles,
        examples: Sequence[Example],
    ) -> None:
        self.examples = examples
        self._evaluation, self._engine, self._retriever, self._articles = (
            evaluation,
            engine,
            retriever,
            articles,
        )
        self._prompted: dict[str, PromptedExample | InputError] = {}
        self._found: dict[str, Mapping[Any, tuple[Passage, ...]]] = {}

    def measure(self, examples: Sequence[Example], variant: str, condition: str) -> list[Record]:
        """Return a record for each example."""
        self._prepare()
        config = self._evaluation.variants[variant]
        asked = [(self._prompted[example.id], example) for example in examples]
        ready = [prompted for prompted, _ in asked if isinstance(prompted, PromptedExample)]
        records = [
            {"example": example.id, "error": str(error)}
            for error, example in asked
            if isinstance(error, InputError)
        ]
        records += self._answered(ready, config, condition) if ready else []
        return [{"variant": variant, "condition": condition} | record for record in records]

    def _prepare(self) -> None:
        """Make prompts of the examples and search for them, unless that is done already."""
        if self._prompted:
            return
        task, variants = self._evaluation.task, self._evaluation.variants.values()
        for example in self.examples:
            try:
                self._prompted[example.id] = make_prompt(
                    task, example, self._engine, self._articles, self._evaluation.max_new_tokens
                )
            except InputError as error:
                self._prompted[example.id] = error
        ready = []
        for prompted in self._prompted.values():
            if isinstance(prompted, InputError):
                continue
            if prompted.example.passages:
                self._found[prompted.example.id] = given(prompted.example)
            else:
                ready.append(prompted)
        if not ready:
            return
        assert self._retriever is not None  # evaluate() has seen to it
        k = max(config.passages_to_find for config in variants)
        found = search(
            self._retriever,
            [prompted.query for prompted in ready],
            [prompted.example.titles for prompted in ready],
            k,
        )
        self._found |= {
            prompted.example.id: passages for prompted, passages in zip(ready, found, strict=True)
        }

    def _passages(
        self, prompted: PromptedExample, config: NestConfig, condition: str
    ) -> tuple[Passage, ...]:
        found = self._found[prompted.example.id]["gold" if condition == OPEN else condition]
        return found[: config.passages_to_find]

    def _answered(
        self, prompted_B: Sequence[PromptedExample], config: NestConfig, condition: str
    ) -> list[Record]:
        """Ask all together; if that fails, one by one to find out which cannot be asked."""
        passages_B = [self._passages(prompted, config, condition) for prompted in prompted_B]
        try:
            return self._ask(prompted_B, passages_B, config)
        except InputError as error:
            if len(prompted_B) == 1:
                return [{"example": prompted_B[0].example.id, "error": str(error)}]
        return [
            record
            for prompted in prompted_B
            for record in self._answered([prompted], config, condition)
        ]

    def _ask(
        self,
        prompted_B: Sequence[PromptedExample],
        passages_B: Sequence[tuple[Passage, ...]],
        config: NestConfig,
    ) -> list[Record]:
        if self._evaluation.task == "choice":
            return [self._choose(*row, config) for row in zip(prompted_B, passages_B, strict=True)]
        # Variants ask the same: none may find what another has read.
        getattr(self._engine.language_model, "forget_prompts", lambda: None)()
        start = time.perf_counter()
        outputs = self._engine.generate_batch(
            [prompted.prompt for prompted in prompted_B],
            passages=passages_B,
            queries=[prompted.query for prompted in prompted_B],
            config=config,
        )
        # Passage keys are computed once, by whichever method comes first, so they do not count.
        seconds = (
            time.perf_counter()
            - start
            - max(output.stats.seconds.index_building for output in outputs)
        )
        records = []
        for prompted, passages, output in zip(prompted_B, passages_B, outputs, strict=True):
            measures = measure_answer(self._evaluation.task, prompted, output, config)
            measures["tokens_per_second"] = (len(output.token_ids), seconds / len(outputs))
            measures["seconds"] = (seconds / len(outputs), 1)
            if self._evaluation.task == "completion":
                measures |= perplexity(self._engine, prompted, passages, config)
            if self._evaluation.task == "qa":
                measures |= likelihood(self._engine, prompted, passages, output, config)
            records.append(_record(prompted, measures, output))
        return records

    def _choose(
        self, prompted: PromptedExample, passages: tuple[Passage, ...], config: NestConfig
    ) -> Record:
        chosen = choose(self._engine, prompted, passages, config)
        measures: Measures = {"accuracy": (float(chosen == prompted.example.right), 1)}
        return {
            "example": prompted.example.id,
            "measures": measures,
            "answer": prompted.example.choices[chosen],
        }


def _record(prompted: PromptedExample, measures: Measures, output: NestOutput) -> Record:
    return {
        "example": prompted.example.id,
        "query": prompted.query,
        "topic": prompted.example.titles[0] if prompted.example.titles else "",
        "measures": measures,
        "answer": output.text,
        "finish_reason": output.finish_reason,
        "citations": [
            [
                citation.answer_start,
                citation.answer_end,
                citation.passage_id,
                citation.source_start,
                citation.title,
            ]
            for citation in output.citations
        ],
        "notices": list(output.notices),
    }


def factscore_records(records: Sequence[Record]) -> list[dict[str, str]]:
    """Return answers in the input format of FActScore: ``{"topic", "output"}``.

    Args:
        records: results of one variant in one condition.
    """
    return [
        {"topic": record["topic"], "output": record["answer"]}
        for record in records
        if record.get("topic")
    ]
