"""The command ``nest tune``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nest_engine.cli import loading
from nest_engine.cli.console import STDERR, STDOUT, progress_bar, reports_errors, show_rows
from nest_engine.cli.options import EmbedderOption, Load, Model, SearchOption
from nest_engine.errors import ConfigError, InputError

if TYPE_CHECKING:
    from nest_engine.evaluation.tuning import Tuning

TUNABLE = ("nest", "ra-nest")
_PERPLEXITIES_SHOWN = 10


@reports_errors
def tune(
    docs: Annotated[
        list[Path],
        typer.Option("--docs", help="Folder or file to tune on, repeatable; or an index."),
    ],
    model: Model = None,
    load: Load = None,
    method: Annotated[
        str, typer.Option("--method", help=f"What to tune: {' or '.join(TUNABLE)}.")
    ] = "nest",
    documents: Annotated[int, typer.Option("--documents", min=1, help="Documents to read.")] = 40,
    seed: Annotated[int, typer.Option("--seed", help="Draws other documents.")] = 0,
    search: SearchOption = None,
    embedder: EmbedderOption = None,
    out: Annotated[
        Path, typer.Option("--out", help="File for the settings; other methods' in it are kept.")
    ] = Path("tuned.json"),
    store: Annotated[
        bool,
        typer.Option(
            "--store", help="Also make them the model's own defaults: --model must be a folder."
        ),
    ] = False,
) -> None:
    """Find a model's own settings: how far to trust passages, where to draft, what to accept."""
    if method not in TUNABLE:
        raise ConfigError(
            f"--method {method!r} has nothing to tune: expected {' or '.join(TUNABLE)}"
        )
    config_file = _config_file(model) if store else None
    saved = read_tuned(out) if out.exists() else {}
    engine = loading.load_engine(model, load=load)
    retriever = loading.open_retriever(docs, search, embedder)
    engine.retriever = retriever
    engine.config = engine.config.replace(method=method)
    from nest_engine.evaluation.tuning import make_samples
    from nest_engine.evaluation.tuning import tune as find

    with STDERR.status("searching passages"):
        samples = make_samples(engine, retriever.passages, documents, seed=seed)
    with progress_bar("reading") as progress:
        tuning = find(engine, samples, progress=progress)
    _show(tuning)
    found = {method: tuning.settings}
    if method == "nest":  # the scale of distances is the model's, whatever is made of them
        found["knn-lm"] = {"knn_temperature": tuning.settings["knn_temperature"]}
    _write_json(out, saved | found)
    typer.echo(f"written to {out}; use it with: nest ask ... --tuned {out}")
    if config_file is not None:
        stored = json.loads(config_file.read_text(encoding="utf-8"))
        stored["nest"] = stored.get("nest", {}) | found
        _write_json(config_file, stored)
        typer.echo(f"stored with the model, in {config_file}")


def read_tuned(path: Path) -> dict[str, Any]:
    """Read settings by method, as ``nest tune`` writes them.

    Raises:
        InputError: if the file holds none.
    """
    try:
        tuned = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); nest tune writes it") from error
    if not isinstance(tuned, dict):
        raise InputError(f"{path} holds no settings by method; nest tune writes it")
    return tuned


def _config_file(model: str | None) -> Path:
    if model is None or not (path := Path(model, "config.json")).is_file():
        raise InputError(
            f"--store needs a model in a folder, with its config.json; --model is {model!r}"
        )
    return path


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def _show(tuning: Tuning) -> None:
    best = sorted(tuning.perplexity, key=lambda row: row.mean)[:_PERPLEXITIES_SHOWN]
    show_rows(
        f"perplexity under p_M, the best {_PERPLEXITIES_SHOWN} of {len(tuning.perplexity)}",
        [row.trust._asdict() | row.perplexity | {"mean": row.mean} for row in best],
    )
    settings = [{"settings": name} | figures for name, figures in tuning.perplexity_of.items()]
    show_rows("perplexity", settings)
    show_rows(
        "drafts that could begin by lambda, and the share whose next token was right",
        [row._asdict() for row in tuning.drafting],
    )
    show_rows(
        "drafted tokens that verification accepts", [row._asdict() for row in tuning.acceptance]
    )
    show_rows(
        "tokens for the time of one forward, by draft length",
        [row._asdict() for row in tuning.draft_yield],
    )
    chosen = "  ".join(f"{name}={value}" for name, value in tuning.settings.items())
    STDOUT.print(f"\nrecommended for {tuning.method}: [bold]{chosen}[/bold]\n")
