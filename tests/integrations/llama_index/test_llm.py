"""`NestLLM`: eight endpoints, one behaviour."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import json
import logging
import pickle
import threading
import time

import pytest

pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")

import torch
from llama_index.core.base.llms.types import (
    ChatMessage,
    CitationBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
)
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel

import nest_demo
from nest_engine import (
    ConfigError,
    ContextOverflowError,
    InputError,
    NestConfig,
    NestEngine,
    Passage,
    RetrievalError,
)
from nest_engine.testing import ScriptedLanguageModel
from nest_integrations.llama_index import (
    CitationCollector,
    NestChatResponse,
    NestCompletionResponse,
    NestLLM,
    loading,
)
from tests.integrations.llama_index.support import (
    HELIUM,
    NEON,
    SECONDS,
    FixedRetriever,
    endless,
    logged_events,
    node,
    scored,
    scripted_llm,
    tool_llm,
)
from tests.tiny_models import tiny_model, tiny_tokenizer
from tests.unit.models.tiny_gguf import write_gguf

EMOJI = "Die Sonne ☀️ 👩🏽‍🚀 scheint, e\u0301 gut, שלום."


async def _read(stream):
    return [response async for response in await stream]


ENDPOINTS = {
    "complete": lambda llm, prompt, **kw: [llm.complete(prompt, formatted=True, **kw)],
    "acomplete": lambda llm, prompt, **kw: [
        asyncio.run(llm.acomplete(prompt, formatted=True, **kw))
    ],
    "stream_complete": lambda llm, prompt, **kw: list(
        llm.stream_complete(prompt, formatted=True, **kw)
    ),
    "astream_complete": lambda llm, prompt, **kw: asyncio.run(
        _read(llm.astream_complete(prompt, formatted=True, **kw))
    ),
    "chat": lambda llm, prompt, **kw: [llm.chat([ChatMessage(content=prompt)], **kw)],
    "achat": lambda llm, prompt, **kw: [
        asyncio.run(llm.achat([ChatMessage(content=prompt)], **kw))
    ],
    "stream_chat": lambda llm, prompt, **kw: list(
        llm.stream_chat([ChatMessage(content=prompt)], **kw)
    ),
    "astream_chat": lambda llm, prompt, **kw: asyncio.run(
        _read(llm.astream_chat([ChatMessage(content=prompt)], **kw))
    ),
}
STREAMS = [name for name in ENDPOINTS if "stream" in name]


def _text(response):
    return response.message.content if isinstance(response, NestChatResponse) else response.text


def _first_content(messages):
    return messages[0].content


# --- the same answer everywhere


@pytest.mark.parametrize("method", ["nest", "ra-nest", "lossless"])
def test_all_endpoints_agree_on_a_real_model(demo_engine, method):
    llm = NestLLM(engine=demo_engine, messages_to_prompt=_first_content, max_new_tokens=24)
    passages = [p for p in nest_demo.load_passages() if p.id in ("helium", "neon", "titan")]
    prompt = "Question: Tell me about Titan.\nAnswer:"
    expected = demo_engine.generate(
        prompt, passages=passages, query=prompt, method=method, max_new_tokens=24
    )
    for name, ask in ENDPOINTS.items():
        last = ask(llm, prompt, passages=passages, method=method)[-1]
        assert _text(last) == expected.text, name
        assert [c.to_dict()["cited_text"] for c in last.citations] == [
            c.cited_text for c in expected.citations
        ], name
        assert [(c.answer_start, c.source_start) for c in last.citations] == [
            (c.answer_start, c.source_start) for c in expected.citations
        ], name
        assert last.raw["usage"] == expected.usage, name
    assert expected.citations or method == "lossless"


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_citations_are_exact_in_any_script(endpoint):
    llm = scripted_llm(EMOJI, messages_to_prompt=_first_content)
    source = node("Vorwort. " + EMOJI, metadata={"file_name": "sonne.txt", "page_label": "7"})
    last = ENDPOINTS[endpoint](llm, "Wie ist die Sonne? ", passages=scored(source))[-1]
    assert _text(last) == EMOJI
    assert last.citations
    for citation in last.citations:
        quoted = EMOJI[citation.answer_start : citation.answer_end]
        assert (
            quoted
            == source.text[citation.source_start : citation.source_end]
            == citation.cited_text
        )
        assert (citation.node_id, citation.file_name, citation.page_label) == (
            source.node_id,
            "sonne.txt",
            "7",
        )


@pytest.mark.parametrize("endpoint", STREAMS)
def test_streams_are_cumulative_and_close_with_usage(endpoint):
    llm = scripted_llm(HELIUM)
    responses = ENDPOINTS[endpoint](llm, "? ", passages=[Passage(HELIUM)])
    text = ""
    for response in responses:
        text += response.delta
        assert _text(response) == text
    assert len(responses) > 1
    assert [response.raw is None for response in responses] == [True] * (len(responses) - 1) + [
        False
    ]
    assert responses[-1].raw["usage"]["completion_tokens"] > 0
    assert [bool(response.additional_kwargs) for response in responses] == [False] * (
        len(responses) - 1
    ) + [True]
    counts = [len(response.citations) for response in responses]
    assert counts == sorted(counts)
    assert counts[-1] == 1


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_responses_are_json_safe(endpoint):
    last = ENDPOINTS[endpoint](
        scripted_llm(HELIUM), "? ", passages=[node(HELIUM, metadata={"year": 1868})]
    )[-1]
    fields = {"text", "citations", "sentences", "finish_reason", "usage", "stats", "notices"}
    assert set(last.raw) == fields
    assert json.loads(json.dumps(last.raw)) == last.raw
    assert json.loads(json.dumps(last.additional_kwargs))["citations"][0]["cited_text"] == HELIUM
    dumped = json.loads(last.model_dump_json())
    assert dumped["citations"][0]["metadata"]["year"] == 1868


def test_concurrent_calls_answer_as_one_by_one(demo_engine):
    llm = NestLLM(engine=demo_engine, max_new_tokens=12)
    passages = nest_demo.load_passages()[:6]
    prompts = [f"Question: Tell me about {p.title}.\nAnswer:" for p in passages]
    alone = [
        llm.complete(prompt, passages=[p]) for prompt, p in zip(prompts, passages, strict=True)
    ]

    async def together():
        return await asyncio.gather(
            *(
                llm.acomplete(prompt, passages=[p])
                for prompt, p in zip(prompts, passages, strict=True)
            )
        )

    for one, other, passage in zip(alone, asyncio.run(together()), passages, strict=True):
        assert (other.text, other.citations) == (one.text, one.citations)
        assert {citation.node_id for citation in other.citations} <= {passage.id}


# --- messages and prompts


def test_chat_message_is_one_text_block_and_citation_blocks():
    message = (
        scripted_llm(HELIUM)
        .chat([ChatMessage(content="?")], passages=[node(HELIUM, id_="n1")])
        .message
    )
    text, block = message.blocks
    assert isinstance(text, TextBlock)
    assert isinstance(block, CitationBlock)
    assert message.content == HELIUM
    assert message.role == MessageRole.ASSISTANT
    assert (block.cited_content.text, block.source, block.title) == (HELIUM, "n1", "Passage n1")
    assert block.additional_location_info == {
        "answer_start": 0,
        "answer_end": len(HELIUM),
        "source_start": 0,
        "source_end": len(HELIUM),
    }


def test_citations_do_not_leak_into_the_next_prompt():
    llm = scripted_llm(HELIUM)
    first = llm.chat([ChatMessage(content="What?")], passages=[Passage(HELIUM)])
    assert first.citations
    prompt = llm.messages_to_prompt(
        [ChatMessage(content="What?"), first.message, ChatMessage(content="More?")]
    )
    assert prompt == f"user: What?\nassistant: {HELIUM}\nuser: More?\nassistant: "


def _prompt_read_by(llm, endpoint, prompt, **kwargs):
    with CitationCollector() as collected:
        ENDPOINTS[endpoint](llm, prompt, max_tokens=3, **kwargs)
    [output] = collected.outputs
    return output.prompt


@pytest.mark.parametrize("endpoint", ["chat", "achat", "stream_chat", "astream_chat"])
def test_chat_template_is_applied_once(chat_engine, endpoint):
    llm = NestLLM(engine=chat_engine)
    prompt = _prompt_read_by(llm, endpoint, "What is a planet?")
    assert (
        prompt
        == "<|endoftext|><|im_start|>user\nWhat is a planet?<|im_end|>\n<|im_start|>assistant\n"
    )
    token_ids = chat_engine.language_model.tokenizer.encode_prompt(prompt).token_ids
    assert token_ids.count(0) == 1


def test_complete_on_a_chat_model_is_one_user_message(chat_engine):
    llm = NestLLM(
        engine=chat_engine, system_prompt="Be brief.", query_wrapper_prompt="Q: {query_str}"
    )
    assert llm.metadata.is_chat_model
    with CitationCollector() as collected:
        llm.complete("What is a planet?", max_tokens=2)
        list(llm.stream_complete("What is a planet?", max_tokens=2))
        llm.predict(PromptTemplate("What is a {thing}?"), thing="planet")
    template = (
        "<|endoftext|><|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    )
    completed = template.replace("{}", "Q: What is a planet?")
    assert [output.prompt for output in collected.outputs] == [
        completed,
        completed,
        template.replace("{}", "What is a planet?"),
    ]


def test_prompts_of_a_plain_model():
    llm = scripted_llm(
        "ok",
        system_prompt="Be brief.",
        query_wrapper_prompt="<{query_str}>",
        completion_to_prompt=lambda p: f"{p} ->",
    )
    assert not llm.metadata.is_chat_model
    with CitationCollector() as collected:
        llm.complete("Hi")
        list(llm.stream_complete("Hi"))
        llm.complete("Hi", formatted=True)
    assert [output.prompt for output in collected.outputs] == ["<Be brief.\n\nHi> ->"] * 2 + ["Hi"]


def test_no_chat_template_means_no_chat_model(chat_engine):
    assert not NestLLM(
        engine=NestEngine(tiny_model("llama"), tiny_tokenizer())
    ).metadata.is_chat_model
    assert not NestLLM(engine=chat_engine, is_chat_model=False).metadata.is_chat_model


def test_roles_and_calls_of_other_models():
    call = {"id": "1", "type": "function", "function": {"name": "find", "arguments": '{"q": 1}'}}
    messages = [
        ChatMessage(role="user", content="Hi"),
        ChatMessage(role="model", content="", additional_kwargs={"tool_calls": [call]}),
        ChatMessage(role="function", content="42", additional_kwargs={"tool_call_id": "1"}),
        ChatMessage(role="chatbot", content="So."),
        ChatMessage(role="user", content=None),
    ]
    assert tool_llm().messages_to_prompt(messages) == (
        'user: Hi\nassistant: <1 find {"q": 1}>\ntool#1: 42\nassistant: So.\nuser: \nassistant: '
    )
    plain = scripted_llm().messages_to_prompt(messages)
    assert "None" not in plain
    with pytest.raises(InputError, match="there are no messages"):
        tool_llm().chat([])


# --- settings


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_settings_of_a_call(endpoint):
    llm = scripted_llm("abcdefgh")
    assert _text(ENDPOINTS[endpoint](llm, "? ", max_tokens=3)[-1]) == "abc"
    assert _text(ENDPOINTS[endpoint](llm, "? ", max_new_tokens=4)[-1]) == "abcd"
    assert _text(ENDPOINTS[endpoint](llm, "? ", stop=["e"])[-1]) == "abcd"
    assert _text(ENDPOINTS[endpoint](llm, "? ")[-1]) == "abcdefgh"


def test_temperature_of_a_call(demo_llm):
    def said(**kwargs):
        return demo_llm.complete("Helium", max_tokens=12, **kwargs).text

    assert said(temperature=1.5, seed=1) == said(temperature=1.5, seed=1) != said()
    assert said(do_sample=False, temperature=1.5) == said()
    assert said(do_sample=True, seed=1) == said(temperature=1.0, seed=1)
    assert said(top_k=0) == said()


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"max_token": 3}, "unknown setting 'max_token'; did you mean 'max_new_tokens'"),
        ({"tools": []}, "unknown setting 'tools'; known settings: method"),
        (
            {"max_tokens": 3, "max_new_tokens": 4},
            "max_tokens=3 and max_new_tokens=4 are one setting",
        ),
        (
            {"do_sample": True, "temperature": 0},
            "do_sample=True and temperature=0 contradict each other",
        ),
        ({"temperature": -1}, "temperature=-1 is not valid: expected a number of at least 0"),
    ],
)
def test_bad_settings_of_a_call_raise(endpoint, kwargs, message):
    with pytest.raises(ConfigError, match=message):
        ENDPOINTS[endpoint](scripted_llm(), "? ", **kwargs)


def test_bad_passages_of_a_call_raise():
    with pytest.raises(
        InputError, match="passages must be nodes, NodeWithScore or Passage objects, got str"
    ):
        scripted_llm().complete("? ", passages=["Helium"])


@pytest.mark.parametrize("endpoint", [name for name in ENDPOINTS if "chat" in name])
def test_pictures_are_not_dropped_silently(endpoint):
    message = ChatMessage(blocks=[TextBlock(text="What is this?"), ImageBlock(image=b"x")])
    with pytest.raises(
        InputError, match="NestLLM reads text alone, and a message of the user holds a ImageBlock"
    ):
        ENDPOINTS[endpoint](scripted_llm(), message.blocks)


def test_max_new_tokens_can_be_changed_on_the_llm():
    llm = scripted_llm("abcdefgh", max_new_tokens=5)
    assert llm.metadata.num_output == 5
    llm.max_new_tokens = 2
    assert llm.metadata.num_output == 2
    assert llm.complete("? ").text == "ab"


def test_context_window(caplog):
    assert scripted_llm(context_length=500).metadata.context_window == 500
    assert scripted_llm(context_length=500, context_window=100).metadata.context_window == 100
    assert scripted_llm().metadata.context_window == 3900
    with caplog.at_level(logging.WARNING):
        assert scripted_llm(context_length=500, context_window=900).metadata.context_window == 500
    assert "context_window=900 was limited to 500" in caplog.text


def test_stopping_ids_end_the_answer():
    response = scripted_llm("abcdef", stopping_ids=[ord("d")]).complete("? ")
    # as in HuggingFaceLLM, a stopping token that is text belongs to it
    assert response.text == "abcd"
    assert response.raw["finish_reason"] == "eos"


def test_a_prompt_too_long_raises():
    with pytest.raises(
        ContextOverflowError, match="the prompt has 60 tokens and the model's context holds 50"
    ):
        scripted_llm(context_length=50).complete("x" * 60)


def test_constructor_takes_what_hugging_face_llm_takes():
    huggingface = pytest.importorskip(
        "llama_index.llms.huggingface", reason="llama-index-llms-huggingface is missing"
    )
    theirs = set(inspect.signature(huggingface.HuggingFaceLLM.__init__).parameters)
    ours = set(inspect.signature(NestLLM.__init__).parameters)
    assert theirs - ours == {
        "tokenizer_outputs_to_remove"
    }  # the engine's tokenizer gives token ids alone


def test_the_model_alone_answers_as_hugging_face_llm():
    huggingface = pytest.importorskip(
        "llama_index.llms.huggingface", reason="llama-index-llms-huggingface is missing"
    )
    name = str(nest_demo.model_path())
    shared = {
        "model_name": name,
        "tokenizer_name": name,
        "device_map": "cpu",
        "context_window": 2000,
        "max_new_tokens": 24,
        "model_kwargs": {"dtype": "float32"},
        "generate_kwargs": {"do_sample": False},
        "is_chat_model": False,
    }
    theirs, ours = huggingface.HuggingFaceLLM(**shared), NestLLM(**shared)
    assert ours.complete("Helium is").text == theirs.complete("Helium is").text
    assert ours.metadata.model_dump() == theirs.metadata.model_dump()


def test_one_device_needs_no_accelerate(monkeypatch):
    monkeypatch.setattr(
        "nest_integrations.llama_index.loading.is_accelerate_available", lambda: False
    )
    llm = NestLLM(str(nest_demo.model_path()))
    assert llm.engine.language_model.device.type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_model_and_tokenizer_of_ones_own():
    llm = NestLLM(model=tiny_model("llama"), tokenizer=tiny_tokenizer(), max_new_tokens=4)
    assert llm.model_name == "LlamaForCausalLM"
    assert llm.context_window == 256
    assert llm.complete("A planet").raw["usage"]["completion_tokens"] <= 4


# --- what may be quoted


def test_no_passages_no_nest():
    response = scripted_llm(HELIUM).complete("? ")
    assert response.citations == []
    assert response.raw["notices"] == ["no passages: the model answered alone"]
    assert response.raw["stats"]["encoded_passages"] == 0


def test_passages_of_the_call_win_over_bound_ones_and_these_over_the_retriever():
    retriever = FixedRetriever([node(HELIUM, id_="retrieved")])
    llm = scripted_llm(HELIUM, retriever=retriever)
    bound = llm.with_passages([node(HELIUM, id_="bound")])
    assert llm.complete("? ").citations[0].node_id == "retrieved"
    assert bound.complete("? ", passages=None, query=None).citations[0].node_id == "bound"
    assert (
        bound.complete("? ", passages=[node(HELIUM, id_="given")]).citations[0].node_id == "given"
    )
    assert bound.complete("? ", passages=[]).citations == []
    assert retriever.queries == ["? "]


def test_the_last_user_message_is_searched_for():
    retriever = FixedRetriever([node(HELIUM)])
    llm = scripted_llm(HELIUM, retriever=retriever)
    history = [
        ChatMessage(content="Hi"),
        ChatMessage(role="assistant", content="Hello"),
        ChatMessage(content="Gas?"),
    ]
    assert llm.chat(history).citations
    llm.chat(history, query="noble gas")
    assert retriever.queries == ["Gas?", "noble gas"]


def test_passages_placed_in_a_chat_prompt(chat_engine):
    llm = NestLLM(engine=chat_engine, config=NestConfig.ra_nest())
    prompt = _prompt_read_by(
        llm, "chat", "What is helium?", passages=[node(HELIUM, metadata={"title": "Helium"})]
    )
    assert f"<|im_start|>user\nBackground: Helium. {HELIUM}\n\nWhat is helium?<|im_end|>" in prompt


def test_a_failing_retriever_is_named():
    class Broken(FixedRetriever):
        def _retrieve(self, query_bundle):
            raise TimeoutError("store down")

    llm = scripted_llm(retriever=Broken([]))
    for name, ask in ENDPOINTS.items():
        with pytest.raises(RetrievalError, match="NodeRetriever failed: store down"):
            ask(llm, "? ")
        assert name


# --- events


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_one_event_pair_for_each_call(endpoint):
    llm = scripted_llm("abc")
    kind = "LLMChat" if "chat" in endpoint else "LLMCompletion"
    with logged_events() as log:
        ENDPOINTS[endpoint](llm, "? ")
    counted = [name for name in log.names() if not name.endswith("InProgressEvent")]
    assert counted == [f"{kind}StartEvent", "NestCitationEvent", f"{kind}EndEvent"]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_tokens_are_counted_once(endpoint):
    counter = TokenCountingHandler(tokenizer=lambda text: [0] * 1000)
    llm = scripted_llm(
        "abc", callback_manager=CallbackManager([counter]), messages_to_prompt=_first_content
    )
    ENDPOINTS[endpoint](llm, "four", max_tokens=3)
    assert len(counter.llm_token_counts) == 1
    assert (counter.prompt_llm_token_count, counter.completion_llm_token_count) == (4, 3)


# --- threads


@pytest.mark.parametrize("endpoint", ["acomplete", "achat", "astream_complete", "astream_chat"])
def test_the_loop_is_not_blocked(endpoint):
    async def call_beside_a_loop_that_has_to_run():
        loop = asyncio.get_running_loop()

        def script(so_far):
            """Were it this very step that blocks the loop, it would never end."""
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(SECONDS)
            return ord("x")

        llm = scripted_llm(script, max_new_tokens=5, messages_to_prompt=_first_content)
        call = getattr(llm, endpoint)
        work = call("? ") if "complete" in endpoint else call([ChatMessage(content="? ")])
        await (_read(work) if "stream" in endpoint else work)
        return _forwards(llm)

    assert asyncio.run(call_beside_a_loop_that_has_to_run()) >= 5


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_errors_of_the_model_are_raised_to_the_caller(endpoint):
    def script(so_far):
        if so_far.endswith(b"xxx"):
            raise RuntimeError("device lost")
        return ord("x")

    with pytest.raises(RuntimeError, match="device lost"):
        ENDPOINTS[endpoint](scripted_llm(script, messages_to_prompt=_first_content), "? ")


def _forwards(llm):
    model = llm.engine.language_model
    assert isinstance(model, ScriptedLanguageModel)
    return model.num_forwards


@pytest.mark.parametrize("endpoint", ["stream_complete", "stream_chat"])
def test_a_closed_stream_stops_decoding(endpoint):
    llm = scripted_llm(endless, max_new_tokens=1000)
    stream = getattr(llm, endpoint)("? " if "complete" in endpoint else [ChatMessage(content="? ")])
    for _ in range(3):
        next(stream)
    stream.close()
    assert _forwards(llm) <= 5


@pytest.mark.parametrize("endpoint", ["astream_complete", "astream_chat"])
def test_a_closed_async_stream_stops_decoding(endpoint):
    llm = scripted_llm(endless, max_new_tokens=100_000)

    async def read_three():
        stream = await getattr(llm, endpoint)(
            "? " if "complete" in endpoint else [ChatMessage(content="? ")]
        )
        for _ in range(3):
            await anext(stream)
        await stream.aclose()

    asyncio.run(read_three())
    gc.collect()
    before = _forwards(llm)
    assert before <= 6
    assert _forwards_until_the_next_answer(llm) <= before


@pytest.mark.parametrize("endpoint", ["acomplete", "achat"])
def test_a_cancelled_task_stops_decoding(endpoint):
    fifth_begins, is_cancelled = threading.Event(), threading.Event()

    def script(so_far):
        if so_far.endswith(b"x" * 5):
            fifth_begins.set()
            assert is_cancelled.wait(SECONDS)
        return ord("x")

    llm = scripted_llm(script, max_new_tokens=100_000)

    async def start_and_cancel():
        call = getattr(llm, endpoint)
        task = asyncio.create_task(
            call("? ") if endpoint == "acomplete" else call([ChatMessage(content="? ")])
        )
        await asyncio.to_thread(fifth_begins.wait, SECONDS)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        is_cancelled.set()

    asyncio.run(start_and_cancel())
    assert _forwards_until_the_next_answer(llm) <= 7
    assert llm.complete("? ", max_tokens=2).text == "xx"


def test_a_call_after_a_cancelled_stream_is_not_cancelled():
    llm = scripted_llm(endless, max_new_tokens=50)

    async def cancel_then_ask():
        begun = asyncio.Event()

        async def read():
            async for _ in await llm.astream_complete("? "):
                begun.set()
                await asyncio.sleep(SECONDS)

        task = asyncio.create_task(read())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await llm.acomplete("? ")

    response = asyncio.run(cancel_then_ask())
    assert response.raw["finish_reason"] == "length"


def test_coroutines_share_one_thread():
    threads = set()

    def script(so_far):
        threads.add(threading.current_thread().name)
        time.sleep(0.002)
        return ord("x")

    llm = scripted_llm(script, max_new_tokens=5)

    async def ask():
        await asyncio.gather(*(llm.acomplete("? ") for _ in range(4)))

    asyncio.run(ask())
    assert len(threads) == 1
    assert threads.pop().startswith("nest")


def test_a_stream_that_is_read_slowly_does_not_hold_up_others():
    llm = scripted_llm("abcdef")

    async def interleave():
        stream = await llm.astream_complete("? ")
        await anext(stream)
        other = await asyncio.wait_for(llm.acomplete("? "), SECONDS)
        rest = [response async for response in stream]
        return other.text, rest[-1].text

    assert asyncio.run(interleave()) == ("abcdef", "abcdef")


def _forwards_until_the_next_answer(llm) -> int:
    """Ask for one token more, in the thread that decodes: return the forwards before it did so."""
    asyncio.run(llm.acomplete("? ", max_tokens=1))
    return _forwards(llm) - 1


# --- programs


class Element(BaseModel):
    """A chemical element."""

    name: str
    number: int


def test_structured_predict_without_passages():
    llm = scripted_llm('{"name": "Helium", "number": 2}', max_new_tokens=60)
    prompt = PromptTemplate("Describe {what}.")
    expected = Element(name="Helium", number=2)
    assert llm.structured_predict(Element, prompt, what="helium") == expected
    assert asyncio.run(llm.astructured_predict(Element, prompt, what="helium")) == expected
    assert llm.as_structured_llm(Element).complete("Describe helium.").raw == expected


def test_predict_and_stream():
    llm = scripted_llm(NEON)
    prompt = PromptTemplate("Say something about {what}.")
    assert llm.predict(prompt, what="neon") == NEON
    assert "".join(llm.stream(prompt, what="neon")) == NEON
    assert isinstance(llm.complete("?"), NestCompletionResponse)


def test_where_the_files_are_reaches_the_tokenizer(monkeypatch):
    seen = {}

    def model(name, **arguments):
        seen["model"] = arguments
        return tiny_model("llama")

    def tokenizer(name, **arguments):
        seen["tokenizer"] = arguments
        return tiny_tokenizer()

    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", model)
    monkeypatch.setattr(loading.AutoTokenizer, "from_pretrained", tokenizer)
    place = {"revision": "v1", "cache_dir": "/files", "token": "t"}
    options = {"device_map": None, "model_kwargs": {"dtype": "float32", **place}}
    NestLLM(model_name="a/model", tokenizer_name="a/model", **options)
    assert seen["tokenizer"] == place
    NestLLM(model_name="a/model", tokenizer_name="a/tokenizer", **options)
    assert seen["tokenizer"] == {"cache_dir": "/files", "token": "t"}


@pytest.mark.parametrize("in_folder", [False, True])
def test_a_gguf_file_is_a_model(tmp_path, monkeypatch, in_folder):
    monkeypatch.setenv("NEST_CACHE", str(tmp_path / "cache"))
    file = write_gguf(tmp_path / "tiny.gguf")
    place = {"model_name": str(file)}
    if in_folder:
        place = {"model_name": str(tmp_path), "model_kwargs": {"gguf_file": file.name}}
    assert isinstance(NestLLM(**place).complete("The river"), NestCompletionResponse)
    with pytest.raises(ConfigError, match="brings its own tokenizer"):
        NestLLM(**place, tokenizer_name="another/tokenizer")


def test_an_llm_is_not_pickled_without_its_model():
    llm = scripted_llm(HELIUM)
    with pytest.raises(TypeError, match="holds a model and is not pickled: send to_json"):
        pickle.dumps(llm)
    assert copy.copy(llm).complete("Say: ").text == HELIUM
