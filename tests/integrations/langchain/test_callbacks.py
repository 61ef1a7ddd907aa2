"""Every event once, under the right run: starts, tokens, ends, citations, nested searches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("langchain_core", reason="needs: pip install 'nest-engine[langchain]'")

from langchain_core.documents import Document
from langchain_core.language_models import FakeListLLM
from langchain_core.retrievers import BaseRetriever

from nest_engine import NestEngine
from nest_engine.testing import ScriptedLanguageModel
from nest_integrations.langchain import ChatNest, CitationCallback, NestLLM
from tests.integrations.langchain.conftest import SENTENCE
from tests.integrations.langchain.support import AsyncRecorder, Recorder, documents, tool_tokenizer


class Store(BaseRetriever):
    def _get_relevant_documents(self, query: str, **kwargs: Any) -> list[Document]:
        return documents(SENTENCE)


def llm() -> NestLLM:
    engine = NestEngine(ScriptedLanguageModel(SENTENCE))
    return NestLLM(engine=engine, retriever=Store(), method="lossless", max_draft_tokens=8)


def chat() -> ChatNest:
    engine = NestEngine(ScriptedLanguageModel(SENTENCE))
    return ChatNest(
        engine=engine,
        retriever=Store(),
        method="lossless",
        max_draft_tokens=8,
        tokenizer=tool_tokenizer(),
    )


def run(model: Any, way: str, handlers: list[Any]) -> None:
    config = {"callbacks": handlers}
    if way == "invoke":
        model.invoke("Say: ", config)
    elif way == "stream":
        list(model.stream("Say: ", config))
    elif way == "ainvoke":
        asyncio.run(model.ainvoke("Say: ", config))
    else:

        async def drain() -> None:
            async for _ in model.astream("Say: ", config):
                pass

        asyncio.run(drain())


@pytest.mark.parametrize(
    ("way", "recorder"),
    [
        ("invoke", Recorder),
        ("stream", Recorder),
        ("ainvoke", Recorder),
        ("astream", Recorder),
        ("ainvoke", AsyncRecorder),
        ("astream", AsyncRecorder),
    ],
)
@pytest.mark.parametrize("make", [llm, chat])
def test_every_event_comes_once(make: Callable[[], Any], way: str, recorder: type[Any]):
    seen = recorder()
    run(make(), way, [seen])
    assert seen.count("on_llm_start") + seen.count("on_chat_model_start") == 1
    assert seen.count("on_llm_end") == 1
    assert seen.count("on_llm_error") == 0
    tokens = [
        args[0] if args else kwargs["token"] for _, args, kwargs in seen.named("on_llm_new_token")
    ]
    if "stream" in way:
        assert len(tokens) > 3
        assert "".join(tokens) == SENTENCE
    else:
        assert tokens == []
    # LangChain gives a chat model's stream none
    has_run_manager = make is llm or "stream" not in way
    assert seen.count("on_custom_event") == int(has_run_manager)
    assert (
        seen.count("on_retriever_start") == seen.count("on_retriever_end") == int(has_run_manager)
    )


@pytest.mark.parametrize("make", [llm, chat])
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_searches_and_citations_belong_to_the_run(make: Callable[[], Any], way: str):
    seen = Recorder()
    run(make(), way, [seen])
    [(_, _, start)] = seen.named("on_llm_start") or seen.named("on_chat_model_start")
    [(_, _, search)] = seen.named("on_retriever_start")
    [(_, (name, citation), event)] = seen.named("on_custom_event")
    assert search["parent_run_id"] == event["run_id"] == start["run_id"]
    assert name == "nest_citation"
    assert citation["cited_text"] in SENTENCE


async def test_async_handlers_run_in_the_event_loop():
    import threading

    seen = AsyncRecorder()
    async for _ in llm().astream("Say: ", {"callbacks": [seen]}):
        pass
    assert seen.threads == {threading.get_ident()}


async def test_nested_runs_and_citations_in_the_event_stream():
    events = [event async for event in llm().astream_events("Say: ", version="v2")]
    names = [event["event"] for event in events]
    assert names[0] == "on_llm_start"
    assert names[-1] == "on_llm_end"
    assert [
        names.count(name) for name in ("on_retriever_start", "on_retriever_end", "on_custom_event")
    ] == [1, 1, 1]
    [search] = [event for event in events if event["event"] == "on_retriever_end"]
    [cited] = [event for event in events if event["event"] == "on_custom_event"]
    assert search["parent_ids"] == [events[0]["run_id"]]
    assert (cited["name"], cited["run_id"]) == ("nest_citation", events[0]["run_id"])
    assert [document.id for document in search["data"]["output"]] == ["d0"]
    assert events[-1]["data"]["output"]["generations"][0][0]["generation_info"]["citations"] == [
        cited["data"]
    ]


@pytest.mark.filterwarnings("ignore:.*beta")
async def test_event_hooks_of_a_chat_model_report_searches_and_citations():
    seen, aseen = Recorder(), AsyncRecorder()
    assert (
        chat().stream_events("Say: ", {"callbacks": [seen]}, version="v3").output.text == SENTENCE
    )
    stream = await chat().astream_events("Say: ", {"callbacks": [aseen]}, version="v3")
    assert (await stream.output).text == SENTENCE
    await stream._producer_task
    for recorder in (seen, aseen):
        for name in ("on_chat_model_start", "on_retriever_start", "on_custom_event", "on_llm_end"):
            assert recorder.count(name) == 1
        assert recorder.count("on_llm_new_token") == 0
        assert recorder.count("on_stream_event") > 5


def test_a_batch_reports_each_answer_to_its_own_run():
    seen = [Recorder() for _ in range(3)]
    prompts = ["One: ", "Two: ", "Three: "]
    own = [documents("Nothing."), documents(SENTENCE), documents("Nothing.")]
    llm().batch(prompts, [{"callbacks": [recorder]} for recorder in seen], passages=own)
    ends = [
        recorder.named("on_llm_end")[0][1][0].generations[0][0].generation_info for recorder in seen
    ]
    assert [len(info["citations"]) for info in ends] == [0, 1, 0]
    assert [recorder.count("on_llm_end") for recorder in seen] == [1, 1, 1]
    assert [recorder.count("on_custom_event") for recorder in seen] == [0, 0, 0]


def test_the_collector_keeps_runs_apart():
    cited = CitationCallback()
    llm().invoke("Say: ", {"callbacks": [cited]})
    llm().invoke("Say: ", {"callbacks": [cited]}, method="lm")
    assert [len(citations) for citations in cited.runs.values()] == [1, 0]
    assert len(cited.citations) == 1
    cited.clear()
    assert cited.citations == []
    assert cited.runs == {}


def test_the_collector_ignores_other_models():
    cited = CitationCallback()
    FakeListLLM(responses=["hello"]).invoke("Say: ", {"callbacks": [cited]})
    assert cited.runs == {}


def test_an_error_is_reported_once():
    seen = Recorder()
    with pytest.raises(ValueError, match="unknown setting"):
        llm().invoke("Say: ", {"callbacks": [seen]}, gama=1)
    assert seen.count("on_llm_error") == 1
    assert seen.count("on_llm_end") == 0
