"""The command ``nest eval``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nest_engine.citations.formats import json_ready
from nest_engine.cli import loading
from nest_engine.cli.console import progress_bar, remark, reports_errors
from nest_engine.cli.options import (
    EmbedderOption,
    Json,
    Load,
    Model,
    SearchOption,
    Settings,
    parse_setting,
    parse_settings,
)
from nest_engine.cli.tune_command import read_tuned
from nest_engine.config import METHODS, NestConfig
from nest_engine.errors import ConfigError

if TYPE_CHECKING:
    from nest_engine.evaluation import Record, Row


@reports_errors
def evaluate(
    task: Annotated[
        str,
        typer.Option(
            "--task", help="completion, qa, biography, attribution or choice; docs/evaluation.md."
        ),
    ],
    data: Annotated[
        Path,
        typer.Option("--data", help="The examples, in any of the layouts of docs/evaluation.md."),
    ],
    docs: Annotated[
        list[Path] | None,
        typer.Option(
            "--docs",
            help="Folder or file to quote from, repeatable; or an index. Without it: the passages "
            "that come with the examples.",
        ),
    ] = None,
    methods: Annotated[
        str,
        typer.Option(
            "--methods",
            help="What to compare, by commas; nest+gamma=0.05 is nest with another setting.",
        ),
    ] = ",".join(METHODS),
    model: Model = None,
    load: Load = None,
    out: Annotated[
        Path, typer.Option("--out", help="Folder of results; what is there is not measured again.")
    ] = Path("evaluation"),
    conditions: Annotated[
        str | None,
        typer.Option(
            "--conditions",
            help="By commas: gold, the subject's article can be searched; no-gold, it is kept out; "
            "open, whatever is found. Default: gold,no-gold for examples whose article is among "
            "the passages, else open.",
        ),
    ] = None,
    examples: Annotated[
        int | None,
        typer.Option("--examples", min=1, help="How many examples, drawn at random. Default: all."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Draws other examples.")] = 0,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Examples decoded together.")
    ] = 8,
    max_new_tokens: Annotated[
        int | None,
        typer.Option("--max-new-tokens", help="Longest answer. Default: the paper's for the task."),
    ] = None,
    search: SearchOption = None,
    embedder: EmbedderOption = None,
    tuned: Annotated[
        Path | None,
        typer.Option("--tuned", help="Settings that `nest tune` wrote, as the model's defaults."),
    ] = None,
    pairs: Settings = None,
    as_json: Json = False,
) -> None:
    """Measure quality, attribution and speed of the methods on your data, with intervals."""
    settings = parse_settings(pairs, max_new_tokens=max_new_tokens)
    variants = _parse_methods(methods, settings)
    wanted = tuple(part.strip() for part in conditions.split(",")) if conditions else ()
    defaults = None if tuned is None else NestConfig(tuned=read_tuned(tuned))

    from nest_engine import evaluation

    if task not in evaluation.TASKS:
        raise ConfigError(
            f"--task {task!r} is not valid: expected one of {', '.join(evaluation.TASKS)}"
        )
    loading.require_docs(docs or ())
    _require_apart(out, docs or ())
    evaluation.require_libraries()
    data_set = evaluation.read_examples(data)
    if docs:
        data_set = [replace(example, passages=()) for example in data_set]
    elif bare := [example.id for example in data_set if not example.passages]:
        raise ConfigError(
            f"{len(bare)} of {len(data_set)} examples of {data} come without passages, example "
            f"{bare[0]} first: give --docs, where passages for them can be searched, or each a "
            "field passages"
        )
    engine = loading.load_engine(model, load=load)
    if "chat_template_kwargs" in settings:  # prompts are made once, for all variants
        engine.config = engine.config.replace(chat_template_kwargs=settings["chat_template_kwargs"])
    articles = evaluation.Articles(())
    if docs:
        engine.retriever = retriever = loading.open_retriever(docs, search, embedder)
        articles = evaluation.Articles(retriever.passages)
    elif embedder:
        engine.embedder = loading.load_embedder(embedder)
    limit = evaluation.TASKS[task].max_new_tokens
    settings = ({"max_new_tokens": limit} if limit else {}) | settings
    base = defaults or engine.config
    configs = {
        name: base.replace(method=method).replace(**settings | own)
        for name, (method, own) in variants.items()
    }
    planned = evaluation.plan(
        task, data_set, configs, articles, conditions=wanted, limit=examples, seed=seed
    )
    if planned.unsuited:
        remark(
            "note",
            f"{planned.unsuited} examples are left out: {task} needs "
            f"{evaluation.TASKS[task].needs}",
        )
    if planned.left_out:
        remark(
            "note",
            f"{planned.left_out} examples are left out: their article is not among the passages",
        )
    results = evaluation.Results(
        out,
        evaluation.identity(planned, engine, articles),
        {name: config.to_dict() for name, config in configs.items()},
    )
    with progress_bar("evaluating") as progress:
        records = evaluation.evaluate(
            planned, engine, articles, results, batch_size=batch_size, progress=progress
        )
    rows = evaluation.summarize(records)
    shown = _write(out, task, records, rows, as_json=as_json)
    for row in rows:
        if row.failed:
            remark(
                "note",
                f"{row.failed} of {row.examples} examples failed in {row.condition} by "
                f"{row.variant}: {out}",
            )
    typer.echo(shown, nl=False)


def _require_apart(out: Path, docs: Sequence[Path]) -> None:
    """Raise ``ConfigError`` if results would be written among the documents."""
    for path in docs:
        if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
            raise ConfigError(
                f"--out {out} lies in --docs {path}: the tables would be read as documents the "
                "next time; give a folder elsewhere"
            )


def _parse_methods(
    methods: str, settings: Mapping[str, Any]
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Read ``lm,nest+gamma=0.05``: for each part, the method and its own settings.

    Args:
        methods: the parts, by commas.
        settings: those of all variants, together with which they are checked.
    """
    if "method" in settings:
        raise ConfigError(
            f"--set method={settings['method']} would make every variant the same; name methods "
            "with --methods"
        )
    variants: dict[str, tuple[str, dict[str, Any]]] = {}
    for part in methods.split(","):
        method, *pairs = part.strip().split("+")
        own = dict(parse_setting(pair, "--methods") for pair in pairs)
        if "method" in own:
            raise ConfigError(
                f"--methods {part.strip()} has two methods, {method} and {own['method']}; give one"
            )
        NestConfig.from_dict({"method": method, **settings, **own})
        variants[part.strip()] = (method, own)
    return variants


def _write(
    folder: Path, task: str, records: Sequence[Record], rows: Sequence[Row], *, as_json: bool
) -> str:
    """Write the summary and what FActScore reads into the folder; return what to print."""
    from nest_engine import evaluation

    shown = {name for row in rows for name in row.estimates}
    summary = {
        "task": task,
        "metrics": {
            name: metric.meaning for name, metric in evaluation.METRICS.items() if name in shown
        },
        "rows": evaluation.to_dicts(rows),
    }
    as_text = json.dumps(json_ready(summary), indent=2, ensure_ascii=False) + "\n"
    as_markdown = evaluation.to_markdown(rows)
    (folder / "summary.json").write_text(as_text, encoding="utf-8")
    (folder / "summary.md").write_text(as_markdown, encoding="utf-8")
    if task == "biography":
        for row in rows:
            own = [
                r for r in records if (r["variant"], r["condition"]) == (row.variant, row.condition)
            ]
            lines = [
                json.dumps(line, ensure_ascii=False) + "\n"
                for line in evaluation.factscore_records(own)
            ]
            name = re.sub(r"[^\w.+=-]", "_", f"factscore-{row.variant}-{row.condition}.jsonl")
            (folder / name).write_text("".join(lines), encoding="utf-8")
    return as_text if as_json else as_markdown
