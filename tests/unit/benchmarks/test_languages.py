"""Keyword search finds the right passage in ten languages, as `benchmarks/languages.py` counts."""

from __future__ import annotations

import pytest

from benchmarks import languages


@pytest.mark.parametrize("language", languages.PATTERNS)
def test_the_passage_that_answers_comes_first(language: str) -> None:
    row = languages.measure(language)
    assert row["passages"] >= 100
    assert row["hit@1"] > 97
