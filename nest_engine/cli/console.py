"""Output of all commands: answers to stdout, progress, remarks and errors to stderr."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from nest_engine.citations.formats import json_ready
from nest_engine.citations.rendering import printable, to_terminal
from nest_engine.errors import NestError
from nest_engine.records import CitedText

if TYPE_CHECKING:
    from nest_engine.retrieval import Progress

P = ParamSpec("P")

_WIDEST = 1000  # columns of a table in a file

STDOUT = Console(highlight=False)
STDERR = Console(stderr=True, highlight=False)


def reports_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Turn every failure of a command into one line on stderr and exit code 1."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
            raise  # handled by typer
        except (Exception, KeyboardInterrupt) as error:
            if os.environ.get("NEST_DEBUG") == "1":
                raise
            remark("error", _describe(error), style="bold red")
            raise typer.Exit(1) from error

    return run


@contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """Draw a progress bar on stderr, if it is a terminal."""
    from rich.progress import Progress as Bar

    with Bar(console=STDERR, transient=True, disable=not STDERR.is_terminal) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def remark(kind: str, message: str, style: str = "yellow") -> None:
    """Write one line to stderr."""
    line = Text.assemble((f"{kind}: ", style), printable(" ".join(message.split())))
    STDERR.print(line, soft_wrap=True)


def _describe(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, (NestError, OSError)):
        return str(error)
    return f"{type(error).__name__}: {error} (NEST_DEBUG=1 shows where)"


def print_text(text: RenderableType) -> None:
    """Write text to stdout, wrapped on a terminal; a pipe gets its lines as they are."""
    STDOUT.print(text, soft_wrap=not STDOUT.is_terminal)


def print_answer(output: CitedText) -> None:
    """Write an answer with its sources to stdout."""
    print_text(to_terminal(output))


def print_json(value: Any) -> None:
    """Write a value to stdout as JSON."""
    typer.echo(json.dumps(json_ready(value), indent=2))


def show_rows(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw records as a table, with the names of their fields as headings.

    Nothing is cut off: a narrow terminal breaks values, and a file gets lines of any width.
    """
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name, justify="right", overflow="fold")
    for row in rows:
        table.add_row(
            *(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values())
        )
    console = STDOUT if STDOUT.is_terminal else Console(highlight=False, width=_WIDEST)
    console.print(table)
