"""The command ``nest serve``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from nest_engine.cli import loading
from nest_engine.cli.console import remark, reports_errors
from nest_engine.cli.options import (
    EmbedderOption,
    Load,
    Model,
    Search,
    SearchOption,
    Settings,
    Tuned,
    parse_settings,
)
from nest_engine.cli.tune_command import read_tuned
from nest_engine.config import NestConfig
from nest_engine.errors import ConfigError

DEFAULT_PORT = 8000


@reports_errors
def serve(
    docs: Annotated[
        list[Path] | None,
        typer.Option(
            "--docs",
            help="Folder or file to quote from, repeatable; or an index. Default: the demo corpus.",
        ),
    ] = None,
    model: Model = None,
    load: Load = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", help="What clients call the model. Default: the last part of --model."
        ),
    ] = None,
    search: SearchOption = None,
    embedder: EmbedderOption = None,
    tuned: Tuned = None,
    pairs: Settings = None,
    host: Annotated[
        str, typer.Option("--host", help="Where to listen; by default only this machine can ask.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0 takes any free one.")
    ] = DEFAULT_PORT,
    api_key: Annotated[
        str | None,
        typer.Option(
            "--api-key",
            envvar="NEST_API_KEY",
            help="Asked of every client; needed for other hosts.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            help="Another name that the server is reached by, such as host.docker.internal; "
            "repeatable.",
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin",
            help="A page of another site that may ask, such as app://obsidian.md; repeatable.",
        ),
    ] = None,
    upstream: Annotated[
        str | None,
        typer.Option(
            "--upstream",
            help="Cite the answers of another server of OpenAI's API instead of loading a model: "
            "its address, such as http://localhost:11434/v1.",
        ),
    ] = None,
    upstream_key: Annotated[
        str | None,
        typer.Option(
            "--upstream-key",
            envvar="NEST_UPSTREAM_KEY",
            help="Its API key. Default: the client's.",
        ),
    ] = None,
    max_running: Annotated[
        int, typer.Option("--max-running", min=1, help="Most answers decoded together.")
    ] = 8,
    max_waiting: Annotated[
        int, typer.Option("--max-waiting", min=0, help="Most requests that wait beside them.")
    ] = 64,
) -> None:
    """Serve the APIs of OpenAI and Anthropic; answers quote their sources exactly."""
    from nest_engine.serving.scheduler import Scheduler
    from nest_engine.serving.server import create_app
    from nest_engine.serving.server import serve as serve_app
    from nest_engine.serving.web.listening import LOOPBACK, listen, url_of

    if host not in LOOPBACK and not api_key:
        raise ConfigError(
            f"whoever reaches {host} could ask; give an --api-key (or NEST_API_KEY), or leave "
            f"--host out"
        )
    if "*" in (allow_origin or []) and not api_key:
        raise ConfigError(
            "with --allow-origin '*' the pages of any site could ask; name the sites, or give an "
            "--api-key"
        )
    loading.require_docs(docs or [])
    if upstream is not None:
        let_in = allow_host or [], allow_origin or []
        _serve_upstream(
            upstream, docs or [], search, embedder, host, port, api_key, upstream_key, *let_in
        )
        return
    settings = parse_settings(pairs)
    defaults = None if tuned is None else NestConfig(tuned=read_tuned(tuned))
    loading.follow_first_process(model, load)
    with listen(host, port) as listening:
        engine = loading.load_engine(model, load=load)
        engine.config = (defaults or engine.config).replace(**settings)
        retriever = (
            loading.open_retriever(docs, search, embedder) if docs else loading.open_demo_corpus()
        )
        engine.retriever = retriever
        loading.use_stored_keys(engine, docs or [])
        shown = name or (Path(model).name if model else "nest-demo")
        scheduler = Scheduler(engine, max_running=max_running, max_waiting=max_waiting)
        app = create_app(
            scheduler,
            model=shown,
            host=host,
            api_key=api_key or None,
            allow_hosts=allow_host or [],
            allow_origins=allow_origin or [],
        )
        about = f"model {shown!r}, {len(retriever.passages):,} passages"
        remark(
            "ready", f"{url_of(listening, host)}v1 ({about}; Ctrl-C ends it)", style="bold green"
        )
        try:
            serve_app(app, listening)
        finally:
            scheduler.close(drain=False)


def _serve_upstream(
    upstream: str,
    docs: Sequence[Path],
    search: Search | None,
    embedder: str | None,
    host: str,
    port: int,
    api_key: str | None,
    upstream_key: str | None,
    allow_hosts: Sequence[str],
    allow_origins: Sequence[str],
) -> None:
    """Serve a proxy that cites what another server answers."""
    from nest_engine.serving.server import create_proxy
    from nest_engine.serving.server import serve as serve_app
    from nest_engine.serving.web.listening import listen, url_of

    with listen(host, port) as listening:
        retriever = loading.open_retriever(docs, search, embedder) if docs else None
        app = create_proxy(
            upstream,
            retriever=retriever,
            upstream_key=upstream_key or None,
            host=host,
            api_key=api_key or None,
            allow_hosts=allow_hosts,
            allow_origins=allow_origins,
        )
        count = len(retriever.passages) if retriever else 0
        about = f"in front of {urlsplit(upstream).netloc.rpartition('@')[2]}, {count:,} passages"
        if not docs:
            remark("note", "no --docs: answers are cited by the passages that requests bring")
        remark(
            "ready", f"{url_of(listening, host)}v1 ({about}; Ctrl-C ends it)", style="bold green"
        )
        serve_app(app, listening)
