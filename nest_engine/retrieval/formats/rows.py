"""Rows of tables as text: cells set apart by tabs, so that each stands under its heading."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

# White space around passages is dropped: an empty cell in front of a row must be more than that.
EMPTY_CELL = "\N{EN DASH}"


def row_text(cells: Iterable[str]) -> Iterator[str]:
    """Yield the text of a row, unless all its cells are empty."""
    text = "\t".join(cells).rstrip()
    if text:
        yield EMPTY_CELL + text if text[0] == "\t" else text
