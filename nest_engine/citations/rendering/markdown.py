"""Render answers as Markdown with footnotes."""

from __future__ import annotations

import re
from html import escape

from nest_engine.citations.rendering.layout import (
    SPLICE_NOTE,
    Piece,
    Quote,
    Source,
    lay_out,
    quotation_lines,
)
from nest_engine.records import CitedText

_SYNTAX = re.compile(r"[\\`*_\[\]#!~$|]")
# What makes a line an item of a list, a rule or a heading's underline; and the white space that
# makes it code, in which nothing can be escaped.
_BLOCK = re.compile(r"^([ \t]*)((?=[-+=])|\d{1,9}(?=[.)]))([-+=.)])(?=[\s=-]|$)", re.MULTILINE)
_INDENT = re.compile(r"^(?= {4}| {0,3}\t)[ \t]", re.MULTILINE)


def to_markdown(output: CitedText, *, context_chars: int = 40) -> str:
    """Return the answer as escaped Markdown with one footnote per source.

    Args:
        output: the answer.
        context_chars: how much of the source to show on each side of a quotation.
    """
    pieces, sources = lay_out(output, context_chars)
    answer = "".join(_piece(piece) for piece in pieces)
    footnotes = [_footnote(source) for source in sources]
    if any(piece.ends_splice for piece in pieces):
        footnotes.append(f"[^spliced]: {SPLICE_NOTE}")
    verdicts = [f"- {_escape(line)}" for line in quotation_lines(output)]
    blocks = [answer, *footnotes, *(["\n".join(verdicts)] if verdicts else [])]
    return "\n\n".join(blocks) + "\n"


def _piece(piece: Piece) -> str:
    marks = [f"[^{piece.source.number}]"] if piece.source else []
    marks += ["[^spliced]"] if piece.ends_splice else []
    if not marks:
        return _escape(piece.text)
    # The marks go before trailing white space: at the start of a line they could begin a footnote
    # definition.
    text = piece.text.rstrip()
    return _escape(text) + "".join(marks) + _escape(piece.text[len(text) :])


def _footnote(source: Source) -> str:
    title = _escape(source.title)
    heading = [f"[{title}](<{source.link}>)" if source.link else title]
    heading += [_escape(detail) for detail in source.details if detail != source.link]
    return f"[^{source.number}]: " + "; ".join([", ".join(heading), *map(_quote, source.quotes)])


def _quote(quote: Quote) -> str:
    # Emphasis must not begin or end with white space.
    before, text, after = map(_escape, (quote.before, quote.text.strip(), quote.after))
    opening = " **" if quote.text.startswith(" ") else "**"
    closing = "** " if quote.text.endswith(" ") else "**"
    return f"{quote.place}: “{before}{opening}{text}{closing}{after}”"


def _escape(text: str) -> str:
    escaped = escape(_SYNTAX.sub(r"\\\g<0>", text), quote=False)
    escaped = _BLOCK.sub(r"\1\2\\\3", escaped)
    return _INDENT.sub(lambda indent: f"&#{ord(indent[0])};", escaped)
