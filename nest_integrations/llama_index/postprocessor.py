"""The nodes that a chat engine has retrieved, offered to the model that answers from them."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field

from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle

from nest_engine import Passage
from nest_integrations.llama_index.nodes import passages_of


@dataclass(frozen=True)
class _Offer:
    """Nodes that were retrieved; prompts they were quoted for and the answers, of any task."""

    passages: tuple[Passage, ...]
    answered: list[tuple[str, str]] = field(default_factory=list)


_offered: ContextVar[_Offer | None] = ContextVar("nest_offered_passages", default=None)


class NestNodePostprocessor(BaseNodePostprocessor):
    """Let a ``NestLLM`` quote the nodes that pass through, in the prompts that hold them.

    For chat engines and other places that take no synthesizer:
    ``index.as_chat_engine(chat_mode="context", llm=llm,
    node_postprocessors=[NestNodePostprocessor()])``. Put it last. The nodes are remembered for the
    thread or task that retrieved them, and used only for prompts that contain their text verbatim,
    other than in an answer: a later prompt about something else never quotes them, nor one that
    rewrites a follow-up question with the help of earlier answers.
    """

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the postprocessor."""
        return "NestNodePostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        _offered.set(_Offer(passages_of(nodes)))
        return nodes

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        # The inherited version runs in another thread, whose context is lost.
        return self._postprocess_nodes(nodes, query_bundle)


def offered_passages(prompt: str) -> tuple[Passage, ...] | None:
    """Return the nodes retrieved last whose text stands in a prompt; None when there are none."""
    offer = _offered.get()
    if offer is None:
        return None

    def is_offered(passage: Passage) -> bool:
        # LlamaIndex strips texts where it packs them into a prompt; without text it is no passage.
        text = passage.text.strip()
        return (
            bool(text)
            and text in prompt
            and not any(
                # An answer has taken the place that the node had.
                text in answer and asked != prompt and prompt.count(text) <= asked.count(text)
                for asked, answer in offer.answered
            )
        )

    return tuple(filter(is_offered, offer.passages)) or None


def remember_answer(prompt: str, answer: str) -> None:
    """Note an answer that quotes: where it alone holds a node, that is not offered again."""
    offer = _offered.get()
    if offer is not None:
        offer.answered.append((prompt, answer))
