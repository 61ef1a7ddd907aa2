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
