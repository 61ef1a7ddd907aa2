"""The command `nest serve`: it answers clients, and tells failures before anything slow begins."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import nest_engine.serving.server
from nest_engine.cli import app, loading
from nest_engine.serving.web.listening import listen
from tests.server.support import ask
from tests.ui.support import scripted_engine

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

NEST = [sys.executable, "-c", "from nest_engine.cli import main; main()"]


def nest_serve(*arguments: object, **environment: str) -> Result:
    return CliRunner().invoke(app, ["serve", *map(str, arguments)], env=environment)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Applications that the command would have served, of a scripted model."""
    served: list[Any] = []
    monkeypatch.setattr(loading, "load_engine", lambda model, **_: scripted_engine())
    monkeypatch.setattr(nest_engine.serving.server, "serve", lambda app, _: served.append(app))
    return served


def test_others_may_only_ask_with_a_key(monkeypatch: pytest.MonkeyPatch, served: list[Any]) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(
            loading, "load_engine", lambda *_, **__: pytest.fail("loaded a model first")
        )
        result = nest_serve("--host", "0.0.0.0", "--port", 0)
    assert (result.exit_code, served) == (1, [])
    assert "whoever reaches 0.0.0.0 could ask; give an --api-key (or NEST_API_KEY)" in result.stderr

    assert nest_serve("--host", "0.0.0.0", "--port", 0, "--api-key", "sesame").exit_code == 0
    assert nest_serve("--host", "0.0.0.0", "--port", 0, NEST_API_KEY="sesame").exit_code == 0
    assert len(served) == 2


def test_in_front_of_another_server_no_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, served: list[Any], tmp_path: Path
) -> None:
    monkeypatch.setattr(loading, "load_engine", lambda *_, **__: pytest.fail("loaded a model"))
    (tmp_path / "a.txt").write_text("Helium is a gas.")
    address = "http://user:secret@127.0.0.1:11434/v1"
    result = nest_serve("--upstream", address, "--docs", tmp_path, "--port", 0)
    assert (result.exit_code, len(served)) == (0, 1)
    assert "in front of 127.0.0.1:11434, 1 passages" in result.stderr
    assert "secret" not in result.stderr
    result = nest_serve("--upstream", "here", "--port", 0)
    assert (result.exit_code, len(served)) == (1, 1)
    assert "'here' is not the address of a server" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--docs", "nowhere"], "nowhere does not exist"),
        (["--set", "gamma=2"], "gamma=2 is not valid"),
        (["--set", "nonsense=2"], "unknown setting 'nonsense'"),
    ],
)
def test_what_is_wrong_is_told_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr(
        loading, "load_engine", lambda *_, **__: pytest.fail("loaded a model first")
    )
    result = nest_serve("--port", 0, *arguments)
    assert result.exit_code == 1
    assert message in result.stderr


def test_a_taken_port_is_named_before_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        loading, "load_engine", lambda *_, **__: pytest.fail("loaded a model first")
    )
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} of 127.0.0.1 is taken" in nest_serve("--port", port).stderr


def test_it_serves_the_users_documents_under_the_models_name(
    tmp_path: Path, served: list[Any]
) -> None:
    (tmp_path / "helium.md").write_text("Helium is a gas.", encoding="utf-8")
    result = nest_serve("--docs", tmp_path, "--model", "some/model", "--port", 0)
    assert result.exit_code == 0, result.stderr
    assert re.search(
        r"^ready: http://127\.0\.0\.1:\d+/v1 \(model 'model', 1 passages; ",
        result.stderr,
        re.MULTILINE,
    )
    assert "(model 'mine', " in nest_serve("--docs", tmp_path, "--name", "mine", "--port", 0).stderr


@pytest.mark.parametrize("missing", ["pydantic", "prometheus_client", "uvicorn"])
def test_without_its_libraries_it_names_the_install_command(missing: str) -> None:
    code = f"import sys; sys.modules['{missing}'] = None; import nest_engine.serving.server"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    package = missing.replace("_", "-")
    assert f"{package} is not installed; run: pip install 'nest-engine[serve]'" in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent as a POSIX signal")
def test_the_demo_answers_with_exact_citations_and_ends_by_ctrl_c() -> None:
    command = [*NEST, "serve", "--port", "0", "--set", "method=ra-nest"]
    running = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "200"}
    )
    assert running.stderr is not None
    deadline = threading.Timer(300, running.kill)
    deadline.start()
    try:
        line = next(line for line in running.stderr if line.startswith("ready: "))
        address = line.split()[1].removesuffix("/v1")
        asked = {
            "model": "nest-demo",
            "messages": [{"role": "user", "content": "What is helium?"}],
            "max_tokens": 32,
        }
        status, reply = ask(address, "/v1/chat/completions", asked)
        assert status == 200
        message = reply["choices"][0]["message"]
        assert reply["choices"][0]["nest"]["method"] == "ra-nest"
        for annotation in message["annotations"]:
            span = annotation["url_citation"]
            assert (
                message["content"][span["start_index"] : span["end_index"]]
                == annotation["nest"]["cited_text"]
            )
        running.send_signal(signal.SIGINT)
        rest = running.stderr.read()
        assert (running.wait(), rest) == (0, "")
    finally:
        deadline.cancel()
        running.kill()
        running.wait()
        running.stderr.close()
