"""The command ``nest cite``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nest_engine.citations.rendering import to_html, to_markdown
from nest_engine.citing import MIN_WORDS, Citer
from nest_engine.cli import loading
from nest_engine.cli.console import STDERR, print_answer, print_json, reports_errors
from nest_engine.cli.options import Format, Json
from nest_engine.errors import InputError

if TYPE_CHECKING:
    from nest_engine.records import Passage


@reports_errors
def cite(
    docs: Annotated[
        list[Path],
        typer.Option(
            "--docs",
            help="Folder or file that may be quoted, repeatable; or an index of `nest index "
            "build`.",
        ),
    ],
    answer: Annotated[
        Path | None,
        typer.Argument(
            help="File with the text to cite. Without it, or as -, the text comes from a pipe."
        ),
    ] = None,
    question: Annotated[
        str | None,
        typer.Option(
            "--question", help="What was asked: words that stand in it prove nothing in an answer."
        ),
    ] = None,
    min_words: Annotated[
        int, typer.Option("--min-words", min=1, help="Fewest words of a quotation.")
    ] = MIN_WORDS,
    output_format: Annotated[
        Format, typer.Option("--format", help="How to write the text with its citations.")
    ] = Format.TEXT,
    as_json: Json = False,
    as_html: Annotated[bool, typer.Option("--html", help="The same as --format html.")] = False,
) -> None:
    """Find what a text, whoever wrote it, quotes from your documents, and judge its quotations."""
    text = _read(answer)
    loading.require_docs(docs)
    # Nobody who wrote [2] knew in which order the files of a folder would be read.
    is_numbered = all(path.suffix == ".jsonl" for path in docs)
    citer = Citer(_documents(docs), min_words=min_words, numbered=is_numbered)
    with STDERR.status("citing"):
        cited = citer.cite(text, question=question)
    if as_json or output_format is Format.JSON:
        shown = cited.to_dict()
        del shown["passages"]  # the documents
        print_json(shown)
    elif as_html or output_format is Format.HTML:
        typer.echo(to_html(cited, title=question or "Answer with sources"), nl=False)
    elif output_format is Format.MARKDOWN:
        typer.echo(to_markdown(cited), nl=False)
    else:
        print_answer(cited)


def _read(path: Path | None) -> str:
    if path is not None and str(path) != "-":
        name, data = str(path), path.read_bytes()
    elif sys.stdin.isatty():
        raise InputError("there is no text to cite: name a file, or pipe a text to nest cite")
    else:
        name, data = "standard input", sys.stdin.buffer.read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 (byte {error.start}): save it as UTF-8") from error


def _documents(docs: Sequence[Path]) -> Sequence[Passage]:
    """Return whole documents, or pages of PDF files: quotations do not end where passages do."""
    from nest_engine.retrieval import PassageIndex, is_index

    if len(docs) == 1 and is_index(docs[0]):
        return PassageIndex.open(docs[0]).passages
    return loading.read(docs[0] if len(docs) == 1 else docs, whole=True)
