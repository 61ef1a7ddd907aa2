"""The command ``nest``: try the engine, ask your own files, tune, evaluate, build a passage index.

Answers go to stdout, progress and remarks to stderr. Every failure is one line and exit code 1 (2
for wrong usage); ``NEST_DEBUG=1`` shows the traceback. torch and transformers are imported inside
the commands, so help is immediate.
"""

from __future__ import annotations

import io
import sys
from typing import Annotated

from nest_engine.errors import MissingDependencyError

try:
    import rich  # noqa: F401
    import typer
except ImportError as missing:
    # The entry point imports this module: exit code 1 with a message, without a traceback.
    package = (missing.name or "typer").partition(".")[0]
    raise SystemExit(str(MissingDependencyError(package, "cli"))) from missing

from nest_engine.cli.ask_command import ask
from nest_engine.cli.cache_command import cache
from nest_engine.cli.cite_command import cite
from nest_engine.cli.demo_command import demo
from nest_engine.cli.eval_command import evaluate
from nest_engine.cli.index_commands import app as index_app
from nest_engine.cli.serve_command import serve
from nest_engine.cli.tune_command import tune
from nest_engine.cli.ui_command import ui

app = typer.Typer(
    name="nest",
    help="Answers that quote their sources exactly.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.command()(ask)
app.command()(cite)
app.command()(ui)
app.command()(serve)
app.command()(tune)
app.command("eval")(evaluate)
app.command()(cache)
app.add_typer(index_app, name="index")


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A console without, say, Greek still gets the rest of the answer.
            stream.reconfigure(errors="replace")
    app()


@app.callback(invoke_without_command=True)
def _global_options(
    show_version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True)
    ] = False,
) -> None:
    if show_version:
        from nest_engine._version import __version__

        typer.echo(f"nest-engine {__version__}")
        raise typer.Exit
