"""Ask every example in every way, and write down what is measured."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nest_engine
from nest_engine.conditions import CONDITIONS, search
from nest_engine.config import NestConfig
from nest_engine.engine import NestEngine
from nest_engine.errors import ConfigError, InputError
from nest_engine.evaluation.articles import Articles
from nest_engine.evaluation.examples import Example, fingerprint
from nest_engine.evaluation.metrics import Measures
from nest_engine.evaluation.results import Key, Record, Results
from nest_engine.evaluation.tasks import TASKS, Posed, choose, measure_answer, perplexity, pose
from nest_engine.interfaces import PassageRetriever
from nest_engine.types import NestOutput, Passage

OPEN = "open"
"""No condition: what the search finds, for examples whose article is not known or not in the corpus."""

SETTINGS = (*CONDITIONS, OPEN)
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """What is to be measured.

    Args:
        task: name of the task.
        examples: what to ask, in order.
        variants: settings by name; a plain method has its own name.
        conditions: where to measure.
        left_out: examples that were not asked because the corpus lacks their article.
        data: hash of the whole data set, of which ``examples`` may be a part.
    """

    task: str
    examples: tuple[Example, ...]
    variants: Mapping[str, NestConfig]
    conditions: tuple[str, ...]
    left_out: int = 0
    data: str = ""

    @property
    def max_new_tokens(self) -> int:
        """Longest answer of any variant; a completion is compared with as much of the article."""
        return max(config.max_new_tokens for config in self.variants.values())

    def keys(self) -> Iterator[Key]:
        """Yield what there is to measure, in the order of the tables."""
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
        conditions: where to measure; by default ``gold`` and ``no-gold`` over the examples whose article is in the
            corpus, or ``open`` where there is none.
        limit: how many examples to ask; more of them later begin with the same ones.
        seed: draws others.

    Raises:
        ConfigError: if the task or a condition is unknown.
        InputError: if no example suits the task, or none has an article in the corpus and the conditions need one.
    """
    if task not in TASKS:
        raise ConfigError(f"task {task!r} is unknown: expected one of {', '.join(TASKS)}")
    for condition in conditions:
        if condition not in SETTINGS:
            raise ConfigError(f"condition {condition!r} is unknown: expected one of {', '.join(SETTINGS)}")
    suited = [example for example in examples if TASKS[task].suits(example)]
    if not suited:
        raise InputError(f"none of {len(examples)} examples suits the task {task!r}, which needs {TASKS[task].needs}")
    covered = [example for example in suited if articles.holds(example.titles)]
    chosen = tuple(conditions) or (CONDITIONS if covered else (OPEN,))
    kept = suited if chosen == (OPEN,) else covered
    if not kept:
        raise InputError(
            f"none of {len(suited)} examples has its article among the passages, which {' and '.join(chosen)} need: "
            "give --docs that hold the articles under their titles, or measure with --conditions open"
        )
    shuffled = random.Random(seed).sample(kept, len(kept))
    return Evaluation(task, tuple(shuffled[:limit]), variants, chosen, len(suited) - len(kept), fingerprint(examples))


def identity(evaluation: Evaluation, engine: NestEngine, articles: Articles) -> dict[str, Any]:
    """Return what all results of an evaluation depend on, other than its variants."""
    return {
        "task": evaluation.task,
        "max_new_tokens": evaluation.max_new_tokens,
        "data": evaluation.data,
        "passages": articles.fingerprint,
        "search": getattr(engine.retriever, "fingerprint", type(engine.retriever).__name__),
        "model": engine.language_model.fingerprint,
        "version": nest_engine.__version__,
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
    """Measure what is not yet among the results.

    An example that cannot be asked (its prompt fills the context, its article is too short) is written down with the
    reason and enters no figure.

    Args:
        evaluation: what to measure.
        engine: the model, with the first-stage search.
        articles: the corpus.
        results: where results are kept; what is there is not measured again.
        batch_size: examples that are decoded together; the answers do not depend on it, their speed does.
        progress: told how many results there are, and of how many.

    Returns:
        the results of the evaluation, earlier ones included.

    Raises:
        InputError: if the engine has no first-stage search.
    """
    if engine.retriever is None:
        raise InputError("the engine has no retriever: an evaluation searches passages; give one")
    keys = list(evaluation.keys())
    done = sum(key in results for key in keys)
    progress(done, len(keys))
    for start in range(0, len(evaluation.examples), batch_size):
        batch = _Batch(evaluation, engine, engine.retriever, articles, evaluation.examples[start : start + batch_size])
        for condition in evaluation.conditions:
            for variant in evaluation.variants:
                missing = [example for example in batch.examples if Key(example.id, variant, condition) not in results]
                if missing:
                    results.append(batch.measure(missing, variant, condition))
                    done += len(missing)
                    progress(done, len(keys))
    return results.of(keys)


class _Batch:
    """Some examples, whose passages are searched once for all variants and conditions."""

    def __init__(
        self,
        evaluation: Evaluation,
        engine: NestEngine,
        retriever: PassageRetriever,
        articles: Articles,
        examples: Sequence[Example],
    ) -> None:
        self.examples = examples
        self._evaluation, self._engine, self._retriever, self._articles = evaluation, engine, retriever, articles
        self._posed: dict[str, Posed | InputError] = {}
        self._found: dict[str, Mapping[Any, tuple[Passage, ...]]] = {}

    def measure(self, examples: Sequence[Example], variant: str, condition: str) -> list[Record]:
        """Return a record for each example."""
        self._prepare()
        config = self._evaluation.variants[variant]
        asked = [(self._posed[example.id], example) for example in examples]
        ready = [posed for posed, _ in asked if isinstance(posed, Posed)]
        records = [
            {"example": example.id, "error": str(error)} for error, example in asked if isinstance(error, InputError)
        ]
        records += self._answered(ready, config, condition) if ready else []
        return [{"variant": variant, "condition": condition} | record for record in records]

    def _prepare(self) -> None:
        """Pose the examples and search for them, unless that is done already."""
        if self._posed:
            return
        task, variants = self._evaluation.task, self._evaluation.variants.values()
        for example in self.examples:
            try:
                self._posed[example.id] = pose(
                    task, example, self._engine, self._articles, self._evaluation.max_new_tokens
                )
            except InputError as error:
                self._posed[example.id] = error
        ready = [posed for posed in self._posed.values() if isinstance(posed, Posed)]
        k = max(config.passages_to_find for config in variants)
        found = search(self._retriever, [posed.query for posed in ready], [posed.example.titles for posed in ready], k)
        self._found = {posed.example.id: passages for posed, passages in zip(ready, found, strict=True)}

    def _passages(self, posed: Posed, config: NestConfig, condition: str) -> tuple[Passage, ...]:
        found = self._found[posed.example.id]["gold" if condition == OPEN else condition]
        return found[: config.passages_to_find]

    def _answered(self, posed_B: Sequence[Posed], config: NestConfig, condition: str) -> list[Record]:
        """Ask together; if one of them cannot be asked, ask one by one to find out which."""
        passages_B = [self._passages(posed, config, condition) for posed in posed_B]
        try:
            return self._ask(posed_B, passages_B, config)
        except InputError as error:
            if len(posed_B) == 1:
                return [{"example": posed_B[0].example.id, "error": str(error)}]
        return [record for posed in posed_B for record in self._answered([posed], config, condition)]

    def _ask(
        self, posed_B: Sequence[Posed], passages_B: Sequence[tuple[Passage, ...]], config: NestConfig
    ) -> list[Record]:
        if self._evaluation.task == "choice":
            return [self._choose(*row, config) for row in zip(posed_B, passages_B, strict=True)]
        start = time.perf_counter()
        outputs = self._engine.generate_batch(
            [posed.prompt for posed in posed_B],
            passages=passages_B,
            queries=[posed.query for posed in posed_B],
            config=config,
        )
        # Keys of passages are computed once, whichever method comes first; none should pay for the others.
        seconds = time.perf_counter() - start - max(output.stats.seconds.index_building for output in outputs)
        records = []
        for posed, passages, output in zip(posed_B, passages_B, outputs, strict=True):
            measures = measure_answer(self._evaluation.task, posed, output, config)
            measures["tokens_per_second"] = (len(output.token_ids), seconds / len(outputs))
            if self._evaluation.task == "completion":
                measures |= perplexity(self._engine, posed, passages, config)
            records.append(_record(posed, measures, output))
        return records

    def _choose(self, posed: Posed, passages: tuple[Passage, ...], config: NestConfig) -> Record:
        chosen = choose(self._engine, posed, passages, config)
        measures: Measures = {"accuracy": (float(chosen == posed.example.right), 1)}
        return {"example": posed.example.id, "measures": measures, "answer": posed.example.choices[chosen]}


def _record(posed: Posed, measures: Measures, output: NestOutput) -> Record:
    return {
        "example": posed.example.id,
        "query": posed.query,
        "topic": posed.example.titles[0] if posed.example.titles else "",
        "measures": measures,
        "answer": output.text,
        "finish_reason": output.finish_reason,
        "citations": [
            [citation.answer_start, citation.answer_end, citation.passage_id, citation.source_start, citation.title]
            for citation in output.citations
        ],
        "notices": list(output.notices),
    }


def factscore_records(records: Sequence[Record]) -> list[dict[str, str]]:
    """Return answers in the input format of FActScore: ``{"topic", "output"}``.

    Args:
        records: results of one variant in one condition.
    """
    return [{"topic": record["topic"], "output": record["answer"]} for record in records if record.get("topic")]
