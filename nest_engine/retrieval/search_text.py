"""The text by which a passage is found."""

from __future__ import annotations

from nest_engine.records import Passage


def search_text(passage: Passage) -> str:
    """Return the title, which often names what the text calls "it", and the text."""
    return f"{passage.title}\n{passage.text}" if passage.title else passage.text
