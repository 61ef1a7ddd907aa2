"""The commands ``nest index``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from nest_engine.citations.rendering import printable
from nest_engine.cli import loading
from nest_engine.cli.console import STDOUT, print_text, progress_bar, remark, reports_errors
from nest_engine.cli.options import EmbedderOption, Keys, Load, SearchOption
from nest_engine.errors import ConfigError
from nest_engine.records import Passage

app = typer.Typer(help="Build, describe and search an index of passages.", no_args_is_help=True)


@app.command("build")
@reports_errors
def index_build(
    docs: Annotated[list[Path], typer.Argument(help="Folders or files to read.")],
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the index; an index there is replaced.")
    ],
    dense: Annotated[
        bool, typer.Option("--dense", help="Also store vectors, for --search dense or hybrid.")
    ] = False,
    embedder: EmbedderOption = None,
    exact: Annotated[
        bool | None,
        typer.Option(
            "--exact/--approximate",
            help="Search all vectors, or the nearest clusters of them. Default: by the number of "
            "passages.",
            show_default=False,
        ),
    ] = None,
    keys: Annotated[
        Keys | None,
        typer.Option(
            "--keys", help="Also store the passages' keys for a model; go on after a kill."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The model of --keys. Default: the demo model.")
    ] = None,
    load: Load = None,
) -> None:
    """Read documents and write an index of their passages."""
    from nest_engine.datastore.key_store import KeyStore, keys_folder
    from nest_engine.retrieval import PassageIndex

    about_model = [f"--model {model}"] * (model is not None) + [
        f"--load {pair}" for pair in load or ()
    ]
    if about_model and keys is None:
        raise ConfigError(
            f"{about_model[0]} is only used with --keys fp16 or --keys int8: add one of them"
        )
    if exact is not None and not (dense or embedder):
        raise ConfigError(
            f"--{'exact' if exact else 'approximate'} is about vectors: add --dense or --embedder"
        )
    vectors = loading.load_embedder(embedder) if dense or embedder else None
    if keys is None:
        loading.leave_to_first_process()
    engine = loading.load_engine(model, load=load) if keys else None
    passages = loading.read(docs)
    with progress_bar("building the index") as progress:
        index = PassageIndex.build(passages, out, embedder=vectors, exact=exact, progress=progress)
    typer.echo(f"{out}: passages: {index.info().passages}")
    if engine is not None and keys is not None:
        with progress_bar("computing keys") as progress:
            store = KeyStore.build(
                keys_folder(out),
                engine.language_model,
                index.passages,
                key_format=keys.value,
                progress=progress,
            )
        typer.echo(f"{store.folder}: keys of {len(store)} passages, {store.nbytes / 1e6:.1f} MB")


@app.command("info")
@reports_errors
def index_info(index: Annotated[Path, typer.Argument(help="Folder of the index.")]) -> None:
    """Describe an index, after checking that none of its files has changed."""
    from nest_engine.datastore.key_store import KeyStore, keys_folder
    from nest_engine.retrieval import PassageIndex

    loading.leave_to_first_process()
    info = asdict(PassageIndex.open(index).info())
    if keys_folder(index).is_dir():
        store = KeyStore.open(keys_folder(index))
        info |= {
            "keys": f"{store.format} of {len(store)} passages",
            "keys_bytes": store.nbytes,
            "keys_fingerprint": store.fingerprint,
        }
    for name, value in info.items():
        typer.echo(f"{name}: {'-' if value is None else value}")


@app.command("search")
@reports_errors
def index_search(
    index: Annotated[Path, typer.Argument(help="Folder of the index.")],
    query: Annotated[str, typer.Argument(help="What to search for.")],
    k: Annotated[int, typer.Option("-k", help="Passages to show.")] = 5,
    search: SearchOption = None,
    embedder: EmbedderOption = None,
) -> None:
    """Show the passages that are found for a query, best first."""
    loading.leave_to_first_process()
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
    print_text(Text(printable(text if len(text) <= 240 else f"{text[:240]}…")))
