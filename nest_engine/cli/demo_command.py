"""The command ``nest demo``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from nest_engine.citations.rendering import printable
from nest_engine.citations.rendering.layout import cited_share
from nest_engine.cli import loading
from nest_engine.cli.console import (
    STDERR,
    STDOUT,
    print_answer,
    print_json,
    progress_bar,
    reports_errors,
    show_rows,
)
from nest_engine.cli.options import Json, Method, parse_settings
from nest_engine.config import METHODS, NestConfig

if TYPE_CHECKING:
    from nest_engine.output import NestOutput

DEMO_QUESTIONS = 3
DEMO_TOKENS = 64


@reports_errors
def demo(
    question: Annotated[
        str | None, typer.Option("--question", help="Ask this instead of the shipped questions.")
    ] = None,
    method: Method = None,
    ask_all: Annotated[bool, typer.Option("--all", help="Ask all shipped questions.")] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Ask all shipped questions by every method; count the right passages."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Answer questions about the shipped corpus offline, beside the same model without NEST.

    A model that follows instructions answers by `ra-nest` and, with the same passages in its
    prompt, by `ra`; one that does not, by `nest` and alone.
    """
    settings = parse_settings(method=method, max_new_tokens=DEMO_TOKENS)
    import nest_demo

    if check:
        _check(as_json)
        return
    questions = (
        [question]
        if question is not None
        else [shipped.question for shipped in nest_demo.load_questions()]
    )
    engine = loading.load_engine(None, loading.open_demo_corpus())
    if "method" not in settings:
        only_copies = nest_demo.default_model() == str(nest_demo.model_path())
        settings["method"] = "nest" if only_copies else "ra-nest"
    baseline = "ra" if settings["method"] == "ra-nest" else "lm"
    if settings["method"] == "ra-nest":  # both over the same passages, those in the prompt
        settings["num_passages"] = NestConfig().prompt_passages
    methods = dict.fromkeys((baseline, settings["method"]))  # once, if they are the same
    answers: list[tuple[str, dict[str, NestOutput]]] = []
    for asked in questions if ask_all else questions[:DEMO_QUESTIONS]:
        with STDERR.status("answering"):
            outputs = {name: engine.ask(asked, **settings | {"method": name}) for name in methods}
        answers.append((asked, outputs))
        if not as_json:
            _show_comparison(asked, outputs)
    if as_json:
        print_json({"answers": [_comparison(asked, outputs) for asked, outputs in answers]})
    else:
        _show_table(answers)


def _check(as_json: bool) -> None:
    """Count, for every method, the answers that cite the right passage."""
    import nest_demo

    questions = nest_demo.load_questions()
    engine = loading.load_engine(None, loading.open_demo_corpus())
    rows: list[dict[str, Any]] = []
    with progress_bar("answering") as progress:
        for number, method in enumerate(METHODS):
            outputs = []
            for asked, question in enumerate(questions, number * len(questions) + 1):
                outputs.append(
                    engine.ask(question.question, method=method, max_new_tokens=DEMO_TOKENS)
                )
                progress(asked, len(METHODS) * len(questions))
            pairs = list(zip(questions, outputs, strict=True))
            tokens = sum(output.stats.completion_tokens for output in outputs)
            rows.append(
                {
                    "method": method,
                    "questions": len(questions),
                    "cites the right passage": sum(
                        question.passage_id
                        in {citation.passage_id for citation in output.citations}
                        for question, output in pairs
                    ),
                    "holds the answer": sum(
                        question.answer.lower() in output.text.lower() for question, output in pairs
                    ),
                    "of the text cited": round(cited_share(outputs), 3),
                    "tokens per forward": round(
                        tokens / sum(output.stats.lm_forwards for output in outputs), 2
                    ),
                }
            )
    if as_json:
        print_json({"methods": rows})
    else:
        show_rows(f"{len(questions)} questions, {DEMO_TOKENS} tokens each", rows)


def _comparison(question: str, outputs: dict[str, NestOutput]) -> dict[str, Any]:
    """Return answers by method as plain dicts, without the passages, which are shipped."""
    methods = {name: output.to_dict() for name, output in outputs.items()}
    for answer in methods.values():
        del answer["passages"]
    return {"question": question, "methods": methods}


def _show_comparison(question: str, outputs: dict[str, NestOutput]) -> None:
    from rich.rule import Rule

    STDOUT.print(Rule(Text(printable(question), style="bold"), align="left"))
    for name, output in outputs.items():
        STDOUT.print(Text(f"\n{name}", style="bold underline"))
        print_answer(output)
    STDOUT.print()


def _show_table(answers: Sequence[tuple[str, dict[str, NestOutput]]]) -> None:
    from rich.table import Table

    table = Table("question", "method")
    for heading in ("tokens", "LM forwards", "tokens per forward", "of the text cited"):
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
                f"{cited_share([output]):.0%}",
            )
    STDOUT.print(table)
