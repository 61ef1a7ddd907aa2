"""What a passage is found by."""

from __future__ import annotations

from nest_engine.types import Passage


def search_text(passage: Passage) -> str:
    """Return the title, which often names what the text calls "it", and the text."""
    return f"{passage.title}\n{passage.text}" if passage.title else passage.text
