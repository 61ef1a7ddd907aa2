"""How the headings that a passage stands below, or holds, are written: as Markdown marks them."""

from __future__ import annotations

from collections.abc import Mapping

from nest_engine.records import Passage


def marked_heading(heading: str, level: int) -> str:
    """Return a heading on one line, with the signs of its level, from 1."""
    return f"{'#' * level} {' '.join(heading.split())}"


def section_of(headings: Mapping[int, object]) -> dict[str, str]:
    """Return the headings above a passage as its metadata names them; nothing if there are none.

    Args:
        headings: by their level, from 1; empty ones are left out.
    """
    lines = [marked_heading(str(each), level) for level, each in headings.items() if each]
    return {"section": "\n".join(lines)} if lines else {}


def section_above(passage: Passage) -> str:
    """Return the headings that a passage begins below, a line each; empty if nobody says."""
    section = passage.metadata.get("section")
    return section if isinstance(section, str) else ""  # it may be anybody's
