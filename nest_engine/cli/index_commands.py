"""The commands ``nest index``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from nest_engine.cli import loading
from nest_engine.cli.console import STDOUT, progress_bar, remark, reports_errors
from nest_engine.cli.options import EmbedderOption, SearchOption
from nest_engine.rendering import printable
from nest_engine.types import Passage

app = typer.Typer(help="Build, describe and search an index of passages.", no_args_is_help=True)


@app.command("build")
@reports_errors
def index_build(
    docs: Annotated[list[Path], typer.Argument(help="Folders or files to read.")],
    out: Annotated[Path, typer.Option("--out", help="Directory of the index; an index there is replaced.")],
    dense: Annotated[bool, typer.Option("--dense", help="Also store vectors, for --search dense or hybrid.")] = False,
    embedder: EmbedderOption = None,
) -> None:
    """Read documents and write an index of their passages."""
    from nest_engine.retrieval import PassageIndex

    vectors = loading.load_embedder(embedder) if dense or embedder else None
    passages = loading.read(docs)
    with progress_bar("building the index") as progress:
        index = PassageIndex.build(passages, out, embedder=vectors, progress=progress)
    typer.echo(f"{out}: passages: {index.info().passages}")


@app.command("info")
@reports_errors
def index_info(index: Annotated[Path, typer.Argument(help="Directory of the index.")]) -> None:
    """Describe an index, after checking that none of its files has changed."""
    from nest_engine.retrieval import PassageIndex

    for name, value in asdict(PassageIndex.open(index).info()).items():
        typer.echo(f"{name}: {'-' if value is None else value}")


@app.command("search")
@reports_errors
def index_search(
    index: Annotated[Path, typer.Argument(help="Directory of the index.")],
    query: Annotated[str, typer.Argument(help="What to search for.")],
    k: Annotated[int, typer.Option("-k", help="Passages to show.")] = 5,
    search: SearchOption = None,
    embedder: EmbedderOption = None,
) -> None:
    """Show the passages that are found for a query, best first."""
    [found] = loading.open_index(index, search, embedder).retrieve([query], k)
    for rank, passage in enumerate(found, start=1):
        _show_passage(rank, passage)
    if not found:
        remark("note", "no passage matches")


def _show_passage(rank: int, passage: Passage) -> None:
    score = "" if passage.score is None else f"  {passage.score:.2f}"
    heading = f"{passage.title or passage.id}{score}  {passage.uri or ''}".rstrip()
    text = " ".join(passage.text.split())
    STDOUT.print(Text.assemble(f"{rank}. ", (printable(heading), "bold")), soft_wrap=True)
    STDOUT.print(Text(printable(text if len(text) <= 240 else f"{text[:240]}…")))
