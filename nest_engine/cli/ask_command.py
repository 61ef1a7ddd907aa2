"""The command ``nest ask``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from nest_engine.citations.rendering import printable, to_html, to_markdown
from nest_engine.cli import loading
from nest_engine.cli.console import (
    STDERR,
    print_answer,
    print_json,
    print_text,
    remark,
    reports_errors,
)
from nest_engine.cli.options import (
    EmbedderOption,
    Format,
    Json,
    Load,
    Method,
    Model,
    OwnWords,
    SearchOption,
    Settings,
    Tuned,
    parse_settings,
)
from nest_engine.cli.tune_command import read_tuned
from nest_engine.config import NestConfig
from nest_engine.errors import InputError

if TYPE_CHECKING:
    from nest_engine.output import NestOutput


@reports_errors
def ask(
    question: Annotated[
        str, typer.Argument(help="The question; it is also what the passages are searched for.")
    ],
    docs: Annotated[
        list[Path],
        typer.Option(
            "--docs",
            help="Folder or file to quote from, repeatable; or an index of `nest index build`.",
        ),
    ],
    model: Model = None,
    load: Load = None,
    method: Method = None,
    own_words: OwnWords = None,
    search: SearchOption = None,
    embedder: EmbedderOption = None,
    passages: Annotated[
        int | None, typer.Option("--passages", help="Passages to quote from.")
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option("--max-new-tokens", help="Longest answer.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="0 takes the most probable token.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the sampler.")] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", help="Text that ends the answer, \\n for a new line; repeatable."),
    ] = None,
    reasoning: Annotated[
        bool, typer.Option("--reasoning", help="Show what a model that reasons says to itself.")
    ] = False,
    tuned: Tuned = None,
    pairs: Settings = None,
    output_format: Annotated[
        Format, typer.Option("--format", help="How to write the answer.")
    ] = Format.TEXT,
    as_json: Json = False,
) -> None:
    """Answer a question with exact quotations from your documents."""
    settings = parse_settings(
        pairs,
        method=method,
        own_words=own_words,
        num_passages=passages,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        stop=[text.replace("\\n", "\n").replace("\\t", "\t") for text in stop] if stop else None,
    )
    if not question.strip():
        raise InputError("the question is empty")
    loading.require_docs(docs)
    defaults = None if tuned is None else NestConfig(tuned=read_tuned(tuned))
    # Before the documents: a wrong name shows at once, and reading may take long.
    engine = loading.load_engine(model, load=load)
    if defaults is not None:
        engine.config = defaults
    engine.retriever = loading.open_retriever(docs, search, embedder)
    loading.use_stored_keys(engine, docs)
    with STDERR.status("answering"):
        output = engine.ask(question, **settings)
    for notice in output.notices:
        remark("note", notice)
    output_format = Format.JSON if as_json else output_format
    if reasoning and output.reasoning and output_format is Format.TEXT:
        print_text(Text(printable(output.reasoning), style="dim italic"))
    _show_answer(question, output, output_format)


def _show_answer(question: str, output: NestOutput, output_format: Format) -> None:
    if output_format is Format.JSON:
        print_json({"question": question, **output.to_dict()})
    elif output_format is Format.MARKDOWN:
        typer.echo(to_markdown(output), nl=False)
    elif output_format is Format.HTML:
        typer.echo(to_html(output, title=question), nl=False)
    else:
        print_answer(output)
