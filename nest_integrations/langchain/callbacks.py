"""Collect the citations of every run, also where LangChain returns a bare string."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages.content import Citation
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, GenerationChunk, LLMResult


class CitationCallback(BaseCallbackHandler):
    """Collects what NEST models have cited: sync and async, one answer or a batch, streaming or not.

        cited = CitationCallback()
        chain.invoke(question, config={"callbacks": [cited]})
        cited.citations

    It may be shared between threads. A cached answer of ``NestLLM`` makes no run, hence no citations here.

    Attributes:
        runs: the citations of each run that is finished, in the order of finishing.
        degraded: why each run that failed to find passages answered without them.
    """

    def __init__(self) -> None:
        self.runs: dict[UUID, list[Citation]] = {}
        self.degraded: dict[UUID, str] = {}
        self._lock = threading.Lock()

    @property
    def citations(self) -> list[Citation]:
        """All citations, run by run."""
        with self._lock:
            return [citation for citations in self.runs.values() for citation in citations]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self.runs.clear()
            self.degraded.clear()

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Collect the citations of a finished run of a NEST model."""
        for info in _infos(response):
            with self._lock:
                self.runs.setdefault(run_id, []).extend(info["citations"])
                if info.get("degraded"):
                    self.degraded[run_id] = info["degraded"]


def _infos(response: LLMResult) -> Iterator[dict[str, Any]]:
    for generations in response.generations:
        for generation in generations:
            info = _info(generation)
            if info.get("model_provider") == "nest":
                yield info


def _info(generation: Generation | ChatGeneration | GenerationChunk | ChatGenerationChunk) -> dict[str, Any]:
    if isinstance(generation, ChatGeneration):
        return generation.message.response_metadata
    return generation.generation_info or {}
