"""The command `nest ui`: a page, and failures in one line before anything slow begins."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import webbrowser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner, Result

import nest_demo
import nest_engine.serving.ui
from nest_engine import InputError
from nest_engine.cli import app, loading, ui_command
from nest_engine.serving.web.listening import listen, url_of
from tests.ui.support import scripted_engine

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

NEST = [sys.executable, "-c", "from nest_engine.cli import main; main()"]


def nest_ui(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["ui", *map(str, arguments)])


def assert_fails_on_one_line(result: Result, message: str) -> None:
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_a_taken_port_is_named_before_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        loading, "load_engine", lambda *_, **__: pytest.fail("loaded a model first")
    )
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        result = nest_ui("--port", port, "--no-open")

    assert_fails_on_one_line(
        result,
        f"port {port} of 127.0.0.1 is taken; choose another with --port, or any free one with "
        f"--port 0",
    )


def test_a_missing_folder_is_named_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        loading, "load_engine", lambda *_, **__: pytest.fail("loaded a model first")
    )

    assert_fails_on_one_line(
        nest_ui("--docs", tmp_path / "nowhere", "--port", 0), "nowhere does not exist"
    )


def test_an_address_of_another_machine_cannot_be_listened_at() -> None:
    assert_fails_on_one_line(
        nest_ui("--host", "192.0.2.1", "--port", 0), "cannot listen at 192.0.2.1, port 0: "
    )


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_without_its_libraries_it_names_the_install_command(missing: str) -> None:
    code = f"import sys; sys.modules['{missing}'] = None; from nest_engine.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code, "ui"], capture_output=True, text=True, timeout=300, check=False
    )

    assert result.returncode == 1
    assert (
        result.stderr == f"error: {missing} is not installed; run: pip install 'nest-engine[ui]'\n"
    )


def test_addresses_are_written_as_browsers_want_them() -> None:
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        assert url_of(listening, "localhost") == f"http://localhost:{port}/"
        assert url_of(listening, "::1") == f"http://[::1]:{port}/"
    with pytest.raises(InputError, match=r"cannot listen at no\.such\.host\.invalid, port 0"):
        listen("no.such.host.invalid", 0)


@pytest.mark.parametrize(("option", "opens"), [("--open", True), ("--no-open", False)])
def test_it_shows_the_users_documents_and_opens_a_browser_on_request(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, option: str, opens: bool
) -> None:
    (tmp_path / "helium.md").write_text("Helium is a gas.", encoding="utf-8")
    opened: list[str] = []
    served: list[Any] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(loading, "load_engine", lambda model, **_: scripted_engine())
    monkeypatch.setattr(nest_engine.serving.ui, "serve", lambda app, _: served.append(app))

    result = nest_ui(
        "--docs", tmp_path, "--model", "some/model", "--port", 0, option, "--host", "localhost"
    )

    assert result.exit_code == 0, result.stderr
    (address,) = re.findall(
        r"^ready: (http://localhost:\d+/) \(Ctrl-C ends it\)$", result.stderr, re.MULTILINE
    )
    assert opened == ([address] if opens else [])
    (app,) = served
    assert [passage.title for passage in app.state.runner.engine.retriever.passages] == ["helium"]


def test_listening_to_others_is_remarked_upon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "load_engine", lambda model, **_: scripted_engine())
    monkeypatch.setattr(nest_engine.serving.ui, "serve", lambda *_: None)

    assert (
        "note: whoever reaches 0.0.0.0 can ask"
        in nest_ui("--host", "0.0.0.0", "--port", 0, "--no-open").stderr
    )
    assert "note:" not in nest_ui("--port", 0, "--no-open").stderr


def test_a_browser_opens_by_itself_only_where_somebody_sees_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not ui_command._has_browser()
    monkeypatch.setenv("DISPLAY", ":0")
    assert ui_command._has_browser()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    assert not ui_command._has_browser()


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent as a POSIX signal")
def test_the_demo_answers_and_ends_by_ctrl_c_in_the_middle_of_an_answer() -> None:
    running = subprocess.Popen(
        [*NEST, "ui", "--port", "0", "--no-open"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )
    assert running.stderr is not None
    deadline = threading.Timer(300, running.kill)
    deadline.start()
    try:
        line = next(line for line in running.stderr if line.startswith("ready: "))
        parts = urlsplit(line.split()[1])
        assert parts.hostname == "127.0.0.1"
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=300)
        connection.request("GET", "/api/about")
        about = json.loads(connection.getresponse().read())
        assert about["corpus"] == f"{len(nest_demo.load_passages())} passages, shipped"
        assert about["questions"] == [
            question.question for question in nest_demo.load_questions()[:4]
        ]

        asked = {"question": about["questions"][0], "max_new_tokens": 24}
        connection.request(
            "POST", "/api/ask", json.dumps(asked), {"Content-Type": "application/json"}
        )
        answer = json.loads(connection.getresponse().read().splitlines()[-1])["answer"]
        for citation in answer["citations"]:
            passage = next(p for p in answer["passages"] if p["id"] == citation["passage_id"])
            assert (
                passage["text"][citation["source_start"] : citation["source_end"]]
                == citation["cited_text"]
            )
        assert answer["stats"]["completion_tokens"] <= 24

        asked |= {"method": "lm", "max_new_tokens": 100_000}
        connection.request(
            "POST", "/api/ask", json.dumps(asked), {"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        assert json.loads(response.readline())["type"] == "chunk"
        running.send_signal(signal.SIGINT)
        rest = running.stderr.read()
        assert (running.wait(), rest) == (0, "")
        connection.close()
    finally:
        deadline.cancel()
        running.kill()
        running.wait()
        running.stderr.close()
