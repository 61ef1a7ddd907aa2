"""Passages in a file, one JSON line each, read one at a time."""

from __future__ import annotations

import json
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from nest_engine.errors import CorruptIndexError, InputError
from nest_engine.records import Passage

LINES = "passages.jsonl"
_OFFSETS = "passages.offsets.npy"
_FIELDS = ("id", "title", "text", "uri", "license", "metadata")


class PassageStore(Sequence[Passage]):
    """The passages of an index, kept on disk and decoded when asked for.

    Both files are memory-mapped, so threads can share a store, and it outlives the removal of its
    files.

    Args:
        directory: where `write` put them.

    Raises:
        CorruptIndexError: if the files are missing or do not fit together.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / LINES
        try:
            self._offsets = np.load(directory / _OFFSETS, mmap_mode="r", allow_pickle=False)
            with self._path.open("rb") as file:
                self._lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise CorruptIndexError(
                f"the passages in {directory} cannot be read ({error}); rebuild it"
            ) from error
        offsets = self._offsets
        if (
            offsets.dtype != np.int64
            or offsets.ndim != 1
            or not len(offsets)
            or offsets[-1] != len(self._lines)
        ):
            raise CorruptIndexError(
                f"{_OFFSETS} in {directory} does not fit {LINES} of {len(self._lines)} bytes; "
                f"rebuild the index"
            )

    @staticmethod
    def write(directory: Path, passages: Sequence[Passage]) -> PassageStore:
        """Write passages in order, without their scores, and open the result.

        Raises:
            InputError: if two different passages have the same id, or metadata is not JSON.
        """
        contents: dict[str, int] = {}
        offsets = np.zeros(len(passages) + 1, np.int64)
        with (directory / LINES).open("wb") as file:
            for row, passage in enumerate(passages):
                content = hash((passage.title, passage.text))
                if contents.setdefault(passage.id, content) != content:
                    raise InputError(
                        f"two different passages have the id {passage.id!r}; give each its own, so "
                        f"that a citation "
                        "names one source"
                    )
                file.write(_line_of(passage))
                offsets[row + 1] = file.tell()
        np.save(directory / _OFFSETS, offsets, allow_pickle=False)
        return PassageStore(directory)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> Passage: ...
    @overload
    def __getitem__(self, index: slice) -> list[Passage]: ...
    def __getitem__(self, index: int | slice) -> Passage | list[Passage]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        line = self._lines[self._offsets[row] : self._offsets[row + 1]]
        try:
            return Passage(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise CorruptIndexError(
                f"passage {row} of {self._path} cannot be read ({error}); rebuild it"
            ) from error


def _line_of(passage: Passage) -> bytes:
    record: dict[str, Any] = {name: getattr(passage, name) for name in _FIELDS}
    record["metadata"] = dict(passage.metadata)
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
    except (TypeError, ValueError) as error:
        raise InputError(
            f"passage {passage.id!r} cannot be stored as JSON ({error}); metadata may hold only "
            f"strings, numbers, "
            "booleans, None, lists and dicts of these"
        ) from error
