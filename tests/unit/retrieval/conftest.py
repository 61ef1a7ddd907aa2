"""A small corpus of real sentences, and an embedder whose vectors can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from nest_engine import Passage

CORPUS = (
    (
        "Helium",
        "Helium was discovered in the spectrum of the Sun by Jules Janssen and Norman Lockyer in "
        "1868.",
    ),
    (
        "Radium",
        "Radium was discovered by Marie and Pierre Curie in 1898, in the form of radium chloride.",
    ),
    (
        "Marie Curie",
        "She was the first woman to win a Nobel Prize, and the only person to win it in two "
        "sciences.",
    ),
    (
        "Canberra",
        "Canberra is the capital city of Australia, founded following the federation of the "
        "colonies.",
    ),
    (
        "Sydney",
        "Sydney is the most populous city in Australia, on the east coast of New South Wales.",
    ),
    ("The Who", "They are an English rock band formed in London in 1964."),
    (
        "C (programming language)",
        "C was created in the 1970s by Dennis Ritchie and is still widely used.",
    ),
    ("Nile", "The Nile flows north into the Mediterranean Sea and is the longest river of Africa."),
    ("Amazon River", "It has by far the greatest discharge of water of any river in the world."),
    (
        "Photosynthesis",
        "Plants convert light into chemical energy, which is stored in sugars and starches.",
    ),
    (
        "Hamlet",
        "To be, or not to be: that is the question that the prince asks himself in the third act.",
    ),
    (
        "Penicillin",
        "Alexander Fleming noticed in 1928 that a mould had killed the bacteria in a dish.",
    ),
)


class LetterEmbedder:
    """Counts the letters a to z: related texts get related vectors, one without letters zeros."""

    fingerprint = "letters, 26 dimensions"

    def __repr__(self) -> str:
        return "LetterEmbedder()"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        counts = [[text.lower().count(chr(ord("a") + i)) for i in range(26)] for text in texts]
        return np.array(counts, np.float32).reshape(len(texts), 26)


@pytest.fixture
def passages() -> list[Passage]:
    return [Passage(text, title, id=f"p{row}") for row, (title, text) in enumerate(CORPUS)]


@pytest.fixture
def embedder() -> LetterEmbedder:
    return LetterEmbedder()
