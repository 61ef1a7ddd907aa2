"""Vectors for tests: texts that share a capital letter of a set are near, all others are not."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_OTHER = 997  # dimensions: what else there is to a text


def letter_vectors(texts: Sequence[str], letters: str = "JZ") -> NDArray[np.float32]:
    """Return one vector for each text."""
    vectors = np.zeros((len(texts), len(letters) + _OTHER), dtype=np.float32)
    for vector, text in zip(vectors, texts, strict=True):
        vector[: len(letters)] = [letter in text for letter in letters]
        vector[len(letters) + zlib.crc32(text.encode()) % _OTHER] = 0.2
    return vectors


class LetterEmbedder:
    """Remembers what it has embedded; ``between`` 0 and 1, everything is near to everything."""

    fingerprint = "letters"

    def __init__(self, between: float = 0.0) -> None:
        self.between = between
        self.embedded: list[str] = []

    def embed(self, texts):
        self.embedded += texts
        vectors = letter_vectors(texts)
        vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
        in_common = np.full((len(texts), 1), self.between**0.5)
        return np.concatenate([(1 - self.between) ** 0.5 * vectors, in_common], axis=-1)
