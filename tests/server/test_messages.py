"""Anthropic's Messages API, as Anthropic's own clients use it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from langchain_anthropic import ChatAnthropic

from nest_engine import NestConfig, NestEngine
from nest_engine.testing import ScriptedLanguageModel
from tests.field.test_requests import WithTools
from tests.server.support import MODEL, QUESTION, Connection, ask, served
from tests.ui.support import HELIUM, NEON, SAID, SECONDS, scripted_engine
from tests.unit.retrieval.test_reading import pdf

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

CITED = {"citations": {"enabled": True}}
BEFORE = "Gases are treated here, one by one, for whoever is new to them. "
TEXT = {
    "type": "document",
    "title": "Helium",
    "source": {"type": "text", "media_type": "text/plain", "data": BEFORE + HELIUM.text},
    **CITED,
}
RESULT = {
    "type": "search_result",
    "source": "https://example.org/neon",
    "title": "Neon",
    "content": [{"type": "text", "text": "Gases."}, {"type": "text", "text": NEON.text}],
    **CITED,
}
ASKED = {"type": "text", "text": QUESTION}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    engine = scripted_engine()
    engine.config = engine.config.replace(method="lossless")
    with served(engine, api_key="secret") as address:
        yield address


@pytest.fixture
def client(address: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=address, api_key="secret", max_retries=0, timeout=SECONDS)


def create(client: anthropic.Anthropic, *blocks: Any, **more: Any) -> Any:
    messages: Any = [{"role": "user", "content": [*blocks, ASKED]}]
    return client.messages.create(model=MODEL, max_tokens=400, messages=messages, **more)


def test_documents_and_search_results_are_cited(client: anthropic.Anthropic) -> None:
    reply = create(client, TEXT, RESULT, system="Be brief.")
    assert "".join(block.text for block in reply.content) == SAID
    assert (reply.stop_reason, reply.role, reply.type) == ("end_turn", "assistant", "message")
    assert reply.usage.input_tokens > 0
    [helium, neon] = [block for block in reply.content if block.citations]
    [cited] = helium.citations
    assert (cited.type, cited.document_index, cited.document_title) == (
        "char_location",
        0,
        "Helium",
    )
    data = TEXT["source"]["data"]  # type: ignore[index]
    assert data[cited.start_char_index : cited.end_char_index] == cited.cited_text == helium.text
    [cited] = neon.citations
    assert (cited.type, cited.search_result_index, cited.title) == (
        "search_result_location",
        0,
        "Neon",
    )
    assert (cited.source, cited.start_block_index) == ("https://example.org/neon", 1)
    assert (cited.end_block_index, cited.cited_text) == (2, neon.text)


def test_other_sources_have_their_own_places(client: anthropic.Anthropic) -> None:
    blocks = [{"type": "text", "text": "Gases."}, {"type": "text", "text": NEON.text}]
    content = {"type": "document", "source": {"type": "content", "content": blocks}, **CITED}
    data = base64.b64encode(pdf("Gases.", HELIUM.text[:56], title="x")).decode()
    source = {"type": "base64", "media_type": "application/pdf", "data": data}
    reply = create(client, content, {"type": "document", "source": source, **CITED})
    [helium, neon] = [block.citations[0] for block in reply.content if block.citations]
    assert (helium.type, helium.document_index) == ("page_location", 1)
    assert (helium.start_page_number, helium.end_page_number) == (2, 3)
    assert (neon.type, neon.document_index) == ("content_block_location", 0)
    assert (neon.start_block_index, neon.end_block_index) == (1, 2)


def test_a_stream_is_the_whole_one_in_blocks(client: anthropic.Anthropic) -> None:
    whole = create(client, TEXT, RESULT)
    messages: Any = [{"role": "user", "content": [TEXT, RESULT, ASKED]}]
    with client.messages.stream(model=MODEL, max_tokens=400, messages=messages) as stream:
        kinds = [each.type for each in stream]
        final = stream.get_final_message()
    assert [block.text for block in final.content] == [block.text for block in whole.content]
    assert [block.citations or None for block in final.content] == [
        block.citations or None for block in whole.content
    ]
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", whole.usage.output_tokens)
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert "citation" in kinds


@pytest.mark.parametrize(
    "block",
    [
        "x",
        {"type": "document", "source": "x"},
        {"type": "document", "source": TEXT["source"], "citations": True},
        {"type": "document", "source": {"type": "content", "content": ["abc"]}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "é"},
        },
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"},
        },
        {"type": "tool_result", "tool_use_id": "1", "content": ["a"]},
        {"type": "tool_result", "tool_use_id": "1", "content": 5},
        {"type": "search_result", "content": {"a": 1}},
    ],
)
def test_blocks_that_are_none_are_named(address: str, block: Any) -> None:
    asked = {
        "model": MODEL,
        "max_tokens": 5,
        "messages": [{"role": "user", "content": [block, ASKED]}],
    }
    status, reply = ask(address, "/v1/messages", asked, x_api_key="secret")
    assert (status, "messages.0.content" in reply["error"]["message"]) == (400, True)


@pytest.mark.parametrize(
    "source",
    [
        {"type": "text", "media_type": "text/plain", "data": " "},
        {"type": "content", "content": []},
        {
            "type": "base64",
            "media_type": "application/pdf",
            "data": base64.b64encode(pdf("")).decode(),  # a scan
        },
    ],
)
def test_a_document_without_text_lets_nothing_else_be_cited(
    client: anthropic.Anthropic, source: Any
) -> None:
    empty = {"type": "document", "source": source, **CITED}
    reply = create(client, empty)
    assert "".join(block.text for block in reply.content) == SAID
    assert not any(block.citations for block in reply.content)


def test_passages_that_come_twice_are_refused(address: str) -> None:
    asked: dict[str, Any] = {
        "model": MODEL,
        "max_tokens": 5,
        "messages": [{"role": "user", "content": [TEXT, ASKED]}],
        "nest": {"passages": [{"text": NEON.text}]},
    }
    status, reply = ask(address, "/v1/messages", asked, x_api_key="secret")
    assert (status, "nest.passages" in reply["error"]["message"]) == (400, True)


def test_a_choice_without_tools_is_refused(address: str) -> None:
    for choice in ({"type": "any"}, {"type": "tool", "name": "find"}):
        asked = {
            "model": MODEL,
            "max_tokens": 5,
            "messages": [{"role": "user", "content": [ASKED]}],
            "tool_choice": choice,
        }
        status, reply = ask(address, "/v1/messages", asked, x_api_key="secret")
        assert (status, "there are none" in reply["error"]["message"]) == (400, True)


def test_clients_cannot_say_where_their_passages_stand(address: str) -> None:
    for metadata in ({"start_index": "x"}, {"anthropic_location": {"type": "page_location"}}):
        passage = {"text": NEON.text, "metadata": metadata}
        asked = {
            "model": MODEL,
            "max_tokens": 200,
            "messages": [{"role": "user", "content": QUESTION}],
            "nest": {"passages": [passage]},
        }
        status, reply = ask(address, "/v1/messages", asked, x_api_key="secret")
        assert status == 200
        [cited] = [each["citations"] for each in reply["content"] if each.get("citations")]
        assert cited[0]["type"] == "search_result_location"


def test_a_document_that_is_not_to_be_cited_is_not_cited_beside_another(
    client: anthropic.Anthropic,
) -> None:
    plain = {name: value for name, value in RESULT.items() if name != "citations"}
    reply = create(client, TEXT, plain)
    cited = [block.citations[0].type for block in reply.content if block.citations]
    assert cited == ["char_location"]


def test_documents_that_are_not_to_be_cited_are_not(client: anthropic.Anthropic) -> None:
    plain = {name: value for name, value in TEXT.items() if name != "citations"}
    reply = create(client, plain)
    assert [(block.text, block.citations) for block in reply.content] == [(SAID, None)]


def test_without_documents_the_server_searches_its_own(client: anthropic.Anthropic) -> None:
    reply = create(client)
    cited = [block.citations[0] for block in reply.content if block.citations]
    assert [each.source for each in cited] == [HELIUM.uri, NEON.uri]


def test_limits_and_stops(client: anthropic.Anthropic) -> None:
    assert create(client, stop_sequences=["in the light"]).stop_reason == "stop_sequence"
    messages: Any = [{"role": "user", "content": QUESTION}]
    reply = client.messages.create(model=MODEL, max_tokens=5, messages=messages)
    assert (reply.stop_reason, reply.usage.output_tokens) == ("max_tokens", 5)


def test_the_stop_sequence_is_the_one_that_was_met() -> None:
    said = "A light gas, END of it.\n\nQuestion: more"
    with served(NestEngine(ScriptedLanguageModel(said), config=NestConfig(method="lm"))) as address:
        client = anthropic.Anthropic(base_url=address, api_key="unused", max_retries=0)
        asked = {"model": MODEL, "max_tokens": 99, "messages": [{"role": "user", "content": "?"}]}
        met = client.messages.create(**asked, stop_sequences=["STOP", "END"])
        assert (met.stop_reason, met.stop_sequence) == ("stop_sequence", "END")
        ours = client.messages.create(**asked, stop_sequences=["XYZ"])
        assert (ours.stop_reason, ours.stop_sequence) == ("end_turn", None)


def test_nulls_and_pieces_of_an_answer() -> None:
    prompts: list[str] = []

    def say(text: bytes) -> int:
        prompts.append(text.decode())
        return 256

    question = {"role": "user", "content": QUESTION}
    pieces = [{"type": "text", "text": "A gas, "}, {"type": "text", "text": "and light."}]
    turns = [
        question,
        {"role": "assistant", "content": None},
        question,
        {"role": "assistant", "content": pieces},
        question,
    ]
    tools = [{"name": "find", "description": None, "input_schema": None}]
    asked = {"model": MODEL, "max_tokens": 9, "messages": turns, "tools": tools}
    with served(NestEngine(ScriptedLanguageModel(say), config=NestConfig(method="lm"))) as address:
        status, reply = ask(address, "/v1/messages", asked | {"tool_choice": {"type": "none"}})
    assert (status, reply["type"]) == (200, "message")
    assert "Answer: A gas, and light.\n" in max(prompts, key=len)


def test_one_call_where_one_is_asked_for() -> None:
    call = '<tool_call>{"name": "find", "arguments": {}}</tool_call>'
    model = ScriptedLanguageModel(call * 2)
    model.tokenizer = WithTools()  # type: ignore[assignment]
    asked: dict[str, Any] = {
        "model": MODEL,
        "max_tokens": 200,
        "messages": [{"role": "user", "content": QUESTION}],
        "tools": [{"name": "find", "input_schema": {}}],
    }
    with served(NestEngine(model, config=NestConfig(method="lm"))) as address:
        for disabled, number in ((False, 2), (True, 1)):
            choice = {"type": "auto", "disable_parallel_tool_use": disabled}
            _, reply = ask(address, "/v1/messages", asked | {"tool_choice": choice})
            assert len(reply["content"]) == number
        tools = [{"type": "function", "function": {"name": "find"}}]
        chat = asked | {"tools": tools, "parallel_tool_calls": False}
        _, reply = ask(address, "/v1/chat/completions", chat)
        assert len(reply["choices"][0]["message"]["tool_calls"]) == 1


def test_the_servers_own_sources_are_numbered() -> None:
    with served(scripted_engine()) as address:
        asked = {"model": MODEL, "max_tokens": 400, "nest": {"method": "lossless"}}
        asked["messages"] = [{"role": "user", "content": QUESTION}]
        _, reply = ask(address, "/v1/messages", asked)
    cited = [each for block in reply["content"] for each in block.get("citations") or ()]
    assert [each["search_result_index"] for each in cited] == [0, 1]


def test_the_context_of_a_document_is_read_and_not_cited() -> None:
    prompts: list[str] = []

    def say(text: bytes) -> int:
        prompts.append(text.decode())
        return _next("It weighs little. By ACME.", text)

    document = TEXT | {"context": "By ACME."}
    asked = {"model": MODEL, "max_tokens": 99, "nest": {"method": "ra"}}
    asked["messages"] = [{"role": "user", "content": [document, ASKED]}]
    with served(NestEngine(ScriptedLanguageModel(say))) as address:
        _, reply = ask(address, "/v1/messages", asked)
    assert "Helium. By ACME. Gases" in max(prompts, key=len)
    assert not any(block.get("citations") for block in reply["content"])


def test_a_long_block_is_several_passages() -> None:
    said = "The last word is neon, and so it ends."
    long = f"{'A word of many. ' * 2_000}{said}"
    result = RESULT | {
        "content": [{"type": "text", "text": "Gases."}, {"type": "text", "text": long}]
    }
    asked = {"model": MODEL, "max_tokens": 99, "nest": {"method": "lossless"}}
    asked["messages"] = [{"role": "user", "content": [result, ASKED]}]
    with served(NestEngine(ScriptedLanguageModel(said))) as address:
        status, reply = ask(address, "/v1/messages", asked)
    assert status == 200
    [block] = reply["content"]
    [citation] = block["citations"]
    assert (citation["cited_text"], citation["start_block_index"]) == (said, 1)


def test_tools_of_other_servers_and_unknown_paths_are_named(address: str) -> None:
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    messages = [{"role": "user", "content": QUESTION}]
    asked = {"model": MODEL, "max_tokens": 9, "messages": messages, "tools": tools}
    _, reply = ask(address, "/v1/messages", asked, x_api_key="secret")
    assert "'web_search_20250305' runs on Anthropic's servers" in reply["error"]["message"]
    status, reply = ask(address, "/v1/messages/batches", {}, x_api_key="secret")
    assert (status, reply["type"], reply["error"]["type"]) == (404, "error", "not_found_error")


def test_tokens_are_counted(client: anthropic.Anthropic) -> None:
    messages: Any = [{"role": "user", "content": [TEXT, ASKED]}]
    with_text = client.messages.count_tokens(model=MODEL, messages=messages)
    alone = client.messages.count_tokens(
        model=MODEL, messages=[{"role": "user", "content": QUESTION}]
    )
    assert with_text.input_tokens == alone.input_tokens + len(BEFORE + HELIUM.text)


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({"messages": []}, 400, "messages: List should have at least 1 item"),
        ({"max_tokens": None}, 400, "max_tokens"),
        ({"model": "claude"}, 404, "the model 'claude' does not exist here"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            400,
            "of type 'image' is not supported here",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]},
            400,
            "source of type None is not supported here",
        ),
    ],
)
def test_errors_have_the_shape_that_its_clients_read(
    address: str, body: dict[str, Any], status: int, named: str
) -> None:
    asked = {"model": MODEL, "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]} | body
    found, reply = ask(address, "/v1/messages", asked, x_api_key="secret")
    assert (found, reply["type"]) == (status, "error")
    assert named in reply["error"]["message"]
    assert reply["error"]["type"] in ("invalid_request_error", "not_found_error")
    found, reply = ask(address, "/v1/messages", asked, x_api_key="wrong")
    assert (found, reply["type"], reply["error"]["type"]) == (401, "error", "authentication_error")


def test_tools_and_their_results() -> None:
    from tests.field.test_requests import WithTools

    called = '<tool_call>{"name": "search", "arguments": {"q": "helium"}}</tool_call>'
    model = ScriptedLanguageModel(lambda text: 0 if b"It is a gas" in text else _next(called, text))
    model.tokenizer = WithTools()  # type: ignore[assignment]
    tools: Any = [{"name": "search", "description": "", "input_schema": {"type": "object"}}]
    with served(NestEngine(model, config=NestConfig(method="lm"))) as address:
        client = anthropic.Anthropic(base_url=address, api_key="-", max_retries=0, timeout=SECONDS)
        reply = create(client, tools=tools)
        assert reply.stop_reason == "tool_use"
        [block] = reply.content
        assert (block.type, block.name, block.input) == ("tool_use", "search", {"q": "helium"})
        messages: Any = [{"role": "user", "content": QUESTION}]
        with client.messages.stream(
            model=MODEL, max_tokens=400, messages=messages, tools=tools
        ) as stream:
            [streamed] = stream.get_final_message().content
        assert (streamed.name, streamed.input) == (block.name, block.input)  # type: ignore[union-attr]


def _next(said: str, text: bytes) -> int:
    _, _, answer = text.partition(b"\nAnswer:")
    return said.encode()[len(answer)] if len(answer) < len(said) else 0


def test_langchain(address: str) -> None:
    model = ChatAnthropic(  # type: ignore[call-arg]
        model_name=MODEL, base_url=address, api_key="secret", max_retries=0, timeout=SECONDS
    )
    message = [{"role": "user", "content": [TEXT, RESULT, ASKED]}]
    for reply in (model.invoke(message), sum_of(model.stream(message))):
        assert reply.text == SAID
        cited = [
            each["cited_text"]
            for block in reply.content_blocks
            for each in block.get("annotations", ())
        ]
        assert len(cited) == 2
        assert all(each in SAID for each in cited)


def sum_of(chunks: Iterator[Any]) -> Any:
    total = next(chunks)
    for chunk in chunks:
        total += chunk
    return total


def test_a_stream_that_fails_ends_with_its_error(address: str) -> None:
    connection = Connection(
        address,
        "/v1/messages",
        {"model": "other", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]},
        x_api_key="secret",
    )
    assert connection.response().status == 404
    connection.close()
