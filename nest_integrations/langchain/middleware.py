"""Citations in agents: :class:`CiteMiddleware`, for ``langchain.agents.create_agent``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage

from nest_engine import MissingDependencyError, Passage
from nest_engine.citing import MIN_WORDS
from nest_integrations.langchain.citing import CiteSources
from nest_integrations.langchain.documents import as_passages, documents_of_turn
from nest_integrations.langchain.messages import last_question
from nest_integrations.langchain.retrievers import as_retriever, passages_found

try:
    from langchain.agents.middleware import AgentMiddleware, AgentState
except ImportError as error:
    raise MissingDependencyError("langchain", "langchain") from error


class CiteMiddleware(AgentMiddleware[AgentState[Any], Any, Any]):
    """Cite the answers of an agent, whichever chat model it has.

        agent = create_agent(model, [retriever_tool], middleware=[CiteMiddleware()])

    The sources are the documents that tools have found since the last question
    (``create_retriever_tool(..., response_format="content_and_artifact")`` keeps them), otherwise
    those given here. Messages come out as from :class:`CiteSources`; calls of tools stay as they
    are.

    Args:
        documents: what may be quoted where no tool has found anything.
        retriever: finds it otherwise, by the question.
        min_words: fewest words of a quotation.
    """

    def __init__(
        self,
        documents: Iterable[Document | Passage] | None = None,
        *,
        retriever: Any = None,
        min_words: int = MIN_WORDS,
    ) -> None:
        super().__init__()
        self._documents = None if documents is None else as_passages(documents)
        self._retriever = None if retriever is None else as_retriever(retriever)
        self._cite = CiteSources(min_words=min_words)

    def after_model(self, state: AgentState[Any], runtime: Any) -> dict[str, Any] | None:
        """Cite the answer that the model has just given."""
        messages = state["messages"]
        if not _is_answer(messages):
            return None
        passages, question = self._known(messages), last_question(messages)
        if passages is None and self._retriever is not None and question:
            passages = passages_found(self._retriever, self._retriever.invoke(question))
        return self._cited(messages, passages, question)

    async def aafter_model(self, state: AgentState[Any], runtime: Any) -> dict[str, Any] | None:
        """Cite the answer that the model has just given."""
        messages = state["messages"]
        if not _is_answer(messages):
            return None
        passages, question = self._known(messages), last_question(messages)
        if passages is None and self._retriever is not None and question:
            found = await self._retriever.ainvoke(question)
            passages = passages_found(self._retriever, found)
        return self._cited(messages, passages, question)

    def _known(self, messages: Sequence[BaseMessage]) -> Sequence[Passage] | None:
        return documents_of_turn(messages) or self._documents

    def _cited(
        self,
        messages: Sequence[BaseMessage],
        passages: Sequence[Passage] | None,
        question: str | None,
    ) -> dict[str, Any]:
        message = messages[-1]
        assert isinstance(message, AIMessage)
        # The same id: it takes the place of the message without citations.
        return {"messages": [self._cite.cite_message(message, passages or (), question)]}


def _is_answer(messages: Sequence[BaseMessage]) -> bool:
    return bool(messages) and isinstance(messages[-1], AIMessage) and bool(messages[-1].text)
