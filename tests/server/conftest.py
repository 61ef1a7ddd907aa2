"""Fixtures of the server's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.support import faithful_engine, served
from tests.ui.support import Gate


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server whose model says a text that its two passages hold in part."""
    with served(faithful_engine()) as address:
        yield address


@pytest.fixture
def gate() -> Iterator[Gate]:
    """An engine that decodes as far as the test lets it; it never outlives the test."""
    gate = Gate()
    yield gate
    gate.open()
