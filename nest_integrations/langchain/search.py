"""The first-stage search of a call: its run in the callbacks, its deadline, its failures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForLLMRun,
    CallbackManager,
    CallbackManagerForLLMRun,
)
from langchain_core.documents import Document
from langchain_core.runnables import Runnable, RunnableConfig

from nest_engine import NestError, Passage, RetrievalError
from nest_integrations.langchain.retrievers import number_argument, passages_found
from nest_integrations.langchain.workers import with_deadline

OnError = Literal["raise", "degrade"]


@dataclass(frozen=True)
class Found:
    """What the search for one prompt has found.

    Args:
        passages: what may be quoted, best first.
        failure: why the search failed, if the answer goes on without passages.
    """

    passages: Sequence[Passage] = field(default=())
    failure: str | None = None


@dataclass(frozen=True)
class Search:
    """How to search for the passages of a call.

    Args:
        retriever: where to search.
        k: documents to ask for.
        deadline: most seconds for all queries of a call together; None sets no limit.
        on_error: ``raise``, or ``degrade`` to an answer without passages.
        max_retries: further attempts of a query that failed.
    """

    retriever: Runnable[str, list[Document]]
    k: int
    deadline: float | None
    on_error: OnError
    max_retries: int

    def run(
        self, queries: Sequence[str], run_manager: CallbackManagerForLLMRun | None
    ) -> list[Found]:
        """Search for each query.

        Raises:
            RetrievalError: if a search fails or is late, unless failures degrade.
        """
        config = nested_config(run_manager)
        try:
            results: Sequence[Any] = with_deadline(
                lambda: self._batch(queries, config), self.deadline
            )
        except TimeoutError:
            results = [self._late()] * len(queries)
        return [self._found(result) for result in results]

    async def arun(
        self, queries: Sequence[str], run_manager: AsyncCallbackManagerForLLMRun | None
    ) -> list[Found]:
        """Search for each query; see :meth:`run`."""
        config = nested_config(run_manager)
        try:
            results: Sequence[Any] = await asyncio.wait_for(
                self._abatch(queries, config), self.deadline
            )
        except asyncio.TimeoutError:
            results = [self._late()] * len(queries)
        return [self._found(result) for result in results]

    def _batch(self, queries: Sequence[str], config: RunnableConfig) -> list[Any]:
        return self._persistent().batch(
            list(queries), config, return_exceptions=True, **self._arguments()
        )

    def _abatch(self, queries: Sequence[str], config: RunnableConfig) -> Awaitable[list[Any]]:
        return self._persistent().abatch(
            list(queries), config, return_exceptions=True, **self._arguments()
        )

    def _persistent(self) -> Runnable[str, list[Document]]:
        if not self.max_retries:
            return self.retriever
        return self.retriever.with_retry(
            stop_after_attempt=1 + self.max_retries, wait_exponential_jitter=False
        )

    def _arguments(self) -> dict[str, Any]:
        return number_argument(self.retriever, self.k)

    def _late(self) -> RetrievalError:
        return RetrievalError(
            f"{self.retriever.get_name()} did not answer within deadline={self.deadline} seconds; "
            "raise the deadline, or answer without passages with on_error='degrade'"
        )

    def _found(self, result: list[Document] | Exception) -> Found:
        if not isinstance(result, Exception):
            try:
                return Found(passages_found(self.retriever, result))
            except RetrievalError as error:
                result = error
        if self.on_error == "degrade":
            return Found(failure=str(self._named(result)))
        if isinstance(result, NestError):
            raise result
        raise self._named(result) from result

    def _named(self, error: Exception) -> NestError:
        if isinstance(error, NestError):
            return error
        reason = str(error) or type(error).__name__
        return RetrievalError(f"{self.retriever.get_name()} failed: {reason}")


def nested_config(
    run_manager: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None,
) -> RunnableConfig:
    """Return the configuration that makes a run, or a custom event, a child of the model's run."""
    if run_manager is None:
        return {}
    manager_type = (
        AsyncCallbackManager
        if isinstance(run_manager, AsyncCallbackManagerForLLMRun)
        else CallbackManager
    )
    manager = manager_type(
        handlers=list(run_manager.inheritable_handlers),
        inheritable_handlers=list(run_manager.inheritable_handlers),
        parent_run_id=run_manager.run_id,
        tags=list(run_manager.inheritable_tags),
        inheritable_tags=list(run_manager.inheritable_tags),
        metadata=dict(run_manager.inheritable_metadata),
        inheritable_metadata=dict(run_manager.inheritable_metadata),
    )
    return {"callbacks": manager}
