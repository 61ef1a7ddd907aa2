"""The page's server, without a browser: what it answers, whom it refuses, one at a time."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

import nest_engine.serving.ui
from nest_engine import METHODS, NestConfig, NestEngine, RetrievalError
from nest_engine.serving.ui import app as ui_app
from nest_engine.serving.ui import create_app
from tests.ui.serving import served
from tests.ui.support import ABOUT, HELIUM, SAID, SECONDS, Gate, scripted_engine

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

STATIC = Path(nest_engine.serving.ui.__file__).parent / "static"
ADDRESS = "http://127.0.0.1:6378"


def client(engine: NestEngine | None = None, **options: Any) -> TestClient:
    return TestClient(create_app(engine or scripted_engine(), ABOUT, **options), base_url=ADDRESS)


@pytest.fixture(scope="module")
def page() -> TestClient:
    return client()


def events(response: Any) -> list[dict[str, Any]]:
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


# --- what it answers


def test_the_page_and_its_parts_are_served_from_here_and_locked_down(page: TestClient) -> None:
    index = page.get("/")
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    parts = re.findall(r'(?:src|href)="([^"]+)"', index.text)
    assert {"/static/style.css", "/static/app.js", "/static/icon.svg"} == set(parts)

    for path in ("/", "/api/about", "/nowhere", *parts):
        response = page.get(path)
        assert response.status_code == (404 if path == "/nowhere" else 200)
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        assert "unsafe" not in policy
        assert "access-control-allow-origin" not in response.headers


def test_the_page_needs_no_other_site_and_makes_no_html_from_text() -> None:
    sources = {path.name: path.read_text(encoding="utf-8") for path in STATIC.iterdir()}

    for name, source in sources.items():
        assert set(re.findall(r"https?://[\w.]+", source)) <= {"http://www.w3.org"}, name
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bon\w+=|\bstyle=|<style", sources["index.html"])
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|DOMParser", sources["app.js"]
    )


def test_it_says_what_there_is_to_ask(page: TestClient) -> None:
    about = page.get("/api/about").json()

    assert (about["model"], about["corpus"], tuple(about["questions"])) == (
        ABOUT.model,
        ABOUT.corpus,
        ABOUT.questions,
    )
    assert (about["method"], about["max_new_tokens"]) == ("ra-nest", 512)
    assert {method["name"] for method in about["methods"]} == set(METHODS)
    assert all(method["summary"] for method in about["methods"])
    gammas = {
        method["name"]: method["gamma"]
        for method in about["methods"]
        if method["gamma"] is not None
    }
    assert gammas == {name: NestConfig.for_method(name).gamma for name in ("nest", "ra-nest")}
    own_words = {method["name"]: method["own_words"] for method in about["methods"]}
    assert own_words == dict.fromkeys(METHODS) | {"nest": 0.1, "ra-nest": 0.1}


def test_the_page_sets_what_it_says_it_sets(page: TestClient) -> None:
    asked = {
        "question": "What is helium?",
        "method": "ra-nest",
        "own_words": 0.5,
        "gamma": 0.125,
        "max_new_tokens": 5,
    }
    answer = events(page.post("/api/ask", json=asked))[-1]["answer"]

    assert {name: answer["settings"][name] for name in asked if name != "question"} | {
        "question": answer["question"]
    } == asked
    assert answer["stats"]["completion_tokens"] == 5


def test_gamma_is_the_models_own_where_it_was_tuned() -> None:
    engine = scripted_engine()
    engine.config = NestConfig(tuned={"ra-nest": {"gamma": 0.25}})
    methods = {
        method["name"]: method for method in client(engine).get("/api/about").json()["methods"]
    }

    assert (methods["nest"]["gamma"], methods["ra-nest"]["gamma"]) == (0.05, 0.25)


def test_an_answer_comes_in_pieces_and_then_as_a_whole(page: TestClient) -> None:
    asked = {"question": "What is helium?", "method": "lossless", "max_new_tokens": 300}
    *chunks, last = events(page.post("/api/ask", json=asked))

    assert len(chunks) > 1
    assert {chunk["type"] for chunk in chunks} == {"chunk"}
    assert last["type"] == "answer"
    answer = last["answer"]
    expected = scripted_engine().ask("What is helium?", method="lossless", max_new_tokens=300)
    assert "".join(chunk["text"] for chunk in chunks) == answer["text"] == expected.text == SAID
    assert [citation for chunk in chunks for citation in chunk["citations"]] == answer["citations"]
    assert answer["citations"] == [citation.to_dict() for citation in expected.citations]
    assert len(answer["citations"]) == 2
    assert answer["question"] == "What is helium?"
    assert (
        answer["settings"]
        == scripted_engine().config.replace(method="lossless", max_new_tokens=300).to_dict()
    )
    assert answer["stats"]["seconds"].keys() == expected.stats.to_dict()["seconds"].keys()
    tokens = [token for token in answer["tokens"] if token["status"] != "rejected"]
    assert "".join(token["text"] for token in tokens) == SAID
    assert [token["lambda"] for token in tokens] == pytest.approx(expected.lambdas)


# --- whom it refuses


@pytest.mark.parametrize(
    ("host", "served_host", "is_ours"),
    [
        ("127.0.0.1:6378", "127.0.0.1", True),
        ("localhost:6378", "127.0.0.1", True),
        ("LOCALHOST", "127.0.0.1", True),
        ("[::1]:6378", "::1", True),
        ("192.168.1.20:6378", "0.0.0.0", True),
        ("workstation:6378", "workstation", True),
        ("workstation:6378", "127.0.0.1", False),
        ("evil.example:6378", "127.0.0.1", False),
        ("evil.example", "0.0.0.0", False),
        ("127.0.0.1.evil.example:6378", "127.0.0.1", False),
        ("localhost.evil.example", "127.0.0.1", False),
        ("localhost:80@evil.example", "127.0.0.1", False),
        ("[evil.example]:6378", "127.0.0.1", False),
        ("", "127.0.0.1", False),
    ],
)
def test_only_this_machines_names_are_answered(host: str, served_host: str, is_ours: bool) -> None:
    for path in ("/", "/static/app.js", "/api/about"):
        response = client(host=served_host).get(path, headers={"host": host})
        assert response.status_code == (200 if is_ours else 421)
        assert is_ours or "this server does not answer for" in response.json()["error"]


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://127.0.0.1:6378",
        "http://127.0.0.1:9999",
        "http://localhost:6378",
        "null",
    ],
)
def test_another_sites_page_may_not_ask(page: TestClient, origin: str) -> None:
    response = page.post("/api/ask", json={"question": "What?"}, headers={"origin": origin})

    assert response.status_code == 403
    assert response.json() == {"error": "only this server's own page may ask"}
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_its_own_page_may_ask(page: TestClient) -> None:
    assert events(page.post("/api/ask", json={"question": "What?"}, headers={"origin": ADDRESS}))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"question": "  "}', "the question is empty"),
        (b"{}", "the question is empty"),
        (b'{"question": 7}', "question must be str, got int"),
        (b'{"question": "\\ud800"}', "lone surrogate"),
        (b'{"question": "a", "gamma": 2}', "gamma=2 is not valid: expected a number from 0 to 1"),
        (b'{"question": "a", "method": "magic"}', "method='magic' is not valid"),
        (b'{"question": "a", "method": ["nest"]}', "method=\\['nest'\\] is not valid"),
        (b'{"question": "a", "max_new_tokens": 0}', "max_new_tokens=0 is not valid"),
        (
            b'{"question": "a", "tuned": {}}',
            "'tuned' cannot be set here; question and method, own_words, gamma, max_new_tokens can",
        ),
        (b'["a"]', "the request holds a JSON list; send an object with a question"),
        (b"{", "the request is not JSON"),
        (b"\xff", "the request is not JSON"),
        (b"[" * 60_000, "the request is not JSON"),
        (
            b'{"question": "' + b"a" * 70_000 + b'"}',
            "the request is longer than 65,536 bytes; send a shorter one",
        ),
    ],
)
def test_a_bad_question_is_refused_with_the_reason(
    page: TestClient, body: bytes, message: str
) -> None:
    response = page.post("/api/ask", content=body, headers={"content-type": "application/json"})

    assert response.status_code == 400
    assert re.search(message, response.json()["error"])


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_what_other_sites_can_send_without_asking_is_refused(
    page: TestClient, content_type: str
) -> None:
    response = page.post(
        "/api/ask", content=b'{"question": "a"}', headers={"content-type": content_type}
    )

    assert response.status_code == 400
    assert (
        response.json()["error"]
        == f"the request is of type '{content_type}'; send application/json"
    )


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RetrievalError("the index is gone"), "the index is gone"),
        (ZeroDivisionError("a bug"), "ZeroDivisionError: a bug"),
    ],
)
def test_a_failure_is_told_and_the_next_question_is_answered(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    engine = scripted_engine()
    page = client(engine)
    with monkeypatch.context() as patched:
        patched.setattr(engine, "stream", raising(error))
        told = events(page.post("/api/ask", json={"question": "What?"}))
    assert told == [{"type": "error", "message": message}]
    assert events(page.post("/api/ask", json={"question": "What?"}))[-1]["type"] == "answer"


def test_what_json_cannot_hold_does_not_break_an_answer() -> None:
    odd = nest_engine.Passage(
        HELIUM.text, title="Helium", metadata={"path": Path("a"), "nan": float("nan")}
    )
    answer = events(
        client(scripted_engine(passages=[odd])).post("/api/ask", json={"question": "What?"})
    )[-1]["answer"]

    assert answer["passages"][0]["metadata"] == {"path": "a", "nan": "nan"}


# --- on a real server: one at a time, and nobody decodes for a reader who left


class Asking:
    """A question on its way; read line by line."""

    def __init__(self, address: str, question: str = "What?") -> None:
        parts = urlsplit(address)
        assert parts.hostname
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=SECONDS)
        body = json.dumps({"question": question})
        self._connection.request("POST", "/api/ask", body, {"Content-Type": "application/json"})
        self.response = self._connection.getresponse()

    def next(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.response.readline())
        return event

    def rest(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.response.read().splitlines()]

    def close(self) -> None:
        self.response.close()
        self._connection.close()


def wait_for_the_decoder() -> None:
    deadline = time.monotonic() + SECONDS
    while any(thread.name == "nest-answer" for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "decoding went on"
        time.sleep(0.01)


def test_text_arrives_while_decoding_goes_on(gate: Gate) -> None:
    with served(create_app(gate.engine, ABOUT)) as address:
        asking = Asking(address)
        gate.permits.release()
        assert asking.next() == {"type": "chunk", "text": "a", "citations": []}
        gate.permits.release()
        assert asking.next()["text"] == "b"
        gate.open()
        *_, last = asking.rest()
        assert last["answer"]["finish_reason"] == "eos"
        asking.close()


def test_a_closed_connection_ends_decoding_within_a_step(
    gate: Gate, noticed: threading.Event
) -> None:
    with served(create_app(gate.engine, ABOUT, patience=SECONDS)) as address:
        asking = Asking(address)
        gate.permits.release(3)
        assert [asking.next()["text"] for _ in range(3)] == ["a", "b", "c"]
        asking.close()
        assert noticed.wait(SECONDS)
        # The step that waits for a permit may end; there is none after it, though permits are left.
        before = gate.model.num_forwards
        gate.permits.release(1_000)
        wait_for_the_decoder()
        assert gate.model.num_forwards <= before + 1

        gate.open()
        again = Asking(address)
        assert again.rest()[-1]["answer"]["finish_reason"] == "eos"
        again.close()


def test_a_second_question_is_turned_away_while_one_is_answered(gate: Gate) -> None:
    with served(create_app(gate.engine, ABOUT, patience=0.05)) as address:
        first = Asking(address)
        gate.permits.release()
        assert first.next()["text"] == "a"

        second = Asking(address)
        assert second.response.status == 503
        assert second.rest() == [{"error": ui_app.BUSY}]
        second.close()

        gate.open()
        assert first.rest()[-1]["answer"]["finish_reason"] == "eos"
        first.close()
        third = Asking(address)
        assert third.rest()[-1]["type"] == "answer"
        third.close()


def test_a_second_question_waits_a_moment_for_its_turn(gate: Gate) -> None:
    with served(create_app(gate.engine, ABOUT, patience=SECONDS)) as address:
        first = Asking(address)
        gate.permits.release()
        assert first.next()["text"] == "a"
        threading.Timer(0.2, gate.open).start()
        second = Asking(address)
        assert second.rest()[-1]["type"] == "answer"
        first.close()
        second.close()


def test_half_a_question_is_forgotten_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    with served(create_app(scripted_engine(), ABOUT)) as address:
        parts = urlsplit(address)
        with socket.create_connection(
            (parts.hostname or "", parts.port or 0), timeout=SECONDS
        ) as connection:
            head = f"POST /api/ask HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            head += "Content-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
        asking = Asking(address)
        assert asking.rest()[-1]["type"] == "answer"
        asking.close()
    assert caplog.records == []


def test_stopping_the_server_ends_decoding(gate: Gate, noticed: threading.Event) -> None:
    with served(create_app(gate.engine, ABOUT)) as address:
        asking = Asking(address)
        gate.permits.release()
        assert asking.next()["text"] == "a"
    assert noticed.wait(SECONDS)
    asking.close()
    before = gate.model.num_forwards
    gate.permits.release(1_000)
    wait_for_the_decoder()
    assert gate.model.num_forwards <= before + 1
