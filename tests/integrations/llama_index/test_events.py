"""Citations on the instrumentation dispatcher and in the legacy callbacks."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler

from nest_integrations.llama_index import CitationCollector, NestCitationEvent
from tests.integrations.llama_index.support import HELIUM, NEON, logged_events, node, scripted_llm


def _event(log):
    [event] = [event for event in log.events if isinstance(event, NestCitationEvent)]
    return event


def test_the_event_holds_the_answer():
    with logged_events() as log:
        response = scripted_llm(HELIUM).complete("? ", passages=[node(HELIUM, id_="n1")])
    event = _event(log)
    assert (event.text, event.citations) == (response.text, response.citations)
    assert event.class_name() == "NestCitationEvent"


def test_the_event_is_json_without_passages():
    with logged_events() as log:
        scripted_llm(HELIUM).complete("? ", passages=[node(HELIUM), node(NEON)])
    dumped = json.loads(_event(log).model_dump_json())
    assert dumped["output"]["citations"][0]["cited_text"] == HELIUM
    assert dumped["output"]["usage"]["completion_tokens"] > 0
    assert NEON not in json.dumps(dumped)


@pytest.mark.parametrize("streaming", [False, True])
def test_the_event_belongs_to_the_span_of_its_call(streaming):
    llm = scripted_llm(HELIUM)
    with logged_events() as log:
        list(llm.stream_complete("? ")) if streaming else llm.complete("? ")
    [start] = [event for event in log.events if event.class_name() == "LLMCompletionStartEvent"]
    assert _event(log).span_id == start.span_id is not None


def test_a_stream_closed_early_gives_what_it_has_cited():
    text = f"{HELIUM} And then something nobody wrote before."
    with CitationCollector() as collected:
        stream = scripted_llm(text).stream_complete("? ", passages=[node(HELIUM)])
        seen = ""
        while len(seen) < len(HELIUM) + 8:
            seen = next(stream).text
        stream.close()
        del stream  # LlamaIndex's wrapper holds our generator until it is let go itself
    [event] = collected.events
    assert event.text == seen
    assert [citation.cited_text for citation in event.citations] == [HELIUM]
    assert event.output.finish_reason == "cancelled"


def test_a_stream_that_ends_elsewhere_belongs_to_the_request_that_began_it():
    with CitationCollector() as first:
        stream = scripted_llm(HELIUM).stream_complete("? ")
        with CitationCollector() as second:
            next(stream)
            stream.close()
            del stream
    assert (len(first.events), len(second.events)) == (1, 0)


def test_the_collector_collects_inside_its_block():
    llm = scripted_llm(HELIUM)
    with CitationCollector() as collected:
        llm.complete("? ", passages=[node(HELIUM)])
        list(llm.stream_chat([ChatMessage(content="?")], passages=[node(HELIUM)]))
    llm.complete("? ", passages=[node(HELIUM)])
    assert [citation.cited_text for citation in collected.citations] == [HELIUM, HELIUM]
    assert [output.text for output in collected.outputs] == [HELIUM, HELIUM]


def test_collectors_nest_and_leave_no_trace():
    from llama_index_instrumentation import get_dispatcher

    handlers = list(get_dispatcher().event_handlers)
    llm = scripted_llm(HELIUM)
    with CitationCollector() as outer:
        llm.complete("? ")
        with CitationCollector() as inner:
            llm.complete("? ")
        llm.complete("? ")
    assert (len(outer.events), len(inner.events)) == (3, 1)
    assert get_dispatcher().event_handlers == handlers


def test_collectors_of_parallel_requests_do_not_mix():
    texts = [f"{HELIUM} Number {number}." for number in range(6)]

    def ask(text):
        with CitationCollector() as collected:
            scripted_llm(text).complete("? ", passages=[node(text)])
        return [output.text for output in collected.outputs]

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(ask, texts)) == [[text] for text in texts]


def test_collectors_of_parallel_tasks_do_not_mix():
    async def ask(text):
        with CitationCollector() as collected:
            llm = scripted_llm(text)
            await asyncio.gather(llm.acomplete("? "), llm.achat([ChatMessage(content="? ")]))
        return {output.text for output in collected.outputs}

    async def ask_all():
        return await asyncio.gather(ask(HELIUM), ask(NEON))

    assert asyncio.run(ask_all()) == [{HELIUM}, {NEON}]


@pytest.mark.parametrize("chat", [False, True])
def test_legacy_callbacks_get_citations_in_the_end_payload(chat):
    debug = LlamaDebugHandler(print_trace_on_end=False)
    llm = scripted_llm(HELIUM, callback_manager=CallbackManager([debug]))
    if chat:
        llm.chat([ChatMessage(content="? ")], passages=[node(HELIUM)])
    else:
        llm.complete("? ", passages=[node(HELIUM)])
    [(_, end)] = debug.get_event_pairs(CBEventType.LLM)
    response = end.payload[EventPayload.RESPONSE if chat else EventPayload.COMPLETION]
    assert [citation.cited_text for citation in response.citations] == [HELIUM]
    assert response.additional_kwargs["citations"][0]["cited_text"] == HELIUM
