"""The ``nest_citation`` event, one for each citation as soon as it is final."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    CallbackManagerForLLMRun,
    adispatch_custom_event,
    dispatch_custom_event,
)
from langchain_core.messages.content import Citation

from nest_integrations.langchain.search import nested_config

CITATION_EVENT = "nest_citation"
CITED_EVENT = "nest_cited"  # all citations of an answer that another model has given


def fire_citations(
    citations: Sequence[Citation], run_manager: CallbackManagerForLLMRun | None
) -> None:
    """Dispatch an event for each citation.

    Args:
        citations: the citations.
        run_manager: the model's run. Without one, the handlers of the surrounding run are called,
            if there is a run.
    """
    for citation in citations:
        # LangChain raises RuntimeError when there is no run.
        with suppress(*([] if run_manager else [RuntimeError])):
            dispatch_custom_event(
                CITATION_EVENT, citation, config=nested_config(run_manager) or None
            )


async def afire_citations(
    citations: Sequence[Citation], run_manager: AsyncCallbackManagerForLLMRun | None
) -> None:
    """Dispatch an event for each citation; see :func:`fire_citations`."""
    for citation in citations:
        with suppress(*([] if run_manager else [RuntimeError])):
            await adispatch_custom_event(
                CITATION_EVENT, citation, config=nested_config(run_manager) or None
            )
