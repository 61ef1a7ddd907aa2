"""The offline default: a small language model, a small corpus, and questions about it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nest_engine import Passage, PassageRetriever

if TYPE_CHECKING:
    from nest_engine import NestEngine

__all__ = ["DemoQuestion", "load_engine", "load_passages", "load_questions", "model_path"]


@dataclass(frozen=True)
class DemoQuestion:
    """A question that the corpus answers.

    Args:
        question: the question.
        answer: a string that stands in the passage and answers it.
        passage_id: ``Passage.id`` of that passage.
    """

    question: str
    answer: str
    passage_id: str


def model_path() -> Path:
    """Return the folder of the shipped model."""
    return _data("model")


def load_engine(retriever: PassageRetriever | None = None) -> NestEngine:
    """Return an engine on the shipped model, in float32, which is faster on CPUs than bfloat16.

    Args:
        retriever: first-stage search, for example a ``BM25Retriever`` over the shipped corpus.
    """
    from nest_engine import NestEngine

    return NestEngine.from_pretrained(str(model_path()), dtype="float32", retriever=retriever)


def load_passages() -> list[Passage]:
    """Return the shipped corpus."""
    return [
        Passage(license="Apache-2.0", uri=f"nest-demo:{line['id']}", **line)
        for line in _lines("corpus.jsonl")
    ]


def load_questions() -> list[DemoQuestion]:
    """Return the questions about the corpus."""
    return [DemoQuestion(**line) for line in _lines("questions.jsonl")]


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _data(name).read_text(encoding="utf-8").splitlines()]


def _data(name: str) -> Path:
    return Path(str(resources.files("nest_demo").joinpath(name)))
