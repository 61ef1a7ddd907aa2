"""`nest serve --upstream`: another server's answers, with exact citations."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import openai
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from nest_engine import InputError, Passage
from nest_engine.retrieval import BM25Retriever
from nest_engine.serving.server import Limits, create_proxy, events
from nest_engine.serving.server.app import api_server
from tests.serving import running
from tests.ui.support import SECONDS

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

HELIUM = Passage(
    "Helium was first detected in 1868 as an unknown, yellow spectral line. It is inert.",
    id="he",
    title="Helium",
    uri="https://a.org/he",
)
ARGON = Passage(
    "Argon is the third-most abundant gas in the Earth's atmosphere.", id="ar", title="Argon"
)
ANSWER = (
    "As you ask 🎈: helium was first detected in 1868 as an unknown, yellow spectral\u2028line. "
    "Argon is the third-most abundant gas in the Earth’s atmosphere. That is all."
)
CITED = [
    "was first detected in 1868 as an unknown, yellow spectral line.",
    "Argon is the third-most abundant gas in the Earth's atmosphere.",
]
ASKED: dict[str, Any] = {
    "model": "other",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who detected helium, and what of argon?"},
    ],
}


class Upstream:
    """A server that is not ours: it remembers what it was asked, and answers as it is told."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.reply: Callable[[dict[str, Any]], Response] = self.answer
        self.line_end = b"\n"

    async def chat(self, request: Request) -> Response:
        body = await request.body()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        return self.reply(json.loads(body))

    async def other(self, request: Request) -> Response:
        self.headers.append(dict(request.headers))
        body = (await request.body()).decode()
        return JSONResponse(
            {"path": request.url.path, "query": str(request.query_params), "body": body},
            headers={"x-request-id": "7"},
        )

    def answer(self, asked: dict[str, Any]) -> Response:
        if asked.get("stream"):
            return StreamingResponse(self.events(asked), media_type="text/event-stream")
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": ANSWER, "reasoning_content": "hm"},
                "finish_reason": "stop",
                "logprobs": None,
            }
            for index in range(asked.get("n", 1))
        ]
        return Response(self.written({"choices": choices, "usage": {"total_tokens": 5}}))

    def written(self, fields: dict[str, Any]) -> bytes:
        is_chunk = any("delta" in choice for choice in fields["choices"] or [{"delta": {}}])
        kind = "chat.completion.chunk" if is_chunk else "chat.completion"
        frame = {"id": "c1", "object": kind, "created": 1, "model": "other"}
        return json.dumps(frame | fields, ensure_ascii=False).encode()

    async def events(self, asked: dict[str, Any]) -> AsyncIterator[bytes]:
        end = 2 * self.line_end
        yield b": a comment" + end
        pieces = [ANSWER[i : i + 5] for i in range(0, len(ANSWER), 5)]
        for piece in pieces:
            for index in range(asked.get("n", 1)):
                choice = {"index": index, "delta": {"content": piece}, "finish_reason": None}
                data = b"data: " + self.written({"choices": [choice]}) + end
                # In the middle of a character, too.
                yield data[: len(data) // 2]
                yield data[len(data) // 2 :]
        for index in range(asked.get("n", 1)):
            choice = {"index": index, "delta": {}, "finish_reason": "stop"}
            yield b"data: " + self.written({"choices": [choice]}) + end
        yield b"data: " + self.written({"choices": [], "usage": {"total_tokens": 5}}) + end
        yield b"data: [DONE]" + end


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@contextmanager
def proxied(upstream: Upstream, **options: Any) -> Iterator[str]:
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", upstream.chat, methods=["POST"]),
            Route("/v1/{path:path}", upstream.other, methods=["GET", "POST", "DELETE"]),
        ]
    )
    retriever = options.pop("retriever", BM25Retriever([HELIUM, ARGON]))
    with running(app, api_server) as address:
        proxy = create_proxy(f"{address}/v1", retriever=retriever, **options)
        with running(proxy, api_server) as front:
            yield front


@pytest.fixture
def address(upstream: Upstream) -> Iterator[str]:
    with proxied(upstream) as address:
        yield address


@pytest.fixture
def client(address: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key="sk-1", max_retries=0, timeout=SECONDS)


def require_cited(text: str, annotations: Any) -> None:
    assert text == ANSWER
    records = [each if isinstance(each, dict) else each.model_dump() for each in annotations]
    assert [each["nest"]["cited_text"] for each in records] == CITED
    for record in records:
        place = record["url_citation"]
        said = text[place["start_index"] : place["end_index"]]
        assert said == (record["nest"]["answer_text"] or record["nest"]["cited_text"])


def test_a_whole_answer(client: openai.OpenAI, upstream: Upstream) -> None:
    reply = client.chat.completions.create(**ASKED, n=2, temperature=0.3)
    for choice in reply.choices:
        require_cited(choice.message.content or "", choice.message.annotations)
        assert choice.message.reasoning_content == "hm"  # type: ignore[attr-defined]
        kinds = [each["kind"] for each in choice.nest["sentences"]]  # type: ignore[attr-defined]
        assert kinds == ["spliced", "quoted", "own"]
    assert reply.usage is not None
    [body] = upstream.bodies
    assert json.loads(body) == {**ASKED, "n": 2, "temperature": 0.3}


def test_a_stream(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(**ASKED, n=2, stream=True))
    for index in (0, 1):
        choices = [c for chunk in chunks for c in chunk.choices if c.index == index]
        text = "".join(choice.delta.content or "" for choice in choices)
        came = [
            (number, each)
            for number, choice in enumerate(choices)
            for each in getattr(choice.delta, "annotations", None) or ()
        ]
        require_cited(text, [each for _, each in came])
        assert [each["index"] for _, each in came] == [0, 1]
        assert came[0][0] < len(choices) - 10  # long before the end
        assert choices[-1].finish_reason == "stop"
    assert chunks[-1].usage is not None


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_the_events_of_a_stream_pass_through_unchanged(
    address: str, upstream: Upstream, line_end: bytes
) -> None:
    upstream.line_end = line_end
    end = 2 * line_end
    asked = {**ASKED, "stream": True}
    with httpx.stream("POST", f"{address}/v1/chat/completions", json=asked) as reply:
        came = b"".join(reply.iter_bytes())
    events = came.replace(end, b"\n\n").split(b"\n\n")
    ours = [each for each in events if b"annotations" in each or b"sentences" in each]
    theirs = [each for each in events if each not in ours]

    async def expected() -> bytes:
        return b"".join([piece async for piece in upstream.events(asked)])

    import asyncio

    assert b"\n\n".join(theirs) == asyncio.run(expected()).replace(end, b"\n\n")
    assert len(ours) > 1


def test_the_openai_stream_helper(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(**ASKED) as stream:
        for _ in stream:
            pass
        message = stream.get_final_completion().choices[0].message
    require_cited(message.content or "", message.annotations)


def test_tools_and_unknown_fields_pass_through(client: openai.OpenAI, upstream: Upstream) -> None:
    call = {
        "id": "1",
        "type": "function",
        "function": {"name": "search", "arguments": '{"q": "x"}'},
    }
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    upstream.reply = lambda _: Response(
        upstream.written(
            {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
        )
    )
    tools: Any = [{"type": "function", "function": {"name": "search", "parameters": {}}}]
    reply = client.chat.completions.create(
        **ASKED, tools=tools, tool_choice="auto", extra_body={"mirostat": 2}
    )
    [called] = reply.choices[0].message.tool_calls or ()
    assert called.id == "1"
    sent = json.loads(upstream.bodies[0])
    assert (sent["tools"], sent["mirostat"]) == (tools, 2)


def test_a_request_may_bring_its_passages(client: openai.OpenAI, upstream: Upstream) -> None:
    nest = {"passages": [{"text": ARGON.text, "id": "mine"}]}
    reply = client.chat.completions.create(**ASKED, extra_body={"nest": nest})
    [citation] = reply.choices[0].message.annotations or ()
    assert citation.nest["passage_id"] == "mine"  # type: ignore[attr-defined]
    assert "nest" not in json.loads(upstream.bodies[0])


@pytest.mark.parametrize(
    "content", ["What is argon?", [{"type": "text", "text": "What is argon?"}]]
)
def test_passages_go_into_the_prompt_when_asked(
    client: openai.OpenAI, upstream: Upstream, content: Any
) -> None:
    messages: Any = [{"role": "user", "content": content}]
    client.chat.completions.create(
        model="other",
        messages=messages,
        extra_body={"nest": {"method": "ra", "prompt_passages": 1}},
    )
    [turn] = json.loads(upstream.bodies[0])["messages"]
    written = turn["content"]
    if isinstance(written, list):
        written = "".join(part["text"] for part in written)
    assert written == f"Argon\n{ARGON.text}\n\nWhat is argon?"


def test_no_documents_nothing_changes(upstream: Upstream) -> None:
    with proxied(upstream, retriever=None) as address:
        reply = httpx.post(f"{address}/v1/chat/completions", json=ASKED)
    assert reply.content == upstream.answer(ASKED).body


def test_other_routes_pass_through(address: str, upstream: Upstream) -> None:
    reply = httpx.get(f"{address}/v1/models/a%20b?limit=2", headers={"x-mine": "1"})
    assert reply.json() == {"path": "/v1/models/a b", "query": "limit=2", "body": ""}
    assert reply.headers["x-request-id"] == "7"
    assert upstream.headers[0]["x-mine"] == "1"
    assert httpx.post(f"{address}/v1/embeddings", content=b"\xc3\xa9").json()["body"] == "é"
    assert httpx.delete(f"{address}/v1/files/1").json()["path"] == "/v1/files/1"
    assert httpx.get(f"{address}/health").json() == {"status": "ok"}
    assert httpx.get(f"{address}/v1/%2e%2e/admin").status_code == 400


def test_a_path_never_leads_to_another_server(upstream: Upstream) -> None:
    asked: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        headers = [("set-cookie", "a=1"), ("set-cookie", "b=2")]
        return httpx.Response(200, headers=headers)

    proxy = create_proxy(
        "http://other:81/v1", upstream_key="sk", transport=httpx.MockTransport(answer)
    )
    with running(proxy, api_server) as address:
        host = httpx.URL(address)
        for path in (
            b"/v1/http://evil:9/steal",
            b"/v1//evil/steal",
            b"/v1/models/a%3Fb?c=%26",
            b"/v1/\\evil",
        ):
            reply = httpx.get(host.copy_with(raw_path=path))
            assert reply.status_code == 200
    assert [(url.host, url.port) for url in asked] == [("other", 81)] * 4
    assert all(url.path.startswith("/v1/") for url in asked)
    assert asked[2].raw_path == b"/v1/models/a%3Fb?c=%26"
    assert reply.headers.get_list("set-cookie") == ["a=1", "b=2"]


def test_odd_replies_pass_through(address: str, upstream: Upstream) -> None:
    message = {"role": "assistant", "content": ARGON.text, "annotations": 5}
    reply = {"choices": [{"index": [0], "message": message, "finish_reason": "stop"}]}
    upstream.reply = lambda _: Response(json.dumps(reply).encode())
    came = httpx.post(f"{address}/v1/chat/completions", json=ASKED).json()["choices"][0]["message"]
    assert came["content"] == ARGON.text
    assert len(came["annotations"]) == 1


def test_a_stream_without_an_end_is_cited(address: str, upstream: Upstream) -> None:
    chunk = {"choices": [{"index": [0], "delta": {"content": ARGON.text}}]}
    data = b"data: " + json.dumps(chunk).encode() + b"\n\n"
    upstream.reply = lambda _: Response(data, media_type="text/event-stream")
    asked = {**ASKED, "stream": True}
    came = httpx.post(f"{address}/v1/chat/completions", json=asked).content
    assert came.startswith(data)
    assert b"annotations" in came


def test_errors_and_retry_after_come_through(address: str, upstream: Upstream) -> None:
    error = {"error": {"message": "slow down", "type": "rate_limit_error", "code": "429"}}
    upstream.reply = lambda _: JSONResponse(error, 429, {"Retry-After": "17"})
    reply = httpx.post(f"{address}/v1/chat/completions", json=ASKED)
    assert (reply.status_code, reply.json(), reply.headers["retry-after"]) == (429, error, "17")


def test_an_upstream_that_is_not_there_is_named() -> None:
    proxy = create_proxy("http://127.0.0.1:9/v1", retriever=None)
    with running(proxy, api_server) as address:
        reply = httpx.post(f"{address}/v1/chat/completions", json=ASKED)
    assert reply.status_code == 502
    assert "upstream" in reply.json()["error"]["message"]


def test_an_upstream_that_breaks_off_is_an_error_event(upstream: Upstream) -> None:
    class Breaking(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            choice = {"index": 0, "delta": {"content": "Helium "}, "finish_reason": None}
            yield b"data: " + upstream.written({"choices": [choice]}) + b"\n\n"
            raise httpx.ReadError("gone")

    def answer(request: httpx.Request) -> httpx.Response:
        headers = {"content-type": "text/event-stream"}
        return httpx.Response(200, headers=headers, stream=Breaking())

    proxy = create_proxy(
        "http://other/v1",
        retriever=BM25Retriever([HELIUM, ARGON]),
        transport=httpx.MockTransport(answer),
    )
    with running(proxy, api_server) as address:
        reply = httpx.post(f"{address}/v1/chat/completions", json={**ASKED, "stream": True})
    last = json.loads(reply.text.strip().split("\n\n")[-1].removeprefix("data: "))
    assert "gone" in last["error"]["message"]


@pytest.mark.parametrize(
    ("options", "sent", "received"),
    [
        ({}, "sk-client", "Bearer sk-client"),
        ({"upstream_key": "sk-up"}, "sk-client", "Bearer sk-up"),
        ({"api_key": "ours", "upstream_key": "sk-up"}, "ours", "Bearer sk-up"),
        ({"api_key": "ours"}, "ours", None),  # our own key stays here
    ],
)
def test_keys(
    upstream: Upstream,
    options: dict[str, str],
    sent: str,
    received: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with proxied(upstream, **options) as address:
        headers = {"Authorization": f"Bearer {sent}"}
        reply = httpx.post(f"{address}/v1/chat/completions", json=ASKED, headers=headers)
    assert reply.status_code == 200
    assert upstream.headers[0].get("authorization") == received
    assert "sk-" not in caplog.text


@pytest.mark.parametrize("name", ["x-api-key", "api-key"])
def test_a_key_in_another_header_is_treated_alike(upstream: Upstream, name: str) -> None:
    ours = {"Authorization": "Bearer ours"} if name == "api-key" else {}
    for options in ({"api_key": "ours"}, {"api_key": "ours", "upstream_key": "sk-up"}):
        with proxied(upstream, **options) as address:
            for path in ("chat/completions", "messages"):
                headers = ours | {name: "ours"}
                reply = httpx.post(f"{address}/v1/{path}", json=ASKED, headers=headers)
                assert reply.status_code == 200
    assert not any("ours" in each.values() for each in upstream.headers)
    with proxied(upstream) as address:
        httpx.post(f"{address}/v1/messages", json=ASKED, headers={name: "sk-client"})
    assert upstream.headers[-1][name] == "sk-client"


def test_a_search_that_fails_is_named(upstream: Upstream) -> None:
    class Failing:
        def retrieve(self, queries: object, k: int) -> list[Any]:
            raise OSError("secret address")

    with proxied(upstream, retriever=Failing()) as address:
        reply = httpx.post(f"{address}/v1/chat/completions", json=ASKED)
    assert reply.status_code == 502
    assert "passage search failed" in reply.json()["error"]["message"]


def test_a_picture_of_several_megabytes_passes_through(address: str) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5_000_000}}
    content = [{"type": "text", "text": "Argon?"}, image]
    asked = {**ASKED, "messages": [{"role": "user", "content": content}]}
    assert httpx.post(f"{address}/v1/chat/completions/", json=asked).status_code == 200


def test_streams_are_not_collected_on_their_way(
    address: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_SILENCE", 0.0)
    reply = httpx.post(f"{address}/v1/chat/completions", json={**ASKED, "stream": True})
    assert reply.headers["x-accel-buffering"] == "no"
    assert reply.headers["cache-control"] == "no-store"
    assert ": the answer is being prepared" in reply.text


def test_a_wrong_key_goes_no_further(upstream: Upstream) -> None:
    with proxied(upstream, api_key="ours") as address:
        reply = httpx.post(
            f"{address}/v1/chat/completions", json=ASKED, headers={"Authorization": "Bearer no"}
        )
    assert reply.status_code == 401
    assert upstream.headers == []


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "not JSON"),
        (b"[" * 100_000, 400, "not JSON"),
        (b"[]", 400, "JSON object"),
        ({**ASKED, "nest": {"k": 5}}, 400, "nest.k|k is not supported"),
        ({**ASKED, "nest": {"num_passages": 900}}, 400, "900"),
        ({**ASKED, "nest": {"passages": [{"text": "x" * 99}]}}, 400, "99"),
        ({**ASKED, "nest": 5}, 400, "valid dictionary"),
        ({"messages": 5}, 200, ""),  # for the upstream server to say
    ],
)
def test_bad_requests(upstream: Upstream, body: Any, status: int, message: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with proxied(upstream, limits=Limits(passage_chars=50)) as address:
        reply = httpx.post(
            f"{address}/v1/chat/completions",
            content=content,
            headers={"content-type": "application/json"},
        )
    assert reply.status_code == status, reply.text
    if message:
        assert any(part in reply.json()["error"]["message"] for part in message.split("|"))


def test_half_a_surrogate_pair_passes_through(address: str, upstream: Upstream) -> None:
    content = f"\ud83d {ARGON.text}"
    message = {"role": "assistant", "content": content}
    reply = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    upstream.reply = lambda _: Response(json.dumps(reply).encode())
    came = httpx.post(f"{address}/v1/chat/completions", json=ASKED).json()["choices"][0]["message"]
    assert came["content"] == content
    [citation] = came["annotations"]
    assert citation["url_citation"]["start_index"] == 2


@pytest.mark.parametrize("address", ["localhost:11434", "ftp://a/v1", "", "http://"])
def test_addresses_are_checked(address: str) -> None:
    with pytest.raises(InputError, match="address"):
        create_proxy(address)
