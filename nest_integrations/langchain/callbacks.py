"""Citations through callbacks, even where LangChain returns a bare string."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages.content import Citation
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    Generation,
    GenerationChunk,
    LLMResult,
)

from nest_integrations.langchain.events import CITED_EVENT


class CitationCallback(BaseCallbackHandler):
    """Collects citations of NEST models and of ``CiteSources``: one by one, batched or streamed.

        cited = CitationCallback()
        chain.invoke(question, config={"callbacks": [cited]})
        cited.citations

    It may be shared between threads. A cached answer of ``NestLLM`` makes no run, so its citations
    are missing here.

    Attributes:
        runs: the citations of each finished run, in the order in which the runs finished.
        degraded: for each run that was answered without passages, why the search failed.
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

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Collect the citations of an answer that ``CiteSources`` has cited."""
        if name == CITED_EVENT:
            with self._lock:
                self.runs.setdefault(run_id, []).extend(data["citations"])


def _infos(response: LLMResult) -> Iterator[dict[str, Any]]:
    for generations in response.generations:
        for generation in generations:
            info = _info(generation)
            if info.get("model_provider") == "nest":
                yield info


def _info(
    generation: Generation | ChatGeneration | GenerationChunk | ChatGenerationChunk,
) -> dict[str, Any]:
    if isinstance(generation, ChatGeneration):
        return generation.message.response_metadata
    return generation.generation_info or {}
