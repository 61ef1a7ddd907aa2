"""A source text before it is cut into passages, and a source that was left out."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Box(NamedTuple):
    """A rectangle on a page, in points from its top left corner as it is shown.

    Args:
        left: its left edge.
        top: its upper edge.
        right: its right edge.
        bottom: its lower edge.
    """

    left: float
    top: float
    right: float
    bottom: float


class WordBox(NamedTuple):
    """Where a word is.

    Args:
        start: its first character in the text.
        end: one past the last.
        box: where it is on the page.
    """

    start: int
    end: int
    box: Box


@dataclass(frozen=True)
class Document:
    """The text of a file, or of one line of a ``.jsonl`` file.

    Args:
        text: the text that passages are slices of.
        title: its title, cut at 300 characters: the model reads it with every passage.
        id: identifies it among the documents that were read.
        source: path of its file, relative to the folder that was read.
        uri: path of its file, relative to the reading program's working directory.
        license: licence of the text.
        metadata: anything else that the source says about itself.
        page_starts: offset of each page in ``text``; empty when there are no pages.
        page_sizes: width and height of each page as it is shown, in points; empty if unknown.
        words: where each word is on its page; empty if unknown.
        quotable: the character ranges that passages may come from; empty if all may.
    """

    text: str
    title: str
    id: str
    source: str
    uri: str
    license: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    page_starts: tuple[int, ...] = ()
    page_sizes: tuple[tuple[float, float], ...] = ()
    words: tuple[WordBox, ...] = ()
    quotable: tuple[tuple[int, int], ...] = ()

    @property
    def place(self) -> str:
        """The file and, where it holds several documents, the line."""
        line = self.metadata.get("line")
        return f"{self.source}, line {line}" if line else self.source

    def page_at(self, offset: int) -> int | None:
        """Return the number, from 1, of the page at an offset; None if there are no pages."""
        return bisect_right(self.page_starts, offset) or None


class Skipped(NamedTuple):
    """A source, or a part of one, that could not be read.

    Args:
        path: the file or folder, with the line or page if only that is affected.
        reason: what is wrong, and what to do about it.
    """

    path: str
    reason: str


def in_pages(texts: Sequence[str]) -> tuple[str, tuple[int, ...]]:
    """Return the texts of pages, separated by form feeds, and where each begins."""
    starts = [0]
    for text in texts[:-1]:
        starts.append(starts[-1] + len(text) + 1)
    return "\f".join(texts), tuple(starts)
