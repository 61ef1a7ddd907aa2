"""The scripts in `examples/` run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nest_demo
from nest_engine.retrieval import BM25Retriever
from tests.server.support import served

EXAMPLES = Path(__file__).parents[2] / "examples"
QUOTES = re.compile(r"^- '.+'", re.MULTILINE)


def run(name: str, *arguments: str) -> str:
    """Return what an example prints; the shipped model answers, which is fast."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"NEST_MODEL": str(nest_demo.model_path())},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_listed_and_tried() -> None:
    listed = re.findall(r"^\| \[(\w+\.py)\]", (EXAMPLES / "README.md").read_text("utf-8"), re.M)
    assert sorted(listed) == sorted(path.name for path in EXAMPLES.glob("*.py"))
    source = Path(__file__).read_text("utf-8")
    assert [name for name in listed if f'"{name}"' not in source] == []


@pytest.mark.parametrize("name", ["plain.py", "langchain_chain.py", "llama_index_engine.py"])
def test_it_quotes(name: str) -> None:
    printed = run(name, "When was helium first seen?")
    assert QUOTES.search(printed), printed
    assert "Helium" in printed


def test_cite() -> None:
    assert "quotation altered: 'Neon was discovered in 1889" in run("cite_answer.py")


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_a_client_of_the_server() -> None:
    pytest.importorskip("openai", reason="needs: pip install openai")
    engine = nest_demo.load_engine(BM25Retriever(nest_demo.load_passages()))
    with served(engine) as address:
        printed = run("server_client.py", "When was helium first seen?", f"{address}/v1")
    assert QUOTES.search(printed), printed
