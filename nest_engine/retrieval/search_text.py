"""The text by which a passage is found."""

from __future__ import annotations

from nest_engine.records import Passage
from nest_engine.retrieval.section import section_above


def search_text(passage: Passage) -> str:
    """Return title, headings above and text: the first two often name what the text calls "it"."""
    return "\n".join(filter(None, (passage.title, section_above(passage), passage.text)))
