"""The command ``nest demo``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from nest_engine.cli import loading
from nest_engine.cli.console import STDERR, STDOUT, print_json, reports_errors
from nest_engine.cli.options import Json, Method, parse_settings
from nest_engine.rendering import printable, to_terminal

if TYPE_CHECKING:
    from nest_engine.types import NestOutput

DEMO_QUESTIONS = 4
DEMO_TOKENS = 64


@reports_errors
def demo(
    question: Annotated[
        str | None, typer.Option("--question", help="Ask this instead of the shipped questions.")
    ] = None,
    method: Method = "nest",
    ask_all: Annotated[bool, typer.Option("--all", help="Ask all shipped questions.")] = False,
    as_json: Json = False,
) -> None:
    """Answer questions offline, with the small model and corpus that come along, and compare with the model alone."""
    settings = parse_settings(method=method, max_new_tokens=DEMO_TOKENS)
    import nest_demo
    from nest_engine.retrieval import BM25Retriever

    questions = [question] if question is not None else [shipped.question for shipped in nest_demo.load_questions()]
    engine = loading.load_engine(None, BM25Retriever(nest_demo.load_passages()))
    methods = dict.fromkeys(("lm", settings["method"]))  # once, if the method is lm
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


def _comparison(question: str, outputs: dict[str, NestOutput]) -> dict[str, Any]:
    """Return answers by method as plain dicts, without the passages: those come with the demo."""
    methods = {name: output.to_dict() for name, output in outputs.items()}
    for answer in methods.values():
        del answer["passages"]
    return {"question": question, "methods": methods}


def _show_comparison(question: str, outputs: dict[str, NestOutput]) -> None:
    from rich.rule import Rule

    STDOUT.print(Rule(Text(printable(question), style="bold"), align="left"))
    for name, output in outputs.items():
        STDOUT.print(Text(f"\n{name}", style="bold underline"))
        STDOUT.print(to_terminal(output))
    STDOUT.print()


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
    STDOUT.print(table)
