"""Fixtures of the page's tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from nest_engine.serving.ui.answering import RunningAnswer
from tests.ui.support import Gate


@pytest.fixture
def gate() -> Iterator[Gate]:
    """An engine that decodes as far as the test lets it; it never outlives the test."""
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def noticed(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when the server has noticed that nobody reads an answer any more."""
    event = threading.Event()
    cancel = RunningAnswer.cancel

    def cancel_and_tell(answer: RunningAnswer) -> None:
        cancel(answer)
        event.set()

    monkeypatch.setattr(RunningAnswer, "cancel", cancel_and_tell)
    return event
