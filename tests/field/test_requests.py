"""Requests as clients send them: cases from the field, and others of their kinds."""

from __future__ import annotations

import copy
import http.client
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest

from nest_engine import NestConfig, NestEngine, Passage
from nest_engine.interfaces import Message
from nest_engine.testing import ScriptedLanguageModel
from tests.server.support import ASKED, MODEL, QUESTION, Connection, ask, events, served
from tests.tiny_models import tiny_model, tiny_tokenizer
from tests.ui.support import HELIUM, NEON, SAID, SECONDS, Fixed, scripted_engine
from tests.unit.models.test_chat_template import TEMPLATE, tokenizer

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

CHAT = "/v1/chat/completions"
TOOLS = (
    "{% for t in tools or [] %}{{ t.function.name }} {% endfor %}"
    "{% for m in messages %}{{ m.role }}: {{ m.content }}"
    "{% for c in m.tool_calls or [] %} {{ c.function.arguments.q }}{% endfor %}\n{% endfor %}"
)
SEARCH = {"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}


class Letters:
    """Embeds texts by how often letters occur in them."""

    fingerprint = "letters"

    def embed(self, texts: Any) -> Any:
        counts = [[text.count(letter) for letter in "aeiou"] for text in texts]
        return np.asarray(counts, dtype=np.float32)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    engine = scripted_engine()
    engine.config = engine.config.replace(method="lossless")
    engine.embedder = Letters()  # type: ignore[assignment]
    with served(engine) as address:
        yield address


@pytest.fixture(scope="module")
def tiny() -> Iterator[str]:
    """A server whose model has a chat template."""
    with served(NestEngine(tiny_model("llama"), tokenizer())) as address:
        yield address


def message(reply: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = reply["choices"][0]["message"]
    return found


def test_a_reply_can_be_sent_back_with_its_nulls(address: str) -> None:  # 27
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="-", max_retries=0, timeout=SECONDS)
    first = client.chat.completions.create(**ASKED).choices[0].message
    said = first.model_dump() | {"reasoning_content": "Hm.", "audio": None, "function_call": None}
    turns = [*ASKED["messages"], said, {"role": "user", "content": "And neon?"}]
    status, reply = ask(address, CHAT, ASKED | {"messages": turns, "logit_bias": None, "new": None})
    assert (status, message(reply)["content"]) == (200, SAID)


@pytest.mark.parametrize(
    "more",
    [
        {"chat_template_kwargs": {"enable_thinking": False}},  # 28
        {"reasoning_effort": "low"},
        {"seed": -1},  # 31
        {"stop": ""},
        {"top_k": 5, "nest": {"top_k": 3}},
        {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "min_tokens": 0},
        {"top_k": 40, "repeat_penalty": 1, "cache_prompt": True},
        {"add_generation_prompt": True, "continue_final_message": False, "ignore_eos": False},
        {"skip_special_tokens": True, "use_beam_search": False, "length_penalty": 1.0},
        {"stop": ["a1", "b2", "c3", "d4"]},
        {"response_format": {"type": "text"}},
        {"messages": [{"role": "user", "content": None}, *ASKED["messages"]]},
        {"frequency_penalty": 0.0, "presence_penalty": 0, "logprobs": False, "verbosity": "low"},
        {"parallel_tool_calls": True, "tools": [], "tool_choice": "auto"},
    ],
)
def test_what_clients_send_is_taken(address: str, more: dict[str, Any]) -> None:
    status, reply = ask(address, CHAT, ASKED | more)
    assert (status, message(reply)["content"]) == (200, SAID)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"response_format": {"type": "json_object"}}, "'json_object' is not supported here"),
        ({"unheard_of": 1}, "unheard_of is not supported here; leave it out"),
        ({"logit_bias": {"1": 2.0}}, "logit_bias is not supported here; leave it out"),
        ({"store": True}, "store: only False is supported here"),
        ({"tools": [SEARCH]}, "no place for tools"),
        ({"tools": [{"type": "function", "function": {}}]}, "name: Field required"),
        (
            {"tools": [SEARCH], "tool_choice": {"type": "function", "function": None}},
            "no bound tool",
        ),
        ({"documents": [{"id": "1", "data": None}]}, "data must be an object"),
        ({"documents": [{"id": "1", "data": ["x"]}]}, "data must be an object"),
        ({"chat_template_kwargs": {"messages": 1}}, "cannot be set"),
        ({"functions": [{"name": "f"}]}, "functions is not supported here; send tools"),
        ({"function_call": {"name": "f"}}, "function_call is not supported here; send tools"),
        ({"tool_choice": "required"}, "'required' asks for a tool, and there are none"),
        ({"tools": [], "tool_choice": SEARCH}, "asks for a tool, and there are none"),
        ({"documents": [], "nest": {"passages": []}}, "two names of the same; give one"),
        (
            {"messages": [{"role": "user", "content": 5}]},
            "messages.0.content: Input should be a valid string; "
            "messages.0.content: Input should be a valid array",
        ),
        (
            {"messages": [{"role": "user", "content": [{"text": "x"}]}]},
            "messages.0.content.0.type: Field required",
        ),
    ],
)
def test_what_is_refused_is_refused_in_plain_words(
    address: str, more: dict[str, Any], named: str
) -> None:
    status, reply = ask(address, CHAT, ASKED | more)
    assert status == 400
    assert named in reply["error"]["message"]


@pytest.mark.parametrize(
    ("more", "said", "param"),
    [
        (
            {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]},
            "input: item 0 of type 'function_call' is not supported here: send messages",
            "input",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input.0.content: a part of type 'input_image' is not supported here: send text",
            "input.0.content",
        ),
        (
            {"previous_response_id": "resp_1"},
            "previous_response_id: only null is supported here",
            "previous_response_id",
        ),
    ],
)
def test_what_responses_refuse_is_named(
    address: str, more: dict[str, Any], said: str, param: str
) -> None:
    status, reply = ask(address, "/v1/responses", {"model": MODEL, "input": "Hi"} | more)
    error = reply["error"]
    assert (status, error["message"], error["param"]) == (400, said, param)


def test_an_answer_without_a_limit_goes_on_to_its_end() -> None:  # 29
    said = "word " * 60  # 300 tokens of a byte
    engine = NestEngine(ScriptedLanguageModel(said), config=NestConfig(method="lm"))
    with served(engine) as address:
        for path, body in ((CHAT, ASKED), ("/v1/completions", {"model": MODEL, "prompt": "Say:"})):
            _, reply = ask(address, path, body)
            [choice] = reply["choices"]
            assert (choice["finish_reason"], reply["usage"]["completion_tokens"]) == ("stop", 301)
            assert choice["nest"]["notices"] == []


def test_a_limit_beyond_the_context_is_told(address: str) -> None:  # 31
    engine = NestEngine(ScriptedLanguageModel(SAID, context_length=512), retriever=Fixed([HELIUM]))
    with served(engine) as small:
        status, reply = ask(small, CHAT, ASKED | {"max_tokens": 8192})
        assert status == 200
        notices = reply["choices"][0]["nest"]["notices"]
        assert any("8,192 tokens were asked for" in notice for notice in notices)
        assert any("the answer was limited to" in notice for notice in notices)
        assert not any("were placed in the prompt" in notice for notice in notices)


def test_several_answers_count_their_prompt_once(address: str) -> None:
    _, one = ask(address, CHAT, ASKED)
    _, three = ask(address, CHAT, ASKED | {"n": 3})
    assert three["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"]
    assert three["usage"]["completion_tokens"] == 3 * one["usage"]["completion_tokens"]


def test_parts_of_a_message_are_set_apart() -> None:
    heard = []

    class Listening(ScriptedLanguageModel):
        def prefill(self, prompts: Any) -> Any:
            heard.append(bytes(prompts[0]).decode())
            return super().prefill(prompts)

    parts = [{"type": "text", "text": "One"}, {"type": "text", "text": "Two"}]
    with served(NestEngine(Listening("Yes."), config=NestConfig(method="lm"))) as address:
        ask(address, CHAT, ASKED | {"messages": [{"role": "user", "content": parts}]})
    assert "One\nTwo" in heard[0]


def test_passages_stand_in_front_of_the_last_question(tiny: str) -> None:  # 30
    turns = [("user", "Tell me of gases."), ("assistant", "Gladly."), ("user", "How heavy is it?")]
    asked = {
        "model": MODEL,
        "messages": [{"role": role, "content": text} for role, text in turns],
        "max_tokens": 4,
        "nest": {
            "query": "How heavy is helium?",
            "method": "ra-nest",
            "passages": [{"text": "Helium weighs four units, no more than that."}],
        },
    }
    status, reply = ask(tiny, CHAT, asked)
    assert status == 200
    assert not any("did not read" in each for each in reply["choices"][0]["nest"]["notices"])
    engine = NestEngine(tiny_model("llama"), tokenizer())
    prompt = engine.format_chat([Message(*turn) for turn in turns])
    output = engine.generate(
        prompt,
        passages=[Passage("Helium weighs four units, no more than that.")],
        query="How heavy is helium?",
        method="ra-nest",
        max_new_tokens=4,
    )
    before, _, after = output.prompt.partition("Background: Helium weighs")
    assert before.endswith("<|im_start|>user\n")
    assert "How heavy is it?<|im_end|>" in after


def test_a_quotation_of_an_earlier_turn_is_no_background() -> None:
    passages = [Passage("Helium weighs four units, no more than that."), NEON]
    engine = NestEngine(tiny_model("llama"), tokenizer())
    plain = NestEngine(tiny_model("llama"), tokenizer(None))
    turns = [
        Message("user", "How heavy is helium?"),
        Message("assistant", f"It is said: {passages[0].text}"),
        Message("user", "And neon?"),
    ]
    for each in (engine, plain):
        output = each.generate(
            each.format_chat(turns), passages=passages, query="And neon?", method="ra",
            max_new_tokens=4,
        )  # fmt: skip
        assert output.prompt.count("The gas neon glows red.") == 1
        given = f"{passages[0].text}\n\nAnd neon?"
        output = each.generate(
            each.format_chat([Message("user", given)]), passages=passages, query="And neon?",
            method="ra", max_new_tokens=4,
        )  # fmt: skip
        assert "Background" not in output.prompt


@pytest.mark.parametrize("template", [TEMPLATE, None])
def test_an_answer_that_was_begun_is_continued(template: str | None) -> None:
    engine = NestEngine(tiny_model("llama"), tokenizer(template))
    turns = [Message("user", "Name a gas."), Message("assistant", "Helium and")]
    assert engine.format_chat(turns).endswith("Helium and")
    with served(engine) as address:
        sent = [{"role": role, "content": text} for role, text, _ in turns]
        status, reply = ask(address, CHAT, ASKED | {"messages": sent, "max_tokens": 3})
        assert status == 200
        assert not message(reply)["content"].startswith("Helium")


def test_streams_are_not_held_back_on_their_way(address: str) -> None:  # 32
    for more in ({}, {"Authorization": "Bearer k"}):
        connection = Connection(address, CHAT, ASKED | {"stream": True}, **more)
        response = connection.response()
        assert response.getheader("x-accel-buffering") == "no"
        assert "no-store" in (response.getheader("cache-control") or "")
        list(events(response))
        connection.close()
    with served(scripted_engine(), api_key="k") as locked:
        connection = Connection(locked, CHAT, ASKED | {"stream": True}, Authorization="Bearer k")
        response = connection.response()
        assert response.getheader("x-accel-buffering") == "no"
        assert "no-store" in (response.getheader("cache-control") or "")
        connection.close()


def test_a_slow_stream_begins_with_a_comment() -> None:
    class Slow(Fixed):
        def retrieve(self, queries: Any, k: int) -> Any:
            import time

            time.sleep(1.5)
            return super().retrieve(queries, k)

    engine = scripted_engine()
    engine.retriever = Slow([HELIUM])  # type: ignore[assignment]
    with served(engine) as address:
        connection = Connection(address, CHAT, ASKED | {"stream": True})
        response = connection.response()
        assert response.readline().startswith(b": ")
        said = [each["choices"][0]["delta"].get("content", "") for each in events(response)]
        assert "".join(said).strip()
        connection.close()


def get(address: str, **headers: str) -> tuple[int, bytes, http.client.HTTPResponse]:
    connection = Connection(address, "/v1/models", **headers)
    response = connection.response()
    body = response.read()
    connection.close()
    return response.status, body, response


def test_other_hosts_and_pages_are_let_in_by_name() -> None:  # 33
    host, page = "host.docker.internal", "app://obsidian.md"
    with served(scripted_engine()) as address:
        status, body, _ = get(address, Host=f"{host}:8000")
        assert (status, b"--allow-host host.docker.internal" in body) == (421, True)
        status, body, _ = get(address, Origin=page)
        assert (status, b"--allow-origin app://obsidian.md" in body) == (403, True)
    with served(scripted_engine(), allow_hosts=[host], allow_origins=[page]) as address:
        assert get(address, Host=f"{host}:8000")[0] == 200
        assert get(address, Host="other:8000")[0] == 421
        status, _, response = get(address, Origin=page)
        assert (status, response.getheader("access-control-allow-origin")) == (200, page)
        status, _, response = get(address, Origin="https://other.example")
        assert (status, response.getheader("access-control-allow-origin")) == (403, None)
        preflight = {"Origin": page, "Access-Control-Request-Method": "POST"}
        connection = Connection(address, CHAT, method="OPTIONS", **preflight)
        assert connection.response().status == 200
        connection.close()


def test_offsets_for_javascript() -> None:  # 34
    passage = Passage("Helium is light, they say, and rises in the air above us all.")
    said = f"🎈 {passage.text}"
    with served(scripted_engine(said, [passage])) as address:
        _, reply = ask(address, CHAT, ASKED | {"nest": {"method": "lossless"}})
        [annotation] = message(reply)["annotations"]
        known, place = annotation["nest"], annotation["url_citation"]
        units = message(reply)["content"].encode("utf-16-le")
        start, end = place["utf16_start_index"], place["utf16_end_index"]
        assert units[2 * start : 2 * end].decode("utf-16-le") == known["cited_text"]
        assert start == place["start_index"] + 1


def test_documents_are_passages(address: str) -> None:
    documents = [
        HELIUM.text,
        {"id": "d1", "data": {"snippet": NEON.text, "title": "Neon", "url": "https://x.example"}},
    ]
    _, reply = ask(address, CHAT, ASKED | {"documents": documents})
    cited = [each["nest"] for each in message(reply)["annotations"]]
    assert [each["title"] for each in cited] == ["", "Neon"]
    assert (cited[1]["passage_id"], cited[1]["uri"]) == ("d1", "https://x.example")
    status, reply = ask(address, CHAT, ASKED | {"documents": [{"id": "empty"}]})
    assert (status, "a document has no text" in reply["error"]["message"]) == (400, True)


def test_completions_and_embeddings(address: str) -> None:
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="-", max_retries=0, timeout=SECONDS)
    whole = client.completions.create(model=MODEL, prompt=QUESTION, max_tokens=400)
    assert whole.choices[0].text == SAID
    stream = client.completions.create(model=MODEL, prompt=QUESTION, max_tokens=400, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices) == SAID
    vectors = client.embeddings.create(model=MODEL, input=["aa", "eio"])
    assert [each.embedding for each in vectors.data] == [[2, 0, 0, 0, 0], [0, 1, 1, 1, 0]]
    with served(scripted_engine()) as other:
        status, reply = ask(other, "/v1/embeddings", {"model": MODEL, "input": "a"})
        assert (status, "no embedder" in reply["error"]["message"]) == (404, True)


def test_tools_are_called_and_their_results_read() -> None:
    called = '<tool_call>{"name": "search", "arguments": {"q": "helium"}}</tool_call>'
    model = ScriptedLanguageModel(called)
    model.tokenizer = WithTools()  # type: ignore[assignment]
    engine = NestEngine(model, config=NestConfig(method="lm"))
    with served(engine) as address:
        _, reply = ask(address, CHAT, ASKED | {"tools": [SEARCH]})
        [choice] = reply["choices"]
        [call] = choice["message"]["tool_calls"]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
        assert call["function"] == {"name": "search", "arguments": '{"q": "helium"}'}
        connection = Connection(address, CHAT, ASKED | {"tools": [SEARCH], "stream": True})
        deltas = [each["choices"][0] for each in events(connection.response())]
        connection.close()
        assert "".join(each["delta"].get("content") or "" for each in deltas) == ""
        [streamed] = [
            each["delta"]["tool_calls"] for each in deltas if "tool_calls" in each["delta"]
        ]
        assert streamed[0]["function"] == call["function"]
        assert deltas[-1]["finish_reason"] == "tool_calls"
        turns = [
            *ASKED["messages"],
            choice["message"],
            {"role": "tool", "tool_call_id": call["id"], "content": "It is a gas."},
        ]
        status, _ = ask(address, CHAT, ASKED | {"messages": turns, "tools": [SEARCH]})
        assert status == 200
        chosen = {"type": "function", "function": {"name": "other"}}
        status, reply = ask(address, CHAT, ASKED | {"tools": [SEARCH], "tool_choice": chosen})
        assert (status, "names no bound tool" in reply["error"]["message"]) == (400, True)


class WithTools:
    """The bytes' tokenizer with a template that writes tools."""

    def __init__(self) -> None:
        self._bytes = ScriptedLanguageModel("").tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bytes, name)

    def format_chat(self, messages: Any, *, tools: Any = (), **variables: Any) -> str:
        owner = copy.deepcopy(tiny_tokenizer())
        owner.chat_template = TOOLS
        from nest_engine.models.tokenization import TextTokenizer

        written = TextTokenizer(owner).format_chat(messages, tools=tools, **variables)
        return f"{written}\nAnswer:"


def test_a_reply_is_json_that_every_client_reads(address: str) -> None:
    status, reply = ask(address, CHAT, ASKED)
    assert status == 200
    assert json.loads(json.dumps(reply)) == reply


@pytest.mark.parametrize("given", ["*", "*.lan", ".lan", "http://gpu.lan:8000/"])
def test_hosts_are_let_in_by_patterns(given: str) -> None:
    with served(scripted_engine(), allow_hosts=[given]) as address:
        assert get(address, Host="gpu.lan:8000")[0] == 200
        assert get(address, Host="evil-lan")[0] == (200 if given == "*" else 421)


def test_origins_are_compared_as_browsers_write_them() -> None:
    page = "app://obsidian.md"
    with served(scripted_engine(), allow_origins=["App://Obsidian.md/"]) as address:
        _, _, response = get(address, Origin=page)
        assert response.getheader("access-control-allow-origin") == page


def test_a_page_that_may_not_ask_is_told_of_the_option() -> None:
    with served(scripted_engine(), api_key="secret") as address:
        status, reply = ask(address, CHAT, method="OPTIONS", Origin="app://obsidian.md")
    assert status == 401
    assert "--allow-origin app://obsidian.md lets it in" in reply["error"]["message"]


def test_the_proxy_lets_others_in_by_name_too() -> None:
    from nest_engine.serving.server import create_proxy
    from nest_engine.serving.server.app import api_server
    from tests.serving import running

    page = "app://obsidian.md"
    with served(scripted_engine()) as upstream:
        app = create_proxy(f"{upstream}/v1", allow_hosts=["gpu.local"], allow_origins=[page])
        with running(app, api_server) as address:
            assert get(address, Host="gpu.local:8000")[0] == 200
            assert get(address, Host="other.local")[0] == 421
            status, _, response = get(address, Origin=page)
            assert (status, response.getheader("access-control-allow-origin")) == (200, page)
