"""Engines that workers load, and what tests ask of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import nest_demo
from nest_engine import NestConfig, NestEngine, Passage
from nest_engine.retrieval import BM25Retriever
from nest_engine.testing import ScriptedLanguageModel

SECONDS = 300.0  # more than anything here takes, on a slow machine with other work too
SETTINGS = {"method": "nest", "max_new_tokens": 24}


def load_demo() -> NestEngine:
    """The shipped model, searching the shipped corpus."""
    engine = nest_demo.load_engine(retriever=BM25Retriever(nest_demo.load_passages()))
    engine.config = engine.config.replace(**SETTINGS)
    return engine


def load_endless() -> NestEngine:
    """A model that says which process it runs in, and then letters, until somebody stops it."""
    beginning = f" pid={os.getpid()} ".encode()

    def say(text: bytes) -> int:
        question, _, answer = text.partition(b"\nAnswer:")
        if b"Die!" in question:
            os._exit(1)
        if len(answer) < len(beginning):
            return beginning[len(answer)]
        time.sleep(0.005)
        return ord("a") + len(answer) % 26

    model = ScriptedLanguageModel(say, confidence=1.0)
    return NestEngine(model, config=NestConfig(method="lm", max_new_tokens=1_000_000))


class DownForHelium:
    """A passage search that fails for one question."""

    def __init__(self, retriever: BM25Retriever) -> None:
        self._retriever = retriever

    def retrieve(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        if any("helium" in query.lower() for query in queries):
            raise ConnectionError("the store is down")
        return self._retriever.retrieve(queries, k)


def load_down_for_helium() -> NestEngine:
    """The shipped model, with a search that fails for one question."""
    engine = load_demo()
    assert isinstance(engine.retriever, BM25Retriever)
    engine.retriever = DownForHelium(engine.retriever)
    return engine


def load_nothing() -> Any:
    """What is no engine."""
    return "a model"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def said(events: Iterator[dict[str, Any]], length: int) -> str:
    """Read a stream until it has said so many characters; return them."""
    text = ""
    while len(text) < length:
        text += next(events)["choices"][0]["delta"].get("content", "")
    return text
