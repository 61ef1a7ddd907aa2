"""Stores that are down, slow or wrong; answers that take too long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("langchain_core", reason="needs: pip install 'nest-engine[langchain]'")

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from nest_engine import ContextOverflowError, NestEngine, NestError, RetrievalError
from nest_engine.testing import ScriptedLanguageModel
from nest_integrations.langchain import (
    ChatNest,
    CitationCallback,
    CiteSources,
    LangChainRetriever,
    NestLLM,
)
from tests.integrations.langchain.conftest import SENTENCE
from tests.integrations.langchain.support import SECONDS, PacedModel, Recorder, tool_tokenizer


class Down(BaseRetriever):
    """Fails until it has been asked often enough."""

    failures: int = 10**9
    asked: list[str] = []  # noqa: RUF012 - pydantic copies it

    def _get_relevant_documents(self, query: str, **kwargs: Any) -> list[Document]:
        self.asked.append(query)
        if len(self.asked) <= self.failures:
            raise ConnectionError("the store is down")
        return [Document(id="d0", page_content=SENTENCE)]


class Late(BaseRetriever):
    """Finds something when it is told to."""

    told: threading.Event

    def _get_relevant_documents(self, query: str, **kwargs: Any) -> list[Document]:
        assert self.told.wait(SECONDS)
        return [Document(id="d0", page_content=SENTENCE)]


def model(kind: str, retriever: BaseRetriever, **fields: Any) -> Any:
    engine = NestEngine(ScriptedLanguageModel(SENTENCE))
    if kind == "chat":
        return ChatNest(
            engine=engine,
            retriever=retriever,
            tokenizer=tool_tokenizer(),
            method="lossless",
            **fields,
        )
    return NestLLM(engine=engine, retriever=retriever, method="lossless", **fields)


def _nothing() -> None:
    pass


def call(way: str, model: Any, config: Any = None, then: Callable[[], None] = _nothing) -> str:
    """Ask a model; afterwards, do something before asyncio waits for its threads."""

    async def ask() -> Any:
        try:
            if way == "ainvoke":
                return await model.ainvoke("Say: ", config)
            return [chunk async for chunk in model.astream("Say: ", config)]
        finally:
            then()

    if way.startswith("a"):
        answer = asyncio.run(ask())
    else:
        try:
            answer = getattr(model, way)("Say: ", config)
            answer = list(answer) if way == "stream" else answer
        finally:
            then()
    chunks = answer if isinstance(answer, list) else [answer]
    return "".join(str(getattr(chunk, "text", chunk)) for chunk in chunks)


WAYS = ["invoke", "ainvoke", "stream", "astream"]


@pytest.mark.parametrize("kind", ["llm", "chat"])
@pytest.mark.parametrize("way", WAYS)
def test_a_failed_search_raises(kind: str, way: str):
    with pytest.raises(RetrievalError, match="Down failed: the store is down") as caught:
        call(way, model(kind, Down()))
    assert isinstance(caught.value.__cause__, ConnectionError)


@pytest.mark.parametrize("kind", ["llm", "chat"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("is_late", "reason"),
    [
        (False, "Down failed: the store is down"),
        (True, "Late did not answer within deadline=0.05 seconds"),
    ],
)
def test_a_failed_search_degrades(kind: str, way: str, is_late: bool, reason: str):
    cited, seen, told = CitationCallback(), Recorder(), threading.Event()
    retriever, deadline = (Late(told=told), 0.05) if is_late else (Down(), SECONDS)
    degrading = model(kind, retriever, on_error="degrade", deadline=deadline)
    assert call(way, degrading, {"callbacks": [cited, seen]}, then=told.set) == SENTENCE
    assert cited.citations == []
    [told] = cited.degraded.values()
    assert told.startswith(reason)
    [(_, [result], _)] = seen.named("on_llm_end")
    notices = result.generations[0][0].generation_info["notices"]
    assert any(notice.startswith(f"answered without passages: {reason}") for notice in notices)


@pytest.mark.parametrize("way", WAYS)
def test_a_late_search_raises_at_its_deadline(way: str):
    told = threading.Event()
    with pytest.raises(
        RetrievalError,
        match=r"deadline=0\.05 seconds; raise the deadline, or answer without passages",
    ):
        call(way, model("llm", Late(told=told), deadline=0.05), then=told.set)


def test_a_search_in_time_is_untouched_by_its_deadline():
    cited, told = CitationCallback(), threading.Event()
    told.set()
    call("invoke", model("llm", Late(told=told), deadline=SECONDS), {"callbacks": [cited]})
    assert len(cited.citations) == 1
    assert cited.degraded == {}


@pytest.mark.parametrize("way", WAYS)
def test_a_search_is_tried_again(way: str):
    retriever = Down(failures=2, asked=[])
    cited = CitationCallback()
    call(way, model("llm", retriever, max_retries=2), {"callbacks": [cited]})
    assert retriever.asked == ["Say: "] * 3
    assert len(cited.citations) == 1


def test_one_failure_in_a_batch_degrades_one_answer():
    class Picky(BaseRetriever):
        def _get_relevant_documents(self, query: str, **kwargs: Any) -> list[Document]:
            if query == "Two: ":
                raise ConnectionError("the store is down")
            return [Document(id="d0", page_content=SENTENCE)]

    result = model("llm", Picky(), on_error="degrade").generate(["One: ", "Two: ", "Three: "])
    infos = [generations[0].generation_info for generations in result.generations]
    assert ["degraded" in info for info in infos] == [False, True, False]
    assert [len(info["citations"]) for info in infos] == [1, 0, 1]


def test_errors_of_the_engine_keep_their_type():
    class Refusing(BaseRetriever):
        def _get_relevant_documents(self, query: str, **kwargs: Any) -> list[Document]:
            raise NestError("index is gone")

    with pytest.raises(NestError, match=r"^index is gone$"):
        call("invoke", model("llm", Refusing()))


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_has_a_time_limit(way: str):
    slow = PacedModel(lambda: time.sleep(0.01))
    with pytest.raises(
        TimeoutError, match=r"longer than timeout=0\.1 seconds; raise it or lower max_tokens"
    ):
        call(way, NestLLM(engine=NestEngine(slow), timeout=0.1, method="lm", max_tokens=300))
    assert slow.num_forwards < 30


class Wrong(BaseRetriever):
    """Returns what no retriever should."""

    result: Any = None

    def _get_relevant_documents(self, query: str, **kwargs: Any) -> Any:
        return self.result


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (None, "passages must be a list of documents, got NoneType"),
        (["text"], "passages must be Document or Passage objects, got str"),
    ],
)
@pytest.mark.parametrize("kind", ["llm", "chat"])
def test_a_retriever_that_returns_no_documents_is_a_failed_search(
    kind: str, result: Any, reason: str
):
    with pytest.raises(RetrievalError, match=f"Wrong failed: {reason}"):
        call("invoke", model(kind, Wrong(result=result)))
    engine = NestEngine(
        ScriptedLanguageModel(SENTENCE), retriever=LangChainRetriever(Wrong(result=result))
    )
    with pytest.raises(RetrievalError, match=f"Wrong failed: {reason}"):
        engine.generate("Say: ")
    with pytest.raises(RetrievalError, match=f"Wrong failed: {reason}"):
        CiteSources(retriever=Wrong(result=result)).invoke(SENTENCE)
    assert call("invoke", model(kind, Wrong(result=result), on_error="degrade")) == SENTENCE


def test_an_error_without_a_text_is_named():
    class Unable(BaseRetriever):
        def _get_relevant_documents(self, query: str, **kwargs: Any) -> list[Document]:
            raise NotImplementedError

    with pytest.raises(RetrievalError, match="Unable failed: NotImplementedError"):
        call("invoke", model("llm", Unable()))
    engine = NestEngine(
        ScriptedLanguageModel(SENTENCE), retriever=LangChainRetriever(Unable(name="Unable"))
    )
    with pytest.raises(RetrievalError, match="LangChainRetriever failed: NotImplementedError"):
        engine.generate("Say: ")


@pytest.mark.parametrize("way", ["batch", "abatch"])
@pytest.mark.parametrize("passages", [[], [[], [], []], None])
def test_a_prompt_of_a_batch_fails_alone(way: str, passages: Any):
    engine = NestEngine(ScriptedLanguageModel(SENTENCE, context_length=200))
    llm, prompts = NestLLM(engine=engine), ["One: ", "Two " * 100, "Three: "]

    def ask(**arguments: Any) -> Any:
        answers = getattr(llm, way)(prompts, passages=passages, **arguments)
        return asyncio.run(answers) if way == "abatch" else answers

    first, failed, third = ask(return_exceptions=True)
    assert (first, third) == (SENTENCE, SENTENCE)
    assert isinstance(failed, ContextOverflowError)
    with pytest.raises(ContextOverflowError):
        ask()


def test_a_batch_whose_passages_do_not_fit_fails_as_a_whole():
    llm = NestLLM(engine=NestEngine(ScriptedLanguageModel(SENTENCE)))
    answers = llm.batch(["One: ", "Two: ", "Three: "], return_exceptions=True, passages=[[], []])
    assert ["3 prompts but 2 lists of passages" in str(answer) for answer in answers] == [True] * 3
