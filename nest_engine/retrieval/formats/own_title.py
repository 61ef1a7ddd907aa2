"""The title that a file gives itself, without what programs write into the field."""

from __future__ import annotations

import regex

_PRINTED_BY = regex.compile(r"Microsoft (?:Word|PowerPoint|Excel) - ", regex.IGNORECASE)
_NO_TITLE = regex.compile(
    r"(?:untitled|unbenannt|sans titre|sin título|senza titolo|sem título|(?:word |new )?document"
    r"|dokument|documento?|документ|slide|folie|presentation|präsentation|présentation|presentación"
    r"|presentazione|presentatie|apresentação|презентация)[ _-]?\d*"
    r"|(?:microsoft )?powerpoint[ -]?"
    r"(?:presentation|präsentation|presentatie|演示文稿|簡報|プレゼンテーション|프레젠테이션)"
    r"|(?:présentation|presentación de|presentazione(?: standard)?(?: di)?|apresentação do"
    r"|презентация) (?:microsoft )?powerpoint"
    r"|(?:[a-z]:[\\/]|\\\\|file:).*"
    r"|.*\.(?:docx?|dotx?|odt|rtf|wpd|pptx?|ppsx?|odp|xlsx?|indd|qx[dp]|pub|pdf|tex|dvi|ps)",
    regex.IGNORECASE,
)


def own_title(title: str | None) -> str:
    """Return a title; empty if it is the program's, or the name of a file."""
    title = _PRINTED_BY.sub("", (title or "").strip())
    return "" if _NO_TITLE.fullmatch(title) else title
