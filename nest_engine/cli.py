"""The command ``nest``: try the engine, ask your own files, build a passage index.

Answers go to stdout, progress and remarks to stderr. Every failure is one line and exit code 1 (2 for wrong usage);
``NEST_DEBUG=1`` shows the traceback. torch and transformers are imported inside the commands, so help is immediate.
"""

from __future__ import annotations

import functools
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

from nest_engine.citation_formats import json_ready
from nest_engine.config import METHODS, NestConfig
from nest_engine.errors import InputError, MissingDependencyError, NestError
from nest_engine.rendering import printable, to_html, to_markdown, to_terminal

try:
    import typer
    from rich.console import Console
    from rich.text import Text
except ImportError as missing:  # the entry point imports this module: a message and exit code 1, no traceback
    package = (missing.name or "typer").partition(".")[0]
    raise SystemExit(str(MissingDependencyError(package, "cli"))) from missing

if TYPE_CHECKING:
    from nest_engine.engine import NestEngine
    from nest_engine.interfaces import PassageRetriever
    from nest_engine.retrieval import Embedder, Progress
    from nest_engine.types import NestOutput, Passage

P = ParamSpec("P")

DEFAULT_EMBEDDER = "sentence-transformers/all-MiniLM-L6-v2"
DEMO_QUESTIONS = 4
DEMO_TOKENS = 64
_MOST_REMARKS = 20  # skipped files that are named one by one

_STDOUT = Console(highlight=False)
_STDERR = Console(stderr=True, highlight=False)
_WORDS = {"true": "true", "false": "false", "none": "null"}  # Python's spelling, any case, as JSON


class Search(str, Enum):
    """First-stage search."""

    BM25 = "bm25"
    DENSE = "dense"
    HYBRID = "hybrid"


class Format(str, Enum):
    """How an answer is written."""

    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"
    JSON = "json"


Method = Annotated[str | None, typer.Option("--method", help=f"How to decode: {', '.join(METHODS)}.")]
SearchOption = Annotated[
    Search | None, typer.Option("--search", help="First-stage search: by keyword, by vector, or both. Default: bm25.")
]
EmbedderOption = Annotated[
    str | None, typer.Option("--embedder", help=f"Embedding model for vectors. Default: {DEFAULT_EMBEDDER}.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else on stdout.")]

app = typer.Typer(
    name="nest",
    help="Answers that quote their sources exactly.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
index_app = typer.Typer(help="Build, describe and search an index of passages.", no_args_is_help=True)
app.add_typer(index_app, name="index")


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console without, say, Greek still gets the rest of the answer
    app()


def _reports_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Turn every failure of a command into one line on stderr and exit code 1."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
            raise  # typer's own business
        except (Exception, KeyboardInterrupt) as error:
            if os.environ.get("NEST_DEBUG") == "1":
                raise
            _remark("error", _describe(error), style="bold red")
            raise typer.Exit(1) from error

    return run


@app.callback(invoke_without_command=True)
def _global_options(
    show_version: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False,
) -> None:
    if show_version:
        from nest_engine import __version__

        typer.echo(f"nest-engine {__version__}")
        raise typer.Exit


@app.command()
@_reports_errors
def demo(
    question: Annotated[
        str | None, typer.Option("--question", help="Ask this instead of the shipped questions.")
    ] = None,
    method: Method = "nest",
    ask_all: Annotated[bool, typer.Option("--all", help="Ask all shipped questions.")] = False,
    as_json: Json = False,
) -> None:
    """Answer questions offline, with the small model and corpus that come along, and compare with the model alone."""
    settings = _settings(method=method, max_new_tokens=DEMO_TOKENS)
    import nest_demo
    from nest_engine.retrieval import BM25Retriever

    questions = [question] if question is not None else [shipped.question for shipped in nest_demo.load_questions()]
    engine = _load_engine(None, BM25Retriever(nest_demo.load_passages()))
    methods = dict.fromkeys(("lm", settings["method"]))  # once, if the method is lm
    answers: list[tuple[str, dict[str, NestOutput]]] = []
    for asked in questions if ask_all else questions[:DEMO_QUESTIONS]:
        outputs = {name: _answer(engine, asked, settings | {"method": name}) for name in methods}
        answers.append((asked, outputs))
        if not as_json:
            _show_comparison(asked, outputs)
    if as_json:
        _print_json({"answers": [_comparison(asked, outputs) for asked, outputs in answers]})
    else:
        _show_table(answers)


@app.command()
@_reports_errors
def ask(
    question: Annotated[str, typer.Argument(help="The question; it is also what the passages are searched for.")],
    docs: Annotated[
        list[Path],
        typer.Option("--docs", help="Folder or file to quote from, repeatable; or an index of `nest index build`."),
    ],
    model: Annotated[str | None, typer.Option("--model", help="Hub id or folder. Default: the demo model.")] = None,
    method: Method = None,
    search: SearchOption = None,
    embedder: EmbedderOption = None,
    passages: Annotated[int | None, typer.Option("--passages", help="Passages to quote from.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option("--max-new-tokens", help="Longest answer.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", help="0 takes the most probable token.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the sampler.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help="Text that ends the answer, \\n for a new line; repeatable.")
    ] = None,
    pairs: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; repeatable.")
    ] = None,
    output_format: Annotated[Format, typer.Option("--format", help="How to write the answer.")] = Format.TEXT,
    as_json: Json = False,
) -> None:
    """Answer a question with exact quotations from your documents."""
    settings = _settings(
        pairs,
        method=method,
        num_passages=passages,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        stop=[text.replace("\\n", "\n").replace("\\t", "\t") for text in stop] if stop else None,
    )
    if not question.strip():
        raise InputError("the question is empty")
    for path in docs:
        if not path.exists():
            raise InputError(f"{path} does not exist; give a folder, a file or an index")
    engine = _load_engine(model)  # before reading: a wrong name shows at once, and reading may take long
    engine.retriever = _open_retriever(docs, search, embedder)
    output = _answer(engine, question, settings)
    for notice in output.notices:
        _remark("note", notice)
    _show_answer(question, output, Format.JSON if as_json else output_format)


@index_app.command("build")
@_reports_errors
def index_build(
    docs: Annotated[list[Path], typer.Argument(help="Folders or files to read.")],
    out: Annotated[Path, typer.Option("--out", help="Directory of the index; an index there is replaced.")],
    dense: Annotated[bool, typer.Option("--dense", help="Also store vectors, for --search dense or hybrid.")] = False,
    embedder: EmbedderOption = None,
) -> None:
    """Read documents and write an index of their passages."""
    from nest_engine.retrieval import PassageIndex

    vectors = _load_embedder(embedder) if dense or embedder else None
    passages = _read(docs)
    with _progress("building the index") as progress:
        index = PassageIndex.build(passages, out, embedder=vectors, progress=progress)
    typer.echo(f"{out}: passages: {index.info().passages}")


@index_app.command("info")
@_reports_errors
def index_info(index: Annotated[Path, typer.Argument(help="Directory of the index.")]) -> None:
    """Describe an index, after checking that none of its files has changed."""
    from nest_engine.retrieval import PassageIndex

    for name, value in asdict(PassageIndex.open(index).info()).items():
        typer.echo(f"{name}: {'-' if value is None else value}")


@index_app.command("search")
@_reports_errors
def index_search(
    index: Annotated[Path, typer.Argument(help="Directory of the index.")],
    query: Annotated[str, typer.Argument(help="What to search for.")],
    k: Annotated[int, typer.Option("-k", help="Passages to show.")] = 5,
    search: SearchOption = None,
    embedder: EmbedderOption = None,
) -> None:
    """Show the passages that are found for a query, best first."""
    [found] = _open_index(index, search, embedder).retrieve([query], k)
    for rank, passage in enumerate(found, start=1):
        _show_passage(rank, passage)
    if not found:
        _remark("note", "no passage matches")


def _settings(pairs: Sequence[str] | None = None, **options: Any) -> dict[str, Any]:
    """Return the settings that were given, checked before anything slow begins; ``--set`` wins over an option."""
    settings = {name: value for name, value in options.items() if value is not None}
    settings |= dict(_parse_setting(pair) for pair in pairs or ())
    NestConfig.from_dict(settings)
    return settings


def _parse_setting(pair: str) -> tuple[str, Any]:
    name, equals, value = pair.partition("=")
    if not equals:
        raise typer.BadParameter(f"{pair!r} is not of the form name=value", param_hint="--set")
    try:
        return name.strip(), json.loads(_WORDS.get(value.strip().lower(), value))
    except ValueError:
        return name.strip(), value


def _load_engine(model: str | None, retriever: PassageRetriever | None = None) -> NestEngine:
    with _STDERR.status("loading the model"):
        options: dict[str, Any] = {}
        if model is None:
            import nest_demo

            model, options = str(nest_demo.model_path()), {"dtype": "float32"}  # faster on CPUs than its bfloat16
        if Path(model).is_dir():
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # there is nothing to download
        from nest_engine.engine import NestEngine

        return NestEngine.from_pretrained(model, retriever=retriever, **options)


def _answer(engine: NestEngine, question: str, settings: dict[str, Any]) -> NestOutput:
    with _STDERR.status("answering"):
        return engine.ask(question, **settings)


def _open_retriever(docs: Sequence[Path], search: Search | None, embedder: str | None) -> PassageRetriever:
    """Open an index, or read documents and search them in memory."""
    from nest_engine.retrieval import is_index

    if len(docs) == 1 and is_index(docs[0]):
        return _open_index(docs[0], search, embedder)
    return _read_retriever(docs, search, embedder)


def _search_mode(search: Search | None, embedder: str | None) -> Search:
    """Return the search that was asked for; naming an embedder asks for one that uses it."""
    return search or (Search.HYBRID if embedder else Search.BM25)


def _open_index(path: Path, search: Search | None, embedder: str | None) -> PassageRetriever:
    from nest_engine.retrieval import PassageIndex

    mode = _search_mode(search, embedder)
    index = PassageIndex.open(path)
    stored = index.info().embedder
    if stored and search is None and embedder is None:
        _remark("note", f"searching by keyword; {path} also holds vectors: --search hybrid uses them")
    if stored and mode is not Search.BM25:
        index = PassageIndex.open(path, embedder=_load_embedder(embedder or _stored_name(stored)), verify=False)
    return index.retriever(mode.value)


def _stored_name(stored: str) -> str | None:
    """Return the name of the embedding model that an index was built with, if it says one."""
    match = re.fullmatch(r"SentenceTransformerEmbedder\('(.+)'\)", stored)
    return match[1] if match else None


def _read_retriever(docs: Sequence[Path], search: Search | None, embedder: str | None) -> PassageRetriever:
    from nest_engine.retrieval import BM25Retriever, DenseRetriever, HybridRetriever

    mode = _search_mode(search, embedder)
    vectors = None if mode is Search.BM25 else _load_embedder(embedder)
    passages = _read(docs[0] if len(docs) == 1 else docs)
    with _progress("reading words") as progress:
        sparse = BM25Retriever(passages, progress=progress)
    if vectors is None:
        return sparse
    with _progress("computing vectors") as progress:
        dense = DenseRetriever(passages, vectors, progress=progress)
    return dense if mode is Search.DENSE else HybridRetriever(sparse, dense)


def _load_embedder(name: str | None) -> Embedder:
    from nest_engine.retrieval import SentenceTransformerEmbedder

    with _STDERR.status("loading the embedding model"):
        return SentenceTransformerEmbedder(name or DEFAULT_EMBEDDER)


def _read(paths: Path | Sequence[Path]) -> list[Passage]:
    from nest_engine.retrieval import read_passages

    with _progress("reading documents") as progress:
        result = read_passages(paths, progress=progress)
    for skipped in result.skipped[:_MOST_REMARKS]:
        _remark("skipped", f"{skipped.path}: {skipped.reason}")
    if len(result.skipped) > _MOST_REMARKS:
        _remark("skipped", f"{len(result.skipped) - _MOST_REMARKS} more")
    return result.passages


@contextmanager
def _progress(label: str) -> Iterator[Progress]:
    """Draw a progress bar on stderr, where it is a terminal."""
    from rich.progress import Progress as Bar

    with Bar(console=_STDERR, transient=True, disable=not _STDERR.is_terminal) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _remark(kind: str, message: str, style: str = "yellow") -> None:
    """Write one line to stderr."""
    line = Text.assemble((f"{kind}: ", style), printable(" ".join(message.split())))
    _STDERR.print(line, soft_wrap=True)


def _describe(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, (NestError, OSError)):
        return str(error)
    return f"{type(error).__name__}: {error} (NEST_DEBUG=1 shows where)"


def _show_answer(question: str, output: NestOutput, output_format: Format) -> None:
    if output_format is Format.JSON:
        _print_json({"question": question, **output.to_dict()})
    elif output_format is Format.MARKDOWN:
        typer.echo(to_markdown(output), nl=False)
    elif output_format is Format.HTML:
        typer.echo(to_html(output, title=question), nl=False)
    else:
        _STDOUT.print(to_terminal(output))


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(json_ready(value), indent=2))


def _comparison(question: str, outputs: dict[str, NestOutput]) -> dict[str, Any]:
    """Return answers by method as plain dicts, without the passages: those come with the demo."""
    methods = {name: output.to_dict() for name, output in outputs.items()}
    for answer in methods.values():
        del answer["passages"]
    return {"question": question, "methods": methods}


def _show_comparison(question: str, outputs: dict[str, NestOutput]) -> None:
    from rich.rule import Rule

    _STDOUT.print(Rule(Text(printable(question), style="bold"), align="left"))
    for name, output in outputs.items():
        _STDOUT.print(Text(f"\n{name}", style="bold underline"))
        _STDOUT.print(to_terminal(output))
    _STDOUT.print()


def _show_table(answers: Sequence[tuple[str, dict[str, NestOutput]]]) -> None:
    from rich.table import Table

    table = Table("question", "method")
    for heading in ("tokens", "LM forwards", "tokens per forward", "copied"):
        table.add_column(heading, justify="right")
    for question, outputs in answers:
        for number, (name, output) in enumerate(outputs.items()):
            stats = output.stats
            table.add_row(
                "" if number else Text(printable(question)),
                name,
                str(stats.completion_tokens),
                str(stats.lm_forwards),
                f"{stats.tokens_per_forward:.1f}",
                f"{stats.attributed_share:.0%}",
            )
    _STDOUT.print(table)


def _show_passage(rank: int, passage: Passage) -> None:
    score = "" if passage.score is None else f"  {passage.score:.2f}"
    heading = f"{passage.title or passage.id}{score}  {passage.uri or ''}".rstrip()
    text = " ".join(passage.text.split())
    _STDOUT.print(Text.assemble(f"{rank}. ", (printable(heading), "bold")), soft_wrap=True)
    _STDOUT.print(Text(printable(text if len(text) <= 240 else f"{text[:240]}…")))
