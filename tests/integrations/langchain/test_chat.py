"""`ChatNest`: citations in content blocks, streams, events, tools, passages, and refusals."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import reduce
from operator import add
from typing import Any

import pytest

pytest.importorskip("langchain_core", reason="needs: pip install 'nest-engine[langchain]'")

from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import BaseModel, ValidationError

from nest_engine import ConfigError, InputError, NestEngine, Passage, UnsupportedModelError
from nest_engine.testing import ScriptedLanguageModel
from nest_integrations.langchain import ChatNest, CitationCallback
from tests.integrations.langchain.conftest import SENTENCE
from tests.integrations.langchain.support import (
    PLAIN_TEMPLATE,
    TOOL_TEMPLATE,
    documents,
    replies,
    texts_of,
    tool_engine,
    tool_tokenizer,
    verify,
)
from tests.tiny_models import tiny_model, tiny_tokenizer

SAID = f"As is written: {SENTENCE} Enough!"


def chat_model(script: str = SAID, **fields: Any) -> ChatNest:
    engine = NestEngine(ScriptedLanguageModel(script))
    return ChatNest(
        engine=engine,
        tokenizer=tool_tokenizer(),
        method="lossless",
        model_name="scripted",
        **fields,
    )


def quoting(document: Any, start: int = len("As is written: ")) -> dict[str, Any]:
    return {
        "start_index": start,
        "end_index": start + len(SENTENCE),
        "cited_text": SENTENCE,
        "title": document,
    }


def test_citations_stand_in_the_content_blocks():
    found = documents(SENTENCE)
    message = chat_model().invoke("What is helium?", passages=found)
    assert message.content == SAID
    [block] = message.content_blocks
    assert (block["type"], block["text"]) == ("text", SAID)
    [citation] = block["annotations"]
    assert citation.items() >= quoting("Passage d0").items()
    assert citation["type"] == "citation"
    assert "index" not in citation
    verify([citation], message.text, texts_of(found))
    assert message.response_metadata["citations"] == [citation]


def test_a_message_without_citations_has_a_plain_text_block():
    assert chat_model().invoke("What is helium?").content_blocks == [{"type": "text", "text": SAID}]


def test_usage_and_metadata():
    used = UsageMetadataCallbackHandler()
    message = chat_model().invoke("Hi", {"callbacks": [used]}, passages=documents(SENTENCE))
    prompt = "[user] Hi\n[assistant] "
    expected = {
        "input_tokens": len(prompt),
        "output_tokens": len(SAID) + 1,
        "total_tokens": len(prompt) + len(SAID) + 1,
        "input_token_details": {"cache_read": 0},
    }
    assert message.usage_metadata == expected
    assert used.usage_metadata["scripted"].items() >= expected.items()
    assert message.response_metadata["finish_reason"] == "eos"
    assert message.response_metadata["model_provider"] == "nest"


async def collect(way: str, chat: ChatNest, asked: str = "Hi", **kwargs: Any) -> AIMessage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LangChain calls its events version 3 a beta
        if way == "ainvoke":
            return await chat.ainvoke(asked, **kwargs)
        if way == "stream":
            return reduce(add, chat.stream(asked, **kwargs))
        if way == "astream":
            return reduce(add, [chunk async for chunk in chat.astream(asked, **kwargs)])
        if way == "events":
            return chat.stream_events(asked, version="v3", **kwargs).output
        if way == "aevents":
            stream = await chat.astream_events(asked, version="v3", **kwargs)
            message = await stream.output
            await stream._producer_task  # it still reports the end to the callbacks
            return message
        if way == "batch":
            return chat.batch([asked, "Ho"], **kwargs)[0]
        return (await chat.abatch([asked, "Ho"], **kwargs))[0]


@pytest.mark.parametrize(
    "way", ["ainvoke", "stream", "astream", "events", "aevents", "batch", "abatch"]
)
@pytest.mark.parametrize("output_version", [None, "v1"])
async def test_every_way_gives_the_same(way: str, output_version: str | None):
    chat = chat_model(output_version=output_version)
    expected = chat_model().invoke("Hi", passages=documents(SENTENCE))
    cited = CitationCallback()
    message = await collect(way, chat, config={"callbacks": [cited]}, passages=documents(SENTENCE))
    assert message.text == expected.text
    [block] = message.content_blocks
    assert block["annotations"] == expected.content_blocks[0]["annotations"]
    assert message.usage_metadata == expected.usage_metadata
    assert message.response_metadata["citations"] == expected.response_metadata["citations"]
    assert message.response_metadata["finish_reason"] == "eos"
    assert message.response_metadata["model_name"] == "scripted"
    assert cited.citations == expected.response_metadata["citations"] * (2 if "batch" in way else 1)


@pytest.mark.parametrize("way", ["ainvoke", "stream", "astream", "events"])
async def test_every_way_gives_the_same_on_a_real_model(
    way: str, demo_engine: NestEngine, demo_passages: list[Passage]
):
    chat = ChatNest(
        engine=demo_engine,
        chat_template=PLAIN_TEMPLATE,
        max_tokens=40,
        max_draft_tokens=8,
    )
    passages = [passage for passage in demo_passages if passage.id in ("neptune", "danube")]
    asked = "Where is Neptune?"
    expected = chat.invoke(asked, passages=passages)
    assert expected.response_metadata["citations"]
    verify(expected.response_metadata["citations"], expected.text, {p.id: p.text for p in passages})
    message = await collect(way, chat, asked, passages=passages)
    assert (message.text, message.response_metadata["citations"]) == (
        expected.text,
        expected.response_metadata["citations"],
    )


def test_citations_are_streamed_before_the_end():
    # The end of a sentence is known when the next one has begun.
    chat = chat_model(f"As is written: {SENTENCE} Nobody denies it today.", max_draft_tokens=8)
    chunks = list(chat.stream("Hi", passages=documents(SENTENCE)))
    carriers = [
        number for number, chunk in enumerate(chunks) if chunk.response_metadata.get("citations")
    ]
    assert len(carriers) == 1
    assert 1 < carriers[0] < len(chunks) - 1
    assert [chunk.chunk_position for chunk in chunks] == [None] * (len(chunks) - 1) + ["last"]


def test_events_carry_citations_twice():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        events = list(
            chat_model(max_draft_tokens=8).stream_events(
                "Hi", version="v3", passages=documents(SENTENCE)
            )
        )
    deltas = [event["delta"] for event in events if event["event"] == "content-block-delta"]
    assert "".join(delta["text"] for delta in deltas if delta["type"] == "text-delta") == SAID
    [annotations] = [
        delta["fields"]["annotations"] for delta in deltas if delta["type"] == "block-delta"
    ]
    [finished] = [event["content"] for event in events if event["event"] == "content-block-finish"]
    assert finished == {"type": "text", "text": SAID, "annotations": annotations}
    assert events[-1]["event"] == "message-finish"


def test_the_search_is_for_the_last_human_message():
    asked: list[str] = []

    class Store:
        def retrieve(self, queries: list[str], k: int) -> list[list[Passage]]:
            asked.extend(queries)
            return [[Passage(SENTENCE, id="found")] for _ in queries]

    chat = chat_model(retriever=Store())
    conversation = [
        SystemMessage("Be brief."),
        HumanMessage("What is neon?"),
        AIMessage("A gas."),
        HumanMessage([{"type": "text", "text": "And helium?"}]),
    ]
    message = chat.invoke(conversation)
    chat.invoke(conversation, query="lighter than air")
    assert asked == ["And helium?", "lighter than air"]
    assert [c["extras"]["document_id"] for c in message.response_metadata["citations"]] == ["found"]


def test_what_tools_have_found_is_quoted_without_a_search():
    class Store:
        def retrieve(self, queries: list[str], k: int) -> list[list[Passage]]:
            raise AssertionError("searched")

    conversation = [
        HumanMessage("What is helium?"),
        AIMessage("", tool_calls=[{"name": "search", "args": {"query": "helium"}, "id": "1"}]),
        ToolMessage(SENTENCE, tool_call_id="1", artifact=documents(SENTENCE)),
    ]
    message = chat_model(retriever=Store()).invoke(conversation)
    assert [c["extras"]["document_id"] for c in message.response_metadata["citations"]] == ["d0"]


def test_passages_in_the_prompt_of_a_chat(demo_engine: NestEngine, demo_passages: list[Passage]):
    neptune = next(passage for passage in demo_passages if passage.id == "neptune")
    chat = ChatNest(engine=demo_engine, chat_template=PLAIN_TEMPLATE, max_tokens=8)
    [plain] = chat.generate([[HumanMessage("Tell me about Neptune.")]]).generations
    alone = plain[0].message.usage_metadata["input_tokens"]
    for method in ("ra", "ra-nest"):
        message = chat.invoke("Tell me about Neptune.", passages=[neptune], method=method)
        assert message.usage_metadata["input_tokens"] > alone + 50


def test_several_answers(demo_engine: NestEngine):
    chat = ChatNest(
        engine=demo_engine, chat_template=PLAIN_TEMPLATE, max_tokens=8, temperature=1.5, seed=1, n=2
    )
    [generations] = chat.generate([[HumanMessage("Hi")]]).generations
    assert len({generation.text for generation in generations}) == 2
    with pytest.raises(ConfigError, match="n=2 answers cannot be streamed as one text"):
        list(chat.stream("Hi"))


def weather(location: str) -> str:
    """Tell the weather.

    Args:
        location: where.
    """
    return f"sunny in {location}"


def tool_model(said: str | Callable[[str], str], **fields: Any) -> Any:
    answer = said if callable(said) else lambda prompt: said
    engine = NestEngine(ScriptedLanguageModel(replies(answer)))
    return ChatNest(engine=engine, tokenizer=tool_tokenizer(), max_tokens=400, **fields)


CALL = '<tool_call>\n{"name": "weather", "arguments": {"location": "Rome"}}\n</tool_call>'


@pytest.mark.parametrize("way", ["ainvoke", "stream", "aevents"])
@pytest.mark.parametrize(
    ("said", "shown", "locations"),
    [
        (CALL, "", ["Rome"]),
        (f"Let me see. {CALL}{CALL.replace('Rome', 'Oslo')}", "Let me see. ", ["Rome", "Oslo"]),
        ('{"name": "weather", "parameters": {"location": "Rome"}}', "", ["Rome"]),
        ("<tool_call>{broken", "<tool_call>{broken", []),
        ('{"temperature": 3}', '{"temperature": 3}', []),
        ("a < b <tool", "a < b <tool", []),
        ("It is sunny.", "It is sunny.", []),
    ],
)
async def test_tool_calls_in_every_way(way: str, said: str, shown: str, locations: list[str]):
    message = await collect(way, tool_model(said).bind_tools([weather]))
    assert message.text == shown
    assert [(call["name"], call["args"]) for call in message.tool_calls] == [
        ("weather", {"location": location}) for location in locations
    ]
    assert [block["type"] for block in message.content_blocks] == ["text"] * bool(shown) + [
        "tool_call"
    ] * len(locations)


def test_one_call_where_one_is_asked_for():
    chat = tool_model(CALL * 2).bind_tools([weather], parallel_tool_calls=False)
    assert len(chat.invoke("Hi").tool_calls) == 1


def test_text_is_streamed_also_with_tools():
    chunks = list(tool_model(f"Let me see. {CALL}").bind_tools([weather]).stream("Hi"))
    assert sum(bool(chunk.content) for chunk in chunks) > 5
    assert "<" not in "".join(chunk.text for chunk in chunks)


def test_without_tools_the_text_is_left_alone():
    assert tool_model(CALL).invoke("Hi").content == CALL


def test_citations_before_a_tool_call_stay():
    chat = tool_model(f"{SENTENCE} {CALL}", method="lossless").bind_tools([weather])
    found = documents(SENTENCE)
    message = chat.invoke("Hi", passages=[*found, *documents(CALL)])
    assert message.text == f"{SENTENCE} "
    [citation] = message.response_metadata["citations"]
    assert SENTENCE.endswith(citation["cited_text"])
    assert citation["end_index"] == len(SENTENCE)


@pytest.mark.parametrize(
    ("tool_choice", "opening"),
    [
        ("any", '<tool_call>\n{"name": "weather", "arguments": '),
        ("required", '<tool_call>\n{"name": "weather", "arguments": '),
        (True, '<tool_call>\n{"name": "weather", "arguments": '),
        ("weather", '<tool_call>\n{"name": "weather", "arguments": '),
        (
            {"type": "function", "function": {"name": "weather"}},
            '<tool_call>\n{"name": "weather", "arguments": ',
        ),
        ("auto", ""),
        (None, ""),
        (False, ""),
    ],
)
def test_a_tool_choice_begins_the_turn(tool_choice: Any, opening: str):
    prompts: list[str] = []

    def answer(prompt: str) -> str:
        prompts.append(prompt)
        return CALL

    tool_model(answer).bind_tools([weather], tool_choice=tool_choice).invoke("Hi")
    written = tool_model(CALL).bind_tools([weather], tool_choice=tool_choice)
    call, turn = written.bound._call([HumanMessage("Hi")], None, dict(written.kwargs))
    assert turn.opening == opening
    assert call.prompts[0].endswith("[assistant] " + opening)
    assert "weather" in prompts[-1]


def test_a_forced_call_is_read_with_its_opening():
    engine = NestEngine(ScriptedLanguageModel('{"location": "Rome"}}\n</tool_call>'))
    chat = ChatNest(engine=engine, tokenizer=tool_tokenizer()).bind_tools(
        [weather], tool_choice="weather"
    )
    message = chat.invoke("Hi")
    assert [(call["name"], call["args"]) for call in message.tool_calls] == [
        ("weather", {"location": "Rome"})
    ]
    assert message.content == ""


def test_no_tools_when_none_may_be_called():
    bound = tool_model(CALL).bind_tools([weather], tool_choice="none")
    assert bound.invoke("Hi").content == CALL


def test_structured_output():
    class Weather(BaseModel):
        """The weather."""

        location: str

    engine = NestEngine(ScriptedLanguageModel('{"location": "Rome"}}</tool_call>'))
    chat = ChatNest(engine=engine, tokenizer=tool_tokenizer())
    assert chat.with_structured_output(Weather).invoke("Hi") == Weather(location="Rome")


def test_tools_need_a_template_that_writes_them(demo_engine: NestEngine):
    chat = ChatNest(engine=demo_engine, chat_template=PLAIN_TEMPLATE, model_name="small")
    with pytest.raises(
        UnsupportedModelError, match="the chat template of small has no place for tools"
    ):
        chat.bind_tools([weather])
    with pytest.raises(UnsupportedModelError, match="no place for tools"):
        chat.with_structured_output({"title": "a", "type": "object", "properties": {}})


def test_an_unknown_tool_choice_names_the_tools():
    with pytest.raises(
        ConfigError, match="tool_choice='snow' names no bound tool: give one of weather"
    ):
        tool_model(CALL).bind_tools([weather], tool_choice="snow")


def test_a_model_without_a_chat_template_is_refused():
    with pytest.raises(
        UnsupportedModelError, match="use an instruction-tuned model, or use NestLLM"
    ):
        ChatNest(engine=NestEngine(tiny_model("llama"), tiny_tokenizer()))
    with pytest.raises(UnsupportedModelError, match="ScriptedLanguageModel has no chat template"):
        ChatNest(engine=NestEngine(ScriptedLanguageModel("")))


def test_the_template_of_the_tokenizer_and_one_in_its_place():
    tokenizer = tool_tokenizer()
    engine = tool_engine()
    messages = [HumanMessage("Hi")]
    own = ChatNest(engine=engine, tokenizer=tokenizer)
    other = ChatNest(engine=engine, tokenizer=tokenizer, chat_template=PLAIN_TEMPLATE)
    assert own._call(messages, None, {})[0].prompts == ["[user] Hi\n[assistant] "]
    assert other._call(messages, None, {})[0].prompts == ["Question: Hi\nAnswer:"]
    assert tokenizer.chat_template == TOOL_TEMPLATE
    assert tiny_tokenizer().chat_template is None


@pytest.mark.parametrize(
    ("messages", "arguments", "message"),
    [
        (
            [HumanMessage([{"type": "image_url", "image_url": {"url": "https://a.org/b.png"}}])],
            {},
            "holds image: this",
        ),
        ([HumanMessage("Hi")], {"gama": 1}, "unknown setting 'gama'"),
        ([HumanMessage("Hi")], {"query": ["Hi"]}, "query must be a text, got list"),
        ([HumanMessage("Hi")], {"passages": "Hi"}, "passages must be a list of documents, got str"),
        ([], {}, "there are no messages; give at least one"),
    ],
)
def test_bad_calls_are_refused(messages: list[Any], arguments: dict[str, Any], message: str):
    with pytest.raises((InputError, ConfigError), match=message):
        chat_model().invoke(messages, **arguments)


def test_unknown_fields_are_refused():
    with pytest.raises(ValidationError, match="gama"):
        chat_model(gama=1)
