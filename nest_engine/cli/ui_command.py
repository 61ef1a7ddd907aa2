"""The command ``nest ui``."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from nest_engine.cli import loading
from nest_engine.cli.console import remark, reports_errors
from nest_engine.cli.options import EmbedderOption, Load, Model, SearchOption, Tuned
from nest_engine.cli.tune_command import read_tuned
from nest_engine.config import NestConfig

DEFAULT_PORT = 6378  # N, E, S, T on a telephone
_EXAMPLES = 4


@reports_errors
def ui(
    docs: Annotated[
        list[Path] | None,
        typer.Option(
            "--docs",
            help="Folder or file to quote from, repeatable; or an index. Default: the demo corpus.",
        ),
    ] = None,
    model: Model = None,
    load: Load = None,
    search: SearchOption = None,
    embedder: EmbedderOption = None,
    tuned: Tuned = None,
    host: Annotated[
        str, typer.Option("--host", help="Where to listen; by default only this machine can ask.")
    ] = ("127.0.0.1"),
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0 takes any free one.")
    ] = DEFAULT_PORT,
    open_browser: Annotated[
        bool | None,
        typer.Option(
            "--open/--no-open", help="Open the page in a browser. Default: where there is one."
        ),
    ] = None,
) -> None:
    """Ask questions on a page in your browser; answers show what they quote from where."""
    from nest_engine.serving.ui import About, create_app, serve
    from nest_engine.serving.web.listening import LOOPBACK, listen, url_of

    loading.require_docs(docs or [])
    defaults = None if tuned is None else NestConfig(tuned=read_tuned(tuned))
    loading.follow_first_process(model, load)
    with listen(host, port) as listening:
        if host not in LOOPBACK:
            remark(
                "note", f"whoever reaches {host} can ask, and read the passages that answers quote"
            )
        engine = loading.load_engine(model, load=load)
        if defaults is not None:
            engine.config = defaults
        retriever = (
            loading.open_retriever(docs, search, embedder) if docs else loading.open_demo_corpus()
        )
        engine.retriever = retriever
        loading.use_stored_keys(engine, docs or [])
        count = f"{len(retriever.passages):,} passages"
        about = About(
            model=Path(model).name if model else "the demo model",
            corpus=f"{count} of {', '.join(path.name or str(path) for path in docs)}"
            if docs
            else f"{count}, shipped",
            questions=() if docs else loading.demo_questions(_EXAMPLES),
        )
        address = url_of(listening, host)
        remark("ready", f"{address} (Ctrl-C ends it)", style="bold green")
        if _has_browser() if open_browser is None else open_browser:
            webbrowser.open(address)
        serve(create_app(engine, about, host=host), listening)


def _has_browser() -> bool:
    """Return whether this is a desktop session, with a browser that opens in a window."""
    if not sys.stderr.isatty():
        return False
    return sys.platform in ("win32", "darwin") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
