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
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.text import Text

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
        parts += [_Sources(sources), ""]
    if any(piece.ends_splice for piece in pieces):
        parts.append(Text(f"{SPLICE_MARK} {SPLICE_NOTE}", style="dim"))
    parts += [Text(line, style="dim") for line in quotation_lines(output)]
    return Group(*parts, Text(summary_line(output), style="dim"))


def _color(source: Source) -> str:
    return _COLORS[(source.number - 1) % len(_COLORS)]


class _Sources:
    """The sources: in columns on a terminal; a pipe, which wraps nothing, gets whole lines."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 1))
        table.add_column()
        table.add_column(overflow="fold")  # an address, or a script without spaces, is not cut
        for source in self._sources:
            number, lines = Text(f"[{source.number}]", style=_color(source)), _described(source)
            table.add_row(number, lines)
            if options.no_wrap:
                yield Text.assemble(number, " ", Text("\n    ").join(lines.split("\n")))
        if not options.no_wrap:
            yield table


def _described(source: Source) -> Text:
    from rich.text import Text

    lines = Text(source.title, style="bold")
    lines.append("".join(f"  {detail}" for detail in source.details), style="not bold dim")
    for quote in source.quotes:
        lines.append("\n" + _offsets(quote) + quote.before, style="not bold dim")
        lines.append(quote.text, style=f"not bold {_color(source)}")
        lines.append(quote.after, style="not bold dim")
    return lines


def _offsets(quote: Quote) -> str:
    return quote.place + (": " if quote.verified else " (not verified): ")
