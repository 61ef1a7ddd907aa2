"""Engines for the page's tests: what they say, and how fast, is up to the test."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from nest_engine import NestConfig, NestEngine, Passage
from nest_engine.serving.ui import About
from nest_engine.testing import EOS, ScriptedLanguageModel

ABOUT = About("a scripted model", "two passages", ("What is helium?",))
HELIUM = Passage(
    "Helium is a gas. It was seen in 1868, in the light of the Sun, before it was found on the "
    "Earth.",
    title="Helium",
    uri="https://example.org/helium",
    license="CC0",
    metadata={"start_index": 100, "page": 7},
)
NEON = Passage(
    "The gas neon glows red. It was found in 1898 in London.", title="Neon", uri="notes/neon.md"
)
SAID = (
    "We know that it was seen in 1868, in the light of the Sun, "
    "and the gas neon glows red in the night."
)
SECONDS = 120.0  # more than anything here takes, on a busy machine too


class Fixed:
    """Finds the same passages for every query."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = list(passages)

    def retrieve(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        return [self._passages[:k] for _ in queries]


def scripted_engine(said: str = SAID, passages: Sequence[Passage] = (HELIUM, NEON)) -> NestEngine:
    """Return an engine that says a text and copies from passages what they hold of it."""
    # A token is a byte here: a citation should be more than three letters that happen to agree.
    config = NestConfig(max_new_tokens=512, min_citation_tokens=12)
    return NestEngine(ScriptedLanguageModel(said), retriever=Fixed(passages), config=config)


class Gate:
    """A script without end, a letter for each permit: a test knows where decoding stands."""

    def __init__(self) -> None:
        self.permits = threading.Semaphore(0)
        self.model = ScriptedLanguageModel(self._say, confidence=1.0)
        self.engine = NestEngine(self.model, config=NestConfig(method="lm", max_new_tokens=100_000))
        self._is_over = False

    def open(self) -> None:
        """Let the answer in the making end."""
        self._is_over = True
        self.permits.release(10)

    def _say(self, text: bytes) -> int:
        _, marker, answer = text.partition(b"\nAnswer:")
        if marker and answer and not self._is_over:
            assert self.permits.acquire(timeout=SECONDS), "the test gave no permit"
        return EOS if self._is_over else ord("a") + len(answer) % 26
