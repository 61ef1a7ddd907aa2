"""The command ``nest tune``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nest_engine.cli import loading
from nest_engine.cli.console import STDOUT, progress_bar, remark, reports_errors, show_rows
from nest_engine.cli.options import EmbedderOption, Load, Model, SearchOption
from nest_engine.config import NestConfig
from nest_engine.errors import ConfigError, InputError

if TYPE_CHECKING:
    from nest_engine.evaluation.summary import Row
    from nest_engine.evaluation.tuning import Tuning

TUNABLE = ("nest", "ra-nest")
_SHOWN = {
    "worth": "worth %",
    "answer_recall": "right %",
    "quoted_sentences": "quoted %",
    "spliced_sentences": "spliced %",
    "odd_tokens": "odd %",
    "length": "tokens",
    "tokens_per_forward": "tokens/forward",
}


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
    ] = "ra-nest",
    questions: Annotated[
        int,
        typer.Option(
            "--questions", min=4, help="Questions to ask: half to choose by, half to check."
        ),
    ] = 40,
    seed: Annotated[int, typer.Option("--seed", help="Asks other questions.")] = 0,
    search: SearchOption = None,
    embedder: EmbedderOption = None,
    out: Annotated[
        Path, typer.Option("--out", help="File for the settings; other methods' in it are kept.")
    ] = Path("tuned.json"),
    work: Annotated[
        Path, typer.Option("--work", help="Folder of answers; a stopped run goes on there.")
    ] = Path("tuning"),
    store: Annotated[
        bool,
        typer.Option(
            "--store", help="Also make them the model's own defaults: --model must be a folder."
        ),
    ] = False,
) -> None:
    """Find a model's own settings, by its answers to questions made from your documents."""
    if method not in TUNABLE:
        raise ConfigError(
            f"--method {method!r} has nothing to tune: expected {' or '.join(TUNABLE)}"
        )
    loading.require_docs(docs)
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise InputError(
            f"--out {out} cannot be written: give a file in a folder that exists and is writable"
        )
    config_file = _config_file(model) if store else None
    saved = read_tuned(out) if out.exists() else {}
    engine = loading.load_engine(model, load=load)
    retriever = loading.open_retriever(docs, search, embedder)
    engine.retriever = retriever
    engine.config = engine.config.replace(method=method)
    from nest_engine.evaluation.tuning import make_questions
    from nest_engine.evaluation.tuning import tune as find

    asked = make_questions(retriever.passages, retriever, questions, seed=seed)
    if len(asked) < questions:
        remark(
            "note", f"{len(asked)} questions instead of {questions}: the documents yield no more"
        )
    with progress_bar("answering") as progress:
        tuning = find(engine, asked, work / method, progress=progress)
    _show(tuning)
    if not tuning.settings:
        typer.echo(f"nothing is recommended, and {out} is left as it is")
        return
    found = {method: saved.get(method, {}) | dict(tuning.settings)}
    _write_json(out, saved | found)
    typer.echo(f"written to {out}; use it with: nest ask ... --tuned {out}")
    if config_file is not None:
        stored = json.loads(config_file.read_text(encoding="utf-8"))
        own = stored.get("nest", {})
        stored["nest"] = own | {method: own.get(method, {}) | dict(tuning.settings)}
        _write_json(config_file, stored)
        typer.echo(f"stored with the model, in {config_file}")


def read_tuned(path: Path) -> dict[str, Any]:
    """Read settings by method, as ``nest tune`` writes them.

    Raises:
        InputError: if the file holds none, or one that is not valid.
    """
    try:
        tuned = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); nest tune writes it") from error
    if not isinstance(tuned, dict):
        raise InputError(f"{path} holds no settings by method; nest tune writes it")
    try:
        for method in tuned:
            NestConfig(tuned=tuned).replace(method=method)
    except ConfigError as error:
        raise InputError(f"{path}: {error}; nest tune writes it") from error
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
    show_rows(
        f"what was tried, over {tuning.tried[0].examples} questions",
        [_figures(row) for row in tuning.tried],
    )
    show_rows(
        f"{tuning.checked[0].examples} other questions", [_figures(row) for row in tuning.checked]
    )
    chosen = "  ".join(f"{name}={value:g}" for name, value in tuning.chosen.items())
    if tuning.gain is None:
        STDOUT.print(f"\nwhat {tuning.method} has is best\n")
        return
    gain = tuning.gain
    STDOUT.print(
        f"\n{tuning.method} with [bold]{chosen}[/bold]: {gain.value:+.1f} points of worth over "
        f"other questions, 95 % between {gain.low:+.1f} and {gain.high:+.1f}\n"
    )
    if tuning.settings and not gain.low > 0:
        STDOUT.print("This may be chance: ask more with --questions.\n")


def _figures(row: Row) -> dict[str, Any]:
    return {"settings": row.variant} | {
        heading: row.estimates[name].value if name in row.estimates else "–"
        for name, heading in _SHOWN.items()
    }
