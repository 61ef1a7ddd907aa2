"""The nodes that a chat engine has retrieved, offered to the model that answers from them."""

from __future__ import annotations

from contextvars import ContextVar

from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle

from nest_engine import Passage
from nest_integrations.llama_index.nodes import passages_of

_offered: ContextVar[tuple[Passage, ...]] = ContextVar("nest_offered_passages", default=())


class NestNodePostprocessor(BaseNodePostprocessor):
    """Let a ``NestLLM`` quote the nodes that pass through, in the prompts that hold them.

    For chat engines and other places that take no synthesizer:
    ``index.as_chat_engine(chat_mode="context", llm=llm,
    node_postprocessors=[NestNodePostprocessor()])``. Put it last. The nodes are remembered for the
    thread or task that retrieved them, and used only for prompts that contain their text verbatim,
    so a later prompt about something else never quotes them.
    """

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the postprocessor."""
        return "NestNodePostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        _offered.set(passages_of(nodes))
        return nodes

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        # The inherited version runs in another thread, whose context is lost.
        return self._postprocess_nodes(nodes, query_bundle)


def offered_passages(prompt: str) -> tuple[Passage, ...] | None:
    """Return the nodes retrieved last whose text stands in a prompt; None when there are none."""
    # LlamaIndex strips texts where it packs them into a prompt; nodes without text are no passages.
    return tuple(passage for passage in _offered.get() if passage.text.strip() in prompt) or None
