"""Answers to a dataset of questions: rows in, the same rows with answers out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import pyarrow as pa
from ray.data import ActorPoolStrategy, Dataset

from nest_engine import (
    Citation,
    ConfigError,
    DecodeStats,
    InputError,
    NestConfig,
    NestOutput,
    Passage,
)
from nest_engine._validation import require_count
from nest_engine.citations.formats import json_ready
from nest_integrations.ray.loading import LoadEngine, loaded, require_loader

# The types must not depend on the rows of a batch: an answer may have no citation, and a failed row
# has no answer.
_CITATION = Citation(0, 0, "", 0, 0, "", uri="", score=0.0, license="").to_dict() | {"metadata": ""}
_COLUMNS: dict[str, pa.DataType] = {
    "text": pa.string(),
    "citations": pa.array([[_CITATION]]).type,
    "finish_reason": pa.string(),
    "stats": pa.array([DecodeStats().to_dict()]).type,
    "error": pa.string(),
}
_PASSAGE_FIELDS = {each.name for each in fields(Passage)}
_NAMES = {"id", "uri", "license", "title"}


def generate_rows(
    dataset: Dataset,
    load_engine: LoadEngine,
    *,
    num_workers: int,
    batch_size: int = 8,
    config: NestConfig | None = None,
    ray_actor_options: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Dataset:
    """Answer every row of a dataset with ``NestEngine.generate_batch``, on several workers.

    A row has either ``question`` (put into the model's prompt format, and searched for) or
    ``prompt`` (continued as it is), and may have ``query`` (searched for instead) and ``passages``
    (quoted instead of a search: mappings with ``text`` and any other field of ``Passage``).
    Whatever else it has is kept.

    Args:
        dataset: the rows.
        load_engine: returns an engine; called once in each worker.
        num_workers: number of workers; each holds the model.
        batch_size: most rows that are answered together.
        config: settings instead of the engine's.
        ray_actor_options: what each worker needs, such as ``{"num_gpus": 1}``; one CPU when left
            out.
        settings: single settings of ``NestConfig``, on top of ``config``.

    Returns:
        the rows, in any order, with more columns: ``text``; ``citations``, a list of mappings as of
        ``Citation.to_dict``, but with ``metadata`` as JSON; ``finish_reason``; ``stats`` as of
        ``DecodeStats.to_dict``; ``error``. A row that fails has only ``error``: what went wrong.
        Nothing is computed before the dataset is read.

    Raises:
        ConfigError: if an argument is not valid. A column that has the name of a result fails the
            dataset when it is read.
    """
    require_loader(load_engine)
    require_count("num_workers", num_workers)
    require_count("batch_size", batch_size)
    # A wrong setting is reported here, not in every row.
    (config or NestConfig()).replace(**settings)
    return dataset.map_batches(
        _Answerer,
        fn_constructor_args=(load_engine, config, settings),
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=num_workers),
        **({"num_cpus": 1} | dict(ray_actor_options or {})),
    )


class _Answerer:
    """Holds an engine, and answers rows with it.

    Args:
        load_engine: loads it.
        config: settings instead of the engine's.
        settings: single settings.
    """

    def __init__(
        self, load_engine: LoadEngine, config: NestConfig | None, settings: Mapping[str, Any]
    ) -> None:
        self._engine = loaded(load_engine)
        self._config = self._engine.config.merged(config, settings)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return rows with their answers."""
        if taken := sorted(_COLUMNS.keys() & set(batch.column_names)):
            raise ConfigError(
                f"the dataset has columns named {', '.join(taken)}, which results would replace; "
                f"rename them first: dataset.rename_columns({{{taken[0]!r}: ...}})"
            )
        results = [_columns(answer) for answer in self._answers(batch.to_pylist())]
        for name, kind in _COLUMNS.items():
            batch = batch.append_column(
                name, pa.array([result.get(name) for result in results], kind)
            )
        return batch

    def _answers(self, rows: Sequence[Mapping[str, Any]]) -> list[NestOutput | Exception]:
        """Answer rows together; if that fails, one by one, so that only faulty rows fail."""
        try:
            return list(self._generate(rows))
        except Exception as error:
            if len(rows) == 1:
                return [error]
            return [answer for row in rows for answer in self._answers([row])]

    def _generate(self, rows: Sequence[Mapping[str, Any]]) -> list[NestOutput]:
        prompts = [self._prompt_and_query(row) for row in rows]
        return self._engine.generate_batch(
            [prompt for prompt, _ in prompts],
            queries=[query for _, query in prompts],
            passages=[_passages(row.get("passages")) for row in rows],
            config=self._config,
        )

    def _prompt_and_query(self, row: Mapping[str, Any]) -> tuple[str, str | None]:
        """Return the prompt of a row, and what to search for."""
        question, prompt, query = (_text(row, name) for name in ("question", "prompt", "query"))
        if question is not None and prompt is not None:
            raise InputError("the row has a question and a prompt; give one of them")
        if prompt is not None:
            return prompt, query
        if question is None:
            given = [name for name, value in row.items() if value is not None]
            raise InputError(
                f"the row has neither question nor prompt, but "
                f"{', '.join(map(repr, given)) or 'nothing'}"
            )
        if not question.strip():
            raise InputError("the question is empty")
        return self._engine.format_question(question), question if query is None else query


def _text(row: Mapping[str, Any], name: str) -> str | None:
    value = row.get(name)
    if value is None or isinstance(value, str):
        return value
    raise InputError(f"the {name} must be a text, got {type(value).__name__}")


def _passages(given: Any) -> list[Passage] | None:
    """Return the passages of a row."""
    if given is None:
        return None
    if not isinstance(given, list):
        raise InputError(f"passages must be a list of mappings, got {type(given).__name__}")
    return [_passage(each) for each in given]


def _passage(given: Any) -> Passage:
    """Return a passage, without the fields that Arrow has filled with None.

    Ids may be numbers, as they are in many datasets; citations have texts.
    """
    if not isinstance(given, Mapping):
        raise InputError(f"a passage must be a mapping with a text, got {type(given).__name__}")
    given = _without_none(given)
    if "text" not in given or given.keys() - _PASSAGE_FIELDS:
        raise InputError(
            f"a passage has text and may have {', '.join(sorted(_PASSAGE_FIELDS - {'text'}))}; got "
            f"{', '.join(map(repr, given)) or 'nothing'}: what else there is goes into metadata"
        )
    metadata = given.get("metadata", {})
    if not isinstance(metadata, Mapping):
        raise InputError(f"a passage's metadata must be a mapping, got {type(metadata).__name__}")
    named = {name: str(given[name]) for name in _NAMES & given.keys()}
    score = {"score": float(given["score"])} if "score" in given else {}
    return Passage(**given | named | score | {"metadata": _without_none(metadata)})


def _without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _columns(answer: NestOutput | Exception) -> dict[str, Any]:
    """Return the new columns of a row."""
    if isinstance(answer, Exception):
        return {"error": f"{type(answer).__name__}: {answer}"}
    citations = [citation.to_dict() for citation in answer.citations]
    for citation in citations:
        citation["metadata"] = json.dumps(json_ready(citation["metadata"]), ensure_ascii=False)
    return {
        "text": answer.text,
        "citations": citations,
        "finish_reason": answer.finish_reason,
        "stats": answer.stats.to_dict(),
    }
