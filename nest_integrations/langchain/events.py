"""The ``nest_citation`` event: one for each citation, as soon as it is final."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    CallbackManagerForLLMRun,
    adispatch_custom_event,
    dispatch_custom_event,
)
from langchain_core.messages.content import Citation

from nest_integrations.langchain.search import nested_config

CITATION_EVENT = "nest_citation"


def fire_citations(citations: Sequence[Citation], run_manager: CallbackManagerForLLMRun | None) -> None:
    """Tell the handlers of a model's run about citations."""
    if run_manager is not None:
        for citation in citations:
            dispatch_custom_event(CITATION_EVENT, citation, config=nested_config(run_manager))


async def afire_citations(citations: Sequence[Citation], run_manager: AsyncCallbackManagerForLLMRun | None) -> None:
    """Tell the handlers of a model's run about citations."""
    if run_manager is not None:
        for citation in citations:
            await adispatch_custom_event(CITATION_EVENT, citation, config=nested_config(run_manager))
