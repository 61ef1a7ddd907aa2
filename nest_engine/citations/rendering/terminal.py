"""Render answers in a terminal with rich."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nest_engine.citations.rendering.layout import (
    SPLICE_MARK,
    SPLICE_NOTE,
    Quote,
    Source,
    lay_out,
    quotation_lines,
    summary_line,
)
from nest_engine.errors import MissingDependencyError
from nest_engine.records import CitedText

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_COLORS = ("cyan", "green", "magenta", "yellow", "blue", "bright_red")


def to_terminal(output: CitedText, *, context_chars: int = 40) -> RenderableType:
    """Return a rich renderable: the answer with coloured quotations, sources and statistics.

    Args:
        output: the answer.
        context_chars: how much of the source to show on each side of a quotation.

    Raises:
        MissingDependencyError: if rich is not installed.
    """
    try:
        from rich.console import Group
        from rich.text import Text
    except ImportError as error:
        raise MissingDependencyError("rich", "cli") from error
    pieces, sources = lay_out(output, context_chars)
    answer = Text()
    for piece in pieces:
        answer.append(piece.text, style=f"bold {_color(piece.source)}" if piece.source else "")
        if piece.source:
            answer.append(f"[{piece.source.number}]", style=_color(piece.source))
        if piece.ends_splice:
            answer.append(SPLICE_MARK, style="dim")
    parts: list[RenderableType] = [answer, ""]
    if sources:
        parts += [_sources(sources), ""]
    if any(piece.ends_splice for piece in pieces):
        parts.append(Text(f"{SPLICE_MARK} {SPLICE_NOTE}", style="dim"))
    parts += [Text(line, style="dim") for line in quotation_lines(output)]
    return Group(*parts, Text(summary_line(output), style="dim"))


def _color(source: Source) -> str:
    return _COLORS[(source.number - 1) % len(_COLORS)]


def _sources(sources: Sequence[Source]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    for source in sources:
        color = _color(source)
        lines = Text(source.title, style="bold")
        lines.append("".join(f"  {detail}" for detail in source.details), style="not bold dim")
        for quote in source.quotes:
            lines.append("\n" + _offsets(quote) + quote.before, style="not bold dim")
            lines.append(quote.text, style=f"not bold {color}")
            lines.append(quote.after, style="not bold dim")
        table.add_row(Text(f"[{source.number}]", style=color), lines)
    return table


def _offsets(quote: Quote) -> str:
    return quote.place + (": " if quote.verified else " (not verified): ")
