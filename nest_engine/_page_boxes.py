"""Where on its page a quotation is, from where the words of its passage are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WORD_BOXES, BOXES = "word_boxes", "boxes"


def cited_metadata(metadata: Mapping[str, Any], start: int, end: int) -> Mapping[str, Any]:
    """Return a passage's metadata for a citation of some of its characters.

    Args:
        metadata: ``Passage.metadata``. ``word_boxes`` says where each word of a page is: its first
            character, one past the last, and the left, upper, right and lower edges of its box, in
            points from the page's top left corner.
        start: first character that is cited.
        end: one past the last.

    Returns:
        the metadata, with ``boxes`` in place of ``word_boxes``: a rectangle around the cited words
        of each line, as its four edges.
    """
    if WORD_BOXES not in metadata:
        return metadata
    boxes: list[list[float]] = []
    for first, last, *edges in metadata[WORD_BOXES]:
        if first >= end or last <= start:
            continue
        if boxes and _is_same_line(boxes[-1], edges):
            pairs = list(zip(boxes[-1], edges, strict=True))
            boxes[-1] = [*map(min, pairs[:2]), *map(max, pairs[2:])]
        else:
            boxes.append(edges)
    others = {name: value for name, value in metadata.items() if name != WORD_BOXES}
    return others | {BOXES: boxes}


def _is_same_line(before: list[float], after: list[float]) -> bool:
    """Return whether a word goes on where another ends."""
    (_, top, right, bottom), (left, other_top, _, other_bottom) = before, after
    overlap = min(bottom, other_bottom) - max(top, other_top)
    height = min(bottom - top, other_bottom - other_top)
    return overlap > height / 2 and 0 <= left - right + height / 4 <= 2 * height
