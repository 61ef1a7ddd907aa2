"""Exact citations in front of any other server of OpenAI's API.

A request goes to the upstream server as it came, but for its ``nest`` object; what comes back is
passed on as it came, with citations added where the answer has words of passages. Everything that
is no chat completion passes through.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import httpx
from pydantic import Field
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from nest_engine.citing import MIN_WORDS, CitationStream, CitedAnswer, Citer, citable
from nest_engine.errors import InputError
from nest_engine.generation.passage_search import retrieve
from nest_engine.interfaces import PassageRetriever
from nest_engine.records import Citation, Passage
from nest_engine.serving.server.access import access, path_below
from nest_engine.serving.server.errors import (
    HANDLERS,
    UpstreamError,
    error_body,
)
from nest_engine.serving.server.events import event, with_comments
from nest_engine.serving.server.limits import Limits
from nest_engine.serving.server.replies import chat_annotation, sentences
from nest_engine.serving.server.requests import Sent, SentPassage
from nest_engine.serving.web.reading import json_body, whole_body
from nest_engine.serving.web.streaming import UNBUFFERED, unless_disconnected

# What concerns one connection, or what this server has to say itself.
_HOP_BY_HOP = frozenset(
    (
        "access-control-allow-credentials",
        "access-control-allow-origin",
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "date",
        "expect",
        "host",
        "origin",  # this server has decided about it
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "server",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_CREDENTIALS = ("authorization", "x-api-key", "api-key")  # of OpenAI, Anthropic and Azure
_BODY_BYTES = 64 * 2**20  # pictures and sound pass through
_SECONDS_TO_CONNECT = 10.0
Sending = TypeVar("Sending", bound=Response)

_DATA = b"data:"
_EVENT_END = re.compile(rb"((?:\r\n|\n|\r(?!\n)){2})")  # a line may end in any of three ways
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


class ProxyOptions(Sent):
    """The ``nest`` object of a request that goes upstream.

    Without it, an answer is cited by what the server finds in its own documents.
    """

    passages: list[SentPassage] | None = Field(
        default=None, description="What may be quoted. Without it, the server searches."
    )
    query: str | None = Field(
        default=None, description="What to search for. Default: the last user message."
    )
    num_passages: int = Field(default=40, ge=1, description="How many passages to search for.")
    min_words: int = Field(default=MIN_WORDS, ge=1, description="Fewest words of a quotation.")
    method: Literal["lm", "ra"] = Field(
        default="lm",
        description="ra: write the passages in front of the last user message. lm: leave the "
        "messages as they are.",
    )
    prompt_passages: int = Field(
        default=3, ge=1, description="How many of them to write into the prompt, with ra."
    )


def create_proxy(
    upstream: str,
    *,
    retriever: PassageRetriever | None = None,
    upstream_key: str | None = None,
    limits: Limits | None = None,
    host: str = "127.0.0.1",
    api_key: str | None = None,
    allow_hosts: Sequence[str] = (),
    allow_origins: Sequence[str] = (),
    transport: httpx.AsyncBaseTransport | None = None,
) -> Starlette:
    """Return the ASGI application of a proxy that adds citations.

    Args:
        upstream: base address of another server of OpenAI's API, such as
            ``http://localhost:11434/v1``.
        retriever: finds what may be quoted where a request brings no passages.
        upstream_key: sent upstream. Without it, the client's own is, unless that is this server's.
        limits: what one request may bring at most; by default 64 MiB, for pictures and sound.
        host: the name or address that the server listens at.
        api_key: required of clients; None requires none.
        allow_hosts: as for ``create_app``.
        allow_origins: as for ``create_app``.
        transport: reaches the upstream server; for tests.

    Raises:
        InputError: if the address is not one of HTTP.
    """
    address = httpx.URL(upstream.rstrip("/") + "/")
    if address.scheme not in ("http", "https") or not address.host:
        raise InputError(
            f"{upstream!r} is not the address of a server; give one such as "
            f"http://localhost:11434/v1"
        )
    timeout = httpx.Timeout(None, connect=_SECONDS_TO_CONNECT)
    client = httpx.AsyncClient(timeout=timeout, transport=transport, follow_redirects=False)
    limits = limits or Limits(body_bytes=_BODY_BYTES)
    proxy = _Proxy(client, address, retriever, upstream_key, limits, takes_key=api_key is None)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    return Starlette(
        routes=[
            Route("/health", proxy.health),
            Route("/v1/chat/completions", proxy.chat, methods=["POST"]),
            Route("/v1/chat/completions/", proxy.chat, methods=["POST"]),
            Route("/v1/{path:path}", proxy.other, methods=_METHODS),
        ],
        middleware=access(host, api_key, allow_hosts, allow_origins),
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )


class _Proxy:
    """The routes."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        address: httpx.URL,
        retriever: PassageRetriever | None,
        upstream_key: str | None,
        limits: Limits,
        *,
        takes_key: bool,
    ) -> None:
        self._client = client
        self._address = address
        self._retriever = retriever
        self._upstream_key = upstream_key
        self._limits = limits
        self._takes_key = takes_key  # whether a client's key is for the upstream server

    async def health(self, _: Request) -> Response:
        """Tell that this server answers; whether the other one does shows in its own routes."""
        return JSONResponse({"status": "ok"})

    async def other(self, request: Request) -> Response:
        """Pass a request through."""
        body = await whole_body(request, self._limits.body_bytes)
        return self._passed_on(await self._send(request, body))

    async def chat(self, request: Request) -> Response:
        """Pass a request for a chat completion through, and cite the answers."""
        body = await json_body(request, self._limits.body_bytes)
        asked = _parsed(body)
        is_changed = "nest" in asked
        options = ProxyOptions.model_validate(asked.pop("nest", None) or {})
        citer, question = await self._citer(asked, options)
        if options.method == "ra":
            _place(asked, citer.passages[: options.prompt_passages])
        if is_changed:
            body = json.dumps(asked).encode()
        reply = await unless_disconnected(request, self._send(request, body))
        if reply.is_error or not citer.passages:
            return self._passed_on(reply)
        if _is_stream(reply):
            stream = with_comments(_cited_stream(reply, citer, question), is_waiting=False)
            return _with_headers(StreamingResponse(stream, reply.status_code), reply)
        content = await unless_disconnected(request, _read(reply))
        cited = await run_in_threadpool(_cited, content, citer, question)
        return _with_headers(Response(cited, reply.status_code), reply)

    async def _citer(
        self, asked: Mapping[str, Any], options: ProxyOptions
    ) -> tuple[Citer, str | None]:
        """Return what cites the answers, and what was asked."""
        question = options.query or _last_question(asked)
        given = options.passages
        self._limits.check_passages(
            [] if given is None else [len(p.text) + len(p.title) for p in given],
            options.num_passages if "num_passages" in options.model_fields_set else 0,
        )
        passages: Sequence[Passage] = ()
        if given is not None:
            passages = [Passage(**passage.model_dump()) for passage in given]
        elif self._retriever is not None and question:
            [passages] = await run_in_threadpool(
                retrieve, self._retriever, [question], options.num_passages
            )
        citer = await run_in_threadpool(Citer, passages, min_words=options.min_words)
        return citer, question

    async def _send(self, request: Request, body: bytes) -> httpx.Response:
        """Send a request upstream; its reply has not been read."""
        headers = _kept(request.headers)
        if self._upstream_key is not None or not self._takes_key:
            headers = {name: each for name, each in headers.items() if name not in _CREDENTIALS}
        if self._upstream_key is not None:
            headers["authorization"] = f"Bearer {self._upstream_key}"
        path = path_below(request.scope)
        if ".." in path.split("/"):
            raise InputError(f"the path {path[:100]!r} leads out of the upstream server's API")
        # As it came, and below the upstream server's address whatever it looks like.
        query = request.scope.get("query_string", b"")
        target = self._address.raw_path + quote(path.removeprefix("/v1/")).encode()
        sent = self._client.build_request(
            request.method,
            self._address.copy_with(raw_path=target + (b"?" + query if query else b"")),
            headers=headers,
            content=body,
        )
        try:
            return await self._client.send(sent, stream=True)
        except httpx.HTTPError as error:
            raise UpstreamError(f"the upstream server: {type(error).__name__} {error}") from error

    def _passed_on(self, reply: httpx.Response) -> Response:
        """Return a reply as it came."""
        return _with_headers(StreamingResponse(_pieces(reply), reply.status_code), reply)


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the request is not JSON: {error}") from error
    if not isinstance(asked, dict):
        raise InputError(f"the request must be a JSON object, got {type(asked).__name__}")
    return asked


def _with_headers(response: Sending, reply: httpx.Response) -> Sending:
    """Give a response the headers of a reply, those that come several times as well."""
    for name, value in reply.headers.multi_items():
        if name.lower() not in _HOP_BY_HOP:
            response.headers.append(name, value)
    if _is_stream(reply):
        response.headers.update(UNBUFFERED)
    return response


def _is_stream(reply: httpx.Response) -> bool:
    return str(reply.headers.get("content-type", "")).startswith("text/event-stream")


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}


def _user_turns(asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    turns = asked.get("messages")
    turns = turns if isinstance(turns, list) else []
    return [turn for turn in turns if isinstance(turn, dict) and turn.get("role") == "user"]


def _text_of(content: object) -> str:
    """Return the text of a message, whose content may come in parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))


def _last_question(asked: Mapping[str, Any]) -> str | None:
    questions = [_text_of(turn.get("content")) for turn in _user_turns(asked)]
    return questions[-1] or None if questions else None


def _place(asked: dict[str, Any], passages: Sequence[Passage]) -> None:
    """Write passages in front of the last user message, whatever its other parts are."""
    turns = _user_turns(asked)
    if not turns or not passages:
        return
    written = "\n\n".join(
        f"{passage.title}\n{passage.text}" if passage.title else passage.text
        for passage in passages
    )
    turn, content = turns[-1], turns[-1].get("content")
    if isinstance(content, str):
        turn["content"] = f"{written}\n\n{content}"
    elif isinstance(content, list):
        turn["content"] = [{"type": "text", "text": f"{written}\n\n"}, *content]


def _cited(content: bytes, citer: Citer, question: str | None) -> bytes:
    """Return a whole reply with citations; one that is no chat completion as it came."""
    try:
        reply = json.loads(content)
    except (ValueError, RecursionError):
        return content
    choices = reply.get("choices") if isinstance(reply, dict) else None
    found = False
    for choice in choices if isinstance(choices, list) else ():
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            continue
        text = message.get("content")
        if isinstance(text, str) and text:
            cited = citer.cite(citable(text), question=question)
            theirs = message.get("annotations")
            message["annotations"] = [
                *(theirs if isinstance(theirs, list) else ()),
                *(chat_annotation(citation, cited.text) for citation in cited.citations),
            ]
            choice["nest"] = _remarks(cited)
            found = True
    return json.dumps(reply).encode() if found else content


async def _cited_stream(
    reply: httpx.Response, citer: Citer, question: str | None
) -> AsyncIterator[bytes]:
    """Pass events on as they come; behind an event stand the citations that it has made final."""
    answers: dict[int, _StreamedChoice] = {}
    try:
        async for came in _events(reply):
            data = b"\n".join(
                line.removeprefix(_DATA).strip()
                for line in came.splitlines()
                if line.startswith(_DATA)
            )
            before, after = "", ""
            if data == b"[DONE]":
                before = "".join(answer.close(number) for number, answer in answers.items())
            choices, frame = _choices(data)
            for choice in choices:
                number = _index(choice)
                if number not in answers:
                    answers[number] = _StreamedChoice(citer.stream(question=question))
                first, then = answers[number].read(choice, frame)
                before, after = before + first, after + then
            yield before.encode() + came + after.encode()
        yield "".join(answer.close(number) for number, answer in answers.items()).encode()
    except httpx.HTTPError as error:
        yield event(error_body(502, f"the upstream server: {error}")).encode()
    finally:
        await reply.aclose()


async def _events(reply: httpx.Response) -> AsyncIterator[bytes]:
    """Yield each event as it came, with the empty line behind it."""
    waiting = b""
    async for piece in reply.aiter_bytes():
        waiting += piece
        *complete, waiting = _EVENT_END.split(waiting)
        for text, end in zip(complete[::2], complete[1::2], strict=True):
            yield text + end
    if waiting:
        yield waiting


def _choices(data: bytes) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the choices of an event, and the event without them."""
    try:
        frame = json.loads(data)
    except (ValueError, RecursionError):
        return [], {}
    choices = frame.pop("choices", None) if isinstance(frame, dict) else None
    if not isinstance(choices, list):
        return [], {}
    frame.pop("usage", None)
    return [choice for choice in choices if isinstance(choice, dict)], frame


def _index(choice: Mapping[str, Any]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0


class _StreamedChoice:
    """One of the answers in a stream."""

    def __init__(self, stream: CitationStream) -> None:
        self._stream = stream
        self._num_cited = 0
        self._frame: dict[str, Any] = {}
        self._is_over = False

    def read(self, choice: Mapping[str, Any], frame: dict[str, Any]) -> tuple[str, str]:
        """Return what goes in front of an event, and what behind it."""
        self._frame = frame
        delta = choice.get("delta")
        text = delta.get("content") if isinstance(delta, dict) else None
        text = text if isinstance(text, str) else ""
        citations = self._stream.push(citable(text))
        if choice.get("finish_reason") is None:
            return "", self._event(choice, citations)
        # The last event of an answer: some clients read no further.
        self._is_over = True
        closing = self._event(choice, [*citations, *self._stream.close()], is_last=True)
        return ("", closing) if text else (closing, "")

    def close(self, number: int) -> str:
        """Return what is missing of an answer that has no end."""
        if self._is_over:
            return ""
        self._is_over = True
        return self._event({"index": number}, self._stream.close(), is_last=True)

    def _event(
        self, choice: Mapping[str, Any], citations: Sequence[Citation], *, is_last: bool = False
    ) -> str:
        if not citations and not (is_last and self._stream.text):
            return ""
        annotations = [
            {"index": number} | chat_annotation(citation, self._stream.text)
            for number, citation in enumerate(citations, self._num_cited)
        ]
        self._num_cited += len(citations)
        added = {
            "index": _index(choice),
            "delta": {"annotations": annotations} if annotations else {},
            "finish_reason": None,
        }
        if is_last:
            added["nest"] = _remarks(self._stream.answer)
        return event(self._frame | {"choices": [added]})


def _remarks(cited: CitedAnswer) -> dict[str, Any]:
    return {"sentences": sentences(cited)}


async def _read(reply: httpx.Response) -> bytes:
    try:
        return await reply.aread()
    except httpx.HTTPError as error:
        raise UpstreamError(f"the upstream server: {error}") from error
    finally:
        await reply.aclose()


async def _pieces(reply: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in reply.aiter_bytes():
            yield piece
    finally:
        await reply.aclose()
