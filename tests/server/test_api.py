"""The API on a real server: what it answers, what it refuses, and nobody decodes in vain."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest

from nest_engine import NestConfig, NestEngine, Passage
from nest_engine.serving.server import Limits
from nest_engine.testing import ScriptedLanguageModel
from tests.server.support import (
    ASKED,
    MODEL,
    QUESTION,
    Connection,
    ask,
    events,
    faithful_engine,
    served,
    wait_until,
)
from tests.ui.support import HELIUM, NEON, SAID, Gate

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
COMPLETIONS = "/v1/completions"
ASKED_RESPONSES = {"model": MODEL, "input": QUESTION}
BOTH = pytest.mark.parametrize(("path", "asked"), [(CHAT, ASKED), (RESPONSES, ASKED_RESPONSES)])


def expected(**settings: Any) -> Any:
    return faithful_engine().ask(QUESTION, **settings)


def metric(address: str, name: str) -> float:
    connection = Connection(address, "/metrics")
    text = connection.response().read().decode()
    connection.close()
    [value] = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(name + " ")]
    return float(value)


# What it answers


def test_a_chat_completion_carries_its_citations(address: str) -> None:
    status, reply = ask(address, CHAT, ASKED)
    answer = expected()
    [choice] = reply["choices"]
    message = choice["message"]
    assert (status, reply["object"], reply["model"]) == (200, "chat.completion", MODEL)
    assert (message["role"], message["content"], choice["finish_reason"]) == (
        "assistant",
        SAID,
        "stop",
    )
    assert [annotation["nest"] for annotation in message["annotations"]] == [
        c.to_dict() for c in answer.citations
    ]
    for annotation in message["annotations"]:
        cited, nest = annotation["url_citation"], annotation["nest"]
        source = {HELIUM.id: HELIUM, NEON.id: NEON}[nest["passage_id"]]
        quoted = message["content"][cited["start_index"] : cited["end_index"]]
        assert (
            quoted == source.text[nest["source_start"] : nest["source_end"]] == nest["cited_text"]
        )
        assert (cited["url"], cited["title"]) == (source.uri, source.title)
    assert len(message["annotations"]) == 2
    assert reply["usage"] == answer.usage | {"prompt_tokens_details": {"cached_tokens": 0}}
    assert choice["nest"]["method"] == "lossless"
    assert choice["nest"]["stats"]["lm_forwards"] == answer.stats.lm_forwards


def test_a_response_carries_its_citations(address: str) -> None:
    status, reply = ask(address, RESPONSES, ASKED_RESPONSES)
    answer = expected()
    [message] = reply["output"]
    [part] = message["content"]
    assert (status, reply["object"], reply["status"], message["status"]) == (
        200,
        "response",
        "completed",
        "completed",
    )
    assert (part["type"], part["text"]) == ("output_text", SAID)
    assert [annotation["nest"] for annotation in part["annotations"]] == [
        c.to_dict() for c in answer.citations
    ]
    assert [part["text"][a["start_index"] : a["end_index"]] for a in part["annotations"]] == [
        citation.cited_text for citation in answer.citations
    ]
    assert reply["usage"]["output_tokens"] == answer.usage["completion_tokens"]


def test_sentences_have_the_offsets_of_javascript() -> None:
    engine = NestEngine(
        ScriptedLanguageModel("\U0001f388 Hi. Yes."), config=NestConfig(method="lm")
    )
    with served(engine) as address:
        _, reply = ask(address, CHAT, ASKED)
    last = reply["choices"][0]["nest"]["sentences"][-1]
    assert (last["utf16_start"], last["utf16_end"]) == (last["start"] + 1, last["end"] + 1)


def test_a_streamed_chat_is_the_whole_one_in_pieces(address: str) -> None:
    connection = Connection(
        address, CHAT, ASKED | {"stream": True, "stream_options": {"include_usage": True}}
    )
    chunks = list(events(connection.response()))
    connection.close()
    _, whole = ask(address, CHAT, ASKED)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    message = whole["choices"][0]["message"]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content", "") for delta in deltas) == message["content"]
    cited = [annotation for delta in deltas for annotation in delta.get("annotations", ())]
    assert [annotation.pop("index") for annotation in cited] == [0, 1]
    assert cited == message["annotations"]
    assert len(deltas) > 5
    *_, last, usage = chunks
    assert last["choices"][0]["finish_reason"] == "stop"
    assert (usage["choices"], usage["usage"]) == ([], whole["usage"])
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert {(chunk["id"], chunk["object"]) for chunk in chunks} == {
        (chunks[0]["id"], "chat.completion.chunk")
    }


def test_a_streamed_response_is_the_whole_one_in_pieces(address: str) -> None:
    connection = Connection(address, RESPONSES, ASKED_RESPONSES | {"stream": True})
    told = list(events(connection.response()))
    connection.close()
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    kinds = [event["type"] for event in told]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    [message] = told[-1]["response"]["output"]
    [part] = message["content"]
    assert (
        "".join(e["delta"] for e in told if e["type"] == "response.output_text.delta")
        == part["text"]
        == SAID
    )
    cited = [e for e in told if e["type"] == "response.output_text.annotation.added"]
    assert [e["annotation"] for e in cited] == part["annotations"]
    assert [e["annotation_index"] for e in cited] == [0, 1]
    assert {e["item_id"] for e in told if "item_id" in e} == {message["id"]}


@BOTH
def test_settings_and_passages_come_with_the_request(
    address: str, path: str, asked: dict[str, Any]
) -> None:
    given = {
        "text": SAID,
        "title": "Given",
        "uri": "https://example.org/given",
        "metadata": {"page": 3},
    }
    nest = {"passages": [given], "min_citation_tokens": 5, "max_draft_tokens": 7}
    limit = "max_tokens" if path == CHAT else "max_output_tokens"
    _, reply = ask(address, path, asked | {"nest": nest, limit: 60, "stop": ["in the light"]})
    alone = expected(
        **nest | {"passages": [Passage(**given)]}, max_new_tokens=60, stop=["in the light"]
    )
    part = reply["choices"][0]["message"] if path == CHAT else reply["output"][0]["content"][0]
    remarks = reply["choices"][0]["nest"] if path == CHAT else reply["nest"]
    assert (part["content"] if path == CHAT else part["text"]) == alone.text
    assert [annotation["nest"] for annotation in part["annotations"]] == [
        c.to_dict() for c in alone.citations
    ]
    assert {annotation["nest"]["title"] for annotation in part["annotations"]} == {"Given"}
    assert remarks["stats"]["lm_forwards"] == alone.stats.lm_forwards
    _, reply = ask(address, path, asked | {"nest": {"method": "lm"}})
    remarks = reply["choices"][0]["nest"] if path == CHAT else reply["nest"]
    assert (remarks["method"], remarks["stats"]["attributed_share"]) == ("lm", 0)


def test_an_answer_that_was_cut_says_so(address: str) -> None:
    _, chat = ask(address, CHAT, ASKED | {"max_completion_tokens": 5})
    assert chat["choices"][0]["finish_reason"] == "length"
    assert chat["usage"]["completion_tokens"] == 5
    _, response = ask(address, RESPONSES, ASKED_RESPONSES | {"max_output_tokens": 5})
    assert response["status"] == response["output"][0]["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}


def test_several_choices_have_seeds_of_their_own() -> None:
    engine = NestEngine(
        ScriptedLanguageModel("abc" * 10, confidence=0.1), config=NestConfig(max_new_tokens=20)
    )
    asked = ASKED | {"n": 3, "temperature": 1.0, "seed": 5, "nest": {"method": "lm"}}
    alone = [
        engine.ask(QUESTION, method="lm", temperature=1.0, seed=5 + number).text
        for number in range(3)
    ]
    with served(engine) as address:
        _, reply = ask(address, CHAT, asked)
        assert [choice["message"]["content"] for choice in reply["choices"]] == alone
        assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2]
        connection = Connection(address, CHAT, asked | {"stream": True})
        texts = ["", "", ""]
        for chunk in events(connection.response()):
            [choice] = chunk["choices"]
            texts[choice["index"]] += choice["delta"].get("content", "")
        connection.close()
    assert texts == alone
    assert len(set(alone)) == 3


CALL = {"name": "find", "arguments": '{"gas": "neon"}'}


@pytest.mark.parametrize(
    ("turns", "heard"),
    [
        ([{"role": "assistant", "content": None, "refusal": "No."}], "Answer: No.\n"),
        (
            [{"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}],
            "Answer: No.",
        ),
        (
            [
                {"role": "assistant", "content": None, "function_call": CALL},
                {"role": "function", "name": "find", "content": "A gas."},
            ],
            "A gas.",
        ),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": "{"}}]}],
            "",
        ),
        ([{"role": "user", "content": ["Hi", "there"], "cache_control": {}}], "Hi\nthere"),
        (
            [
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "hm"},
                        {"type": "text", "text": "A gas.", "cache_control": {"type": "ephemeral"}},
                    ],
                }
            ],
            "Answer: A gas.\n",
        ),
    ],
)
def test_conversations_of_other_clients_are_read(turns: list[Any], heard: str) -> None:
    prompts: list[str] = []

    def say(text: bytes) -> int:
        prompts.append(text.decode())
        return 256

    asked = {"model": MODEL, "messages": [*ASKED["messages"], *turns, *ASKED["messages"]]}
    more = {"max_tokens": -1, "modalities": ["text"], "functions": [], "function_call": "none"}
    with served(NestEngine(ScriptedLanguageModel(say), config=NestConfig(method="lm"))) as address:
        assert ask(address, CHAT, asked | more)[0] == 200
    assert heard in max(prompts, key=len)


def test_documents_of_langchain_and_empty_ones(address: str) -> None:
    document = {
        "page_content": HELIUM.text,
        "metadata": {"source": "https://a.org/he", "title": "Gases", "page": 3},
    }
    empty = [{"page_content": "", "metadata": {}}, "", {"text": " "}]
    _, reply = ask(address, CHAT, ASKED | {"documents": [*empty, document]})
    [annotation] = reply["choices"][0]["message"]["annotations"]
    assert annotation["url_citation"]["url"] == "https://a.org/he"
    assert (annotation["nest"]["title"], annotation["nest"]["metadata"]) == ("Gases", {"page": 3})
    passages = [{"text": ""}, {"text": HELIUM.text}]
    _, reply = ask(address, CHAT, ASKED | {"nest": {"passages": passages}})
    assert len(reply["choices"][0]["message"]["annotations"]) == 1


def test_several_prompts_have_answers_of_their_own() -> None:
    def say(text: bytes) -> int:
        prompt, _, said = text.partition(b">")
        return 256 if said else prompt[-1]

    engine = NestEngine(ScriptedLanguageModel(say), config=NestConfig(method="lm"))
    asked = {"model": MODEL, "prompt": ["a>", "bcd>"], "n": 2}
    with served(engine) as address:
        _, reply = ask(address, COMPLETIONS, asked)
        assert [choice["text"] for choice in reply["choices"]] == ["a", "a", "d", "d"]
        assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2, 3]
        assert reply["usage"]["prompt_tokens"] == 6
        options = {"stream": True, "stream_options": {"include_usage": True}}
        connection = Connection(address, COMPLETIONS, asked | options)
        texts, usage = ["", "", "", ""], {}
        for chunk in events(connection.response()):
            for choice in chunk["choices"]:
                texts[choice["index"]] += choice["text"]
            usage = chunk.get("usage")
        connection.close()
    assert (texts, usage) == (["a", "a", "d", "d"], reply["usage"])


def test_a_completion_is_all_that_the_model_says() -> None:
    said = "<think>hm</think>Yes."
    with served(NestEngine(ScriptedLanguageModel(said))) as address:
        for prompt in ("Say:", "Say:<think>"):
            asked = {"model": MODEL, "prompt": prompt}
            assert ask(address, COMPLETIONS, asked)[1]["choices"][0]["text"] == said
            connection = Connection(address, COMPLETIONS, asked | {"stream": True})
            choices = [chunk["choices"][0] for chunk in events(connection.response())]
            connection.close()
            assert "".join(each["text"] for each in choices) == said


def test_the_whole_conversation_reaches_the_model() -> None:
    heard: list[str] = []

    def say(text: bytes) -> int:
        heard.append(text.decode(errors="replace"))
        return 256

    talk = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "neon?"}],
        },
        {"role": "assistant", "content": "A gas."},
        {"role": "user", "content": "And helium?"},
    ]
    with served(NestEngine(ScriptedLanguageModel(say))) as address:
        assert ask(address, CHAT, {"model": MODEL, "messages": talk})[0] == 200
        in_chat = max(heard, key=len)
        heard.clear()
        items = [item for item in talk if item["role"] != "system"]
        for item in items:
            if isinstance(item["content"], list):
                item["content"] = [part | {"type": "input_text"} for part in item["content"]]
        assert (
            ask(address, RESPONSES, {"model": MODEL, "instructions": "Be brief.", "input": items})[
                0
            ]
            == 200
        )
    assert in_chat == max(heard, key=len)
    assert (
        in_chat == "Be brief.\n\nQuestion: What is \nneon?\nAnswer: A gas.\n\n"
        "Question: And helium?\nAnswer:"
    )


def test_it_says_what_there_is(address: str) -> None:
    assert ask(address, "/health") == (200, {"status": "ok"})
    _, models = ask(address, "/v1/models")
    assert [model["id"] for model in models["data"]] == [MODEL]
    assert ask(address, f"/v1/models/{MODEL}")[1] == models["data"][0]
    before = metric(address, "nest_completion_tokens_total")
    _, reply = ask(address, CHAT, ASKED)
    assert (
        metric(address, "nest_completion_tokens_total")
        == before + reply["usage"]["completion_tokens"]
    )
    assert (metric(address, "nest_running"), metric(address, "nest_waiting")) == (0, 0)


# What it refuses


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (CHAT, b"{", 400, "the request is not JSON"),
        (CHAT, b"\xff", 400, "the request is not JSON"),
        (CHAT, b"[" * 100_000, 400, "the request is not JSON"),
        (CHAT, b"[]", 400, "Input should be an object"),
        (CHAT, b'"\\ud800"', 400, "the request is not JSON"),
        (CHAT, {"model": MODEL}, 400, "messages: Field required"),
        (CHAT, ASKED | {"messages": []}, 400, "messages: List should have at least 1 item"),
        (CHAT, ASKED | {"messages": "Hello"}, 400, "messages: Input should be a valid array"),
        (CHAT, ASKED | {"messages": [{"role": "boss", "content": "x"}]}, 400, "messages.0.role: "),
        (
            CHAT,
            ASKED | {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            400,
            "messages.0.content: a part of type 'image_url' is not supported here: send text",
        ),
        (CHAT, ASKED | {"functions": [CALL]}, 400, "functions is not supported here; send tools"),
        (
            CHAT,
            ASKED | {"model": "gpt-4o"},
            404,
            "the model 'gpt-4o' does not exist here; this server has 'scripted'",
        ),
        (CHAT, ASKED | {"temperature": "hot"}, 400, "temperature: Input should be a valid number"),
        (CHAT, ASKED | {"temperature": float("nan")}, 400, ""),
        (CHAT, ASKED | {"top_p": 0}, 400, "top_p: Input should be greater than 0"),
        (
            CHAT,
            ASKED | {"n": 10**9},
            400,
            "n asks for 1,000,000,000 answers; this server takes at most 8",
        ),
        (CHAT, ASKED | {"n": 10**30}, 400, "n asks for "),
        (CHAT, ASKED | {"n": 0}, 400, "n: Input should be greater than or equal to 1"),
        (CHAT, ASKED | {"max_tokens": 5, "max_completion_tokens": 6}, 400, "contradict each other"),
        (
            CHAT,
            ASKED | {"stream_options": {"include_usage": True}},
            400,
            "stream_options is only for streams",
        ),
        (CHAT, ASKED | {"seed": 2**70}, 400, "seed: "),
        (CHAT, ASKED | {"stop": [""]}, 400, "expected non-empty strings"),
        (
            CHAT,
            ASKED | {"tools": [{"type": "function"}]},
            400,
            "tools.0.function: Field required",
        ),
        (CHAT, ASKED | {"frequency_penalty": 0.5}, 400, "frequency_penalty: only 0 is supported"),
        (CHAT, ASKED | {"best_of": 2}, 400, "best_of is not supported here; leave it out"),
        (CHAT, ASKED | {"nest": {"alfa": 1}}, 400, "nest.alfa is not supported here"),
        (CHAT, ASKED | {"nest": {"tuned": {}}}, 400, "nest.tuned is not supported here"),
        (
            CHAT,
            ASKED | {"nest": {"gamma": 2}},
            400,
            "gamma=2.0 is not valid: expected a number from 0 to 1",
        ),
        (CHAT, ASKED | {"nest": {"method": "magic"}}, 400, "nest.method: only 'lm'"),
        (CHAT, ASKED | {"nest": {"passages": ["x"]}}, 400, "nest.passages.0: "),
        (
            CHAT,
            ASKED | {"nest": {"passages": [{"text": "x"}] * 65}},
            400,
            "has 65 passages; this server takes at most 64",
        ),
        (
            CHAT,
            ASKED | {"nest": {"num_passages": 10**9}},
            400,
            "num_passages asks for 1,000,000,000 passages",
        ),
        (
            RESPONSES,
            ASKED_RESPONSES | {"previous_response_id": "resp_1"},
            400,
            "previous_response_id: ",
        ),
        (COMPLETIONS, {"model": MODEL, "prompt": []}, 400, "prompt: "),
        (COMPLETIONS, {"model": MODEL, "prompt": ""}, 400, "the prompt is empty"),
        (COMPLETIONS, {"model": MODEL, "prompt": [1, 2]}, 400, "prompt: token ids are not"),
        (COMPLETIONS, {"model": MODEL, "prompt": [[1, 2]]}, 400, "send the text"),
        (COMPLETIONS, {"model": MODEL, "prompt": ["a"] * 65}, 400, "prompt has 65 texts"),
        ("/v1/embeddings", {"model": MODEL, "input": [[1]]}, 400, "check_embedding_ctx_length"),
        (RESPONSES, ASKED_RESPONSES | {"store": True}, 400, "store: only False"),
        (RESPONSES, ASKED_RESPONSES | {"n": 2}, 400, "n is not supported here"),
        (
            RESPONSES,
            {"model": MODEL, "input": [{"role": "user", "content": "x", "type": "call"}]},
            400,
            "input",
        ),
    ],
)
def test_what_cannot_be_answered_is_named(
    address: str, path: str, body: Any, status: int, message: str
) -> None:
    found, reply = ask(address, path, body)
    assert found == status
    assert message in reply["error"]["message"]
    assert reply["error"]["type"] == "invalid_request_error"


def test_other_types_paths_and_methods_are_refused(address: str) -> None:
    status, reply = ask(address, CHAT, b"{}", Content_Type="text/plain")
    assert (status, reply["error"]["message"]) == (
        415,
        "the request is of type 'text/plain'; send application/json",
    )
    status, reply = ask(address, "/v1/moderations", ASKED)
    assert (status, reply["error"]["message"][:15]) == (404, "/v1/moderations")
    status, reply = ask(address, CHAT)
    assert (status, reply["error"]["message"][:41]) == (
        405,
        "/v1/chat/completions does not take GET; /",
    )


def test_limits_hold() -> None:
    limits = Limits(body_bytes=2_000, prompt_chars=100, passage_chars=50)
    with served(faithful_engine(), limits=limits) as address:
        long = {"model": MODEL, "messages": [{"role": "user", "content": "x" * 101}]}
        status, reply = ask(address, CHAT, long)
        assert (status, reply["error"]["message"]) == (
            400,
            "the messages have 101 characters; this server takes at most 100",
        )
        status, reply = ask(address, CHAT, ASKED | {"nest": {"passages": [{"text": "x" * 51}]}})
        assert (status, reply["error"]["message"][:28]) == (400, "a passage has 51 characters;")
        status, reply = ask(address, CHAT, ASKED | {"user": "x" * 3_000})
        assert (status, reply["error"]["message"]) == (
            413,
            "the request is longer than 2,000 bytes; send a shorter one",
        )


def test_a_prompt_longer_than_the_context_is_named_before_a_stream_begins() -> None:
    with served(NestEngine(ScriptedLanguageModel("abc", context_length=20))) as address:
        for stream in (False, True):
            status, reply = ask(address, CHAT, ASKED | {"stream": stream})
            assert (status, reply["error"]["code"]) == (400, "context_length_exceeded")
            assert "the model's context holds 20" in reply["error"]["message"]


class Failing:
    """A passage store that is down for some questions."""

    def retrieve(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        if "neon" in queries[0]:
            raise OSError("the store is down")
        return [[HELIUM] for _ in queries]


def test_a_passage_store_that_fails_fails_one_request(caplog: pytest.LogCaptureFixture) -> None:
    engine = faithful_engine()
    engine.retriever = Failing()
    with served(engine) as address:
        status, reply = ask(
            address, CHAT, ASKED | {"messages": [{"role": "user", "content": "What is neon?"}]}
        )
        assert (status, reply["error"]["code"]) == (502, "passage_search_failed")
        assert reply["error"]["message"] == "the passage search failed; the server's log says more"
        assert "Failing failed: the store is down" in caplog.text
        assert ask(address, CHAT, ASKED)[0] == 200


@BOTH
def test_a_failure_in_a_stream_is_its_last_event(path: str, asked: dict[str, Any]) -> None:
    def say(text: bytes) -> int:
        if text.endswith(b"Answer:aaa"):
            raise RuntimeError("the device is gone")
        return ord("a")

    with served(NestEngine(ScriptedLanguageModel(say), config=NestConfig(method="lm"))) as address:
        connection = Connection(address, path, asked | {"stream": True})
        *_, last = events(connection.response())
        connection.close()
        assert last["error"]["code"] == "decoding_failed"
        assert "RuntimeError: the device is gone" in last["error"]["message"]
        assert ask(address, "/health") == (200, {"status": "ok"})


# Who may ask


def test_a_key_is_asked_for_everywhere_but_at_the_health_check() -> None:
    with served(faithful_engine(), api_key="sesame") as address:
        assert ask(address, "/health")[0] == 200
        for path, body in (
            (CHAT, ASKED),
            ("/v1/models", None),
            ("/metrics", None),
            ("/openapi.json", None),
            ("/x", None),
        ):
            for headers in (
                {},
                {"Authorization": "Bearer wrong"},
                {"Authorization": "sesame"},
                {"Authorization": "ü"},
            ):
                status, reply = ask(address, path, body, **headers)
                assert (status, reply["error"]["code"]) == (401, "invalid_api_key")
        assert ask(address, CHAT, ASKED, Authorization="Bearer sesame")[0] == 200
        assert (
            ask(address, CHAT, ASKED, Authorization="bearer  sesame", Host="nest.example")[0] == 200
        )
    with served(faithful_engine(), api_key="voilà ") as address:
        assert (
            ask(address, CHAT, ASKED, Authorization="Bearer voilà".encode().decode("latin-1"))[0]
            == 200
        )


def test_without_a_key_other_sites_may_not_ask(address: str) -> None:
    assert ask(address, CHAT, ASKED, Host="evil.example")[0] == 421
    status, reply = ask(address, CHAT, ASKED, Origin="http://evil.example")
    assert (status, reply["error"]["message"]) == (
        403,
        "only this server's own page may ask; --allow-origin http://evil.example lets it in",
    )


# Nobody decodes for who has left


@pytest.mark.parametrize("stream", [True, False])
@BOTH
def test_a_client_that_leaves_ends_decoding_within_a_step(
    gate: Gate, path: str, asked: dict[str, Any], stream: bool
) -> None:
    with served(gate.engine) as address:
        connection = Connection(address, path, asked | {"stream": stream})
        gate.permits.release(3)
        if stream:
            response = connection.response()
            told = events(response)
            text = ""
            while len(text) < 3:
                event = next(told)
                choices = event.get("choices") or [{"delta": {"content": event.get("delta", "")}}]
                text += choices[0]["delta"].get("content", "")
            response.close()
        else:
            wait_until(lambda: gate.permits._value == 0)
        connection.close()
        wait_until(lambda: metric(address, "nest_disconnects_total") == 1)
        before = gate.model.num_forwards
        gate.permits.release(1_000)
        wait_until(lambda: metric(address, "nest_running") == 0)
        assert gate.model.num_forwards <= before + 1


def test_a_full_queue_says_when_to_ask_again(gate: Gate) -> None:
    with served(gate.engine, scheduling={"max_running": 1, "max_waiting": 1}) as address:
        connections = [Connection(address, CHAT, ASKED) for _ in range(2)]
        wait_until(lambda: metric(address, "nest_running") + metric(address, "nest_waiting") == 2)
        refused = Connection(address, CHAT, ASKED)
        response = refused.response()
        assert (response.status, response.getheader("Retry-After")) == (503, "1")
        assert json.loads(response.read())["error"]["code"] == "queue_full"
        refused.close()
        gate.open()
        for connection in connections:
            assert connection.response().status == 200
            connection.close()


def test_many_at_once_get_the_answers_they_would_get_alone() -> None:
    """Each with its own passage: no citation crosses from one request to another."""
    said = "It was seen in 1868, in the light of the Sun. " * 3
    engine = NestEngine(
        ScriptedLanguageModel(said, confidence=0.97), config=NestConfig(max_new_tokens=60)
    )
    passages = [
        {"text": f"{number} " + said[number : number + 60], "id": f"p{number}"}
        for number in range(12)
    ]
    bodies = [
        ASKED
        | {
            "temperature": 1.0,
            "seed": number,
            "nest": {"passages": [passages[number]], "method": method},
        }
        for number, method in enumerate(["nest", "lossless", "ra-nest", "knn-lm"] * 3)
    ]
    with served(engine, scheduling={"max_running": 5}) as address:
        alone = [ask(address, CHAT, body)[1]["choices"][0]["message"] for body in bodies]
        connections = []
        for body in bodies:
            connections.append(Connection(address, CHAT, body))
            time.sleep(0.01)
        together = [
            json.loads(connection.response().read())["choices"][0]["message"]
            for connection in connections
        ]
        for connection in connections:
            connection.close()
    assert together == alone
    for number, message in enumerate(together):
        assert {annotation["nest"]["passage_id"] for annotation in message["annotations"]} <= {
            f"p{number}"
        }
    assert sum(len(message["annotations"]) for message in together) >= 3
