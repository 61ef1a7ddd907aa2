"""The test suite itself: what `make test` leaves out is named rightly."""

from __future__ import annotations

import pytest

from tests.conftest import SLOW, TESTS


def test_what_is_slow_is_there_and_its_markers_are_registered(pytestconfig: pytest.Config) -> None:
    registered = {line.partition(":")[0] for line in pytestconfig.getini("markers")}
    assert {"slow", *SLOW} <= registered
    assert [place for place in SLOW.values() if not (TESTS / place).exists()] == []
