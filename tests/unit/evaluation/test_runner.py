"""Evaluation from end to end: conditions, resuming, refusing, the command."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

import nest_demo
from nest_engine import ConfigError, InputError, NestConfig, NestEngine, Passage, Score
from nest_engine.cli import app, loading
from nest_engine.evaluation import (
    Articles,
    Evaluation,
    Example,
    Record,
    Results,
    evaluate,
    identity,
    plan,
    summarize,
    to_markdown,
)
from nest_engine.evaluation import runner as runner_module
from nest_engine.evaluation.conditions import CONDITIONS, search, title_key
from nest_engine.evaluation.tasks import make_prompt
from nest_engine.models import huggingface
from nest_engine.retrieval import BM25Retriever, DenseRetriever, HybridRetriever
from nest_engine.testing import ScriptedLanguageModel

SUBJECTS = ("Otter", "Elk", "Heron", "Badger", "Newt")
PASSAGES = [
    Passage(
        f"The {name.lower()} number {part} was seen about 19{40 + part} by Ada Quill at {name} "
        f"Lake.",
        title=name,
    )
    for name in SUBJECTS
    for part in range(3)
]
# What the speed of the machine decides; everything else must come out the same.
TIMED = ("tokens_per_second", "seconds")
COPYING = ("ra", "nest", "ra-nest")


def make_engine(
    script: str = "The otter number 0 was seen about 1940 by Ada Quill.", **options: Any
) -> NestEngine:
    return NestEngine(ScriptedLanguageModel(script, **options), retriever=BM25Retriever(PASSAGES))


def variants_of(engine: NestEngine, *methods: str, **settings: Any) -> dict[str, NestConfig]:
    settings = {"max_new_tokens": 24, "num_passages": 4} | settings
    return {method: engine.config.replace(method=method).replace(**settings) for method in methods}


def subjects(*names: str) -> list[Example]:
    return [
        Example(f"{number}", f"Tell me about {name}.", (name,)) for number, name in enumerate(names)
    ]


def run(
    folder: Path,
    engine: NestEngine,
    task: str,
    examples: Sequence[Example],
    variants: dict[str, NestConfig],
    **options: Any,
) -> list[Record]:
    batch_size, progress = (
        options.pop("batch_size", 2),
        options.pop("progress", lambda done, total: None),
    )
    articles = Articles(engine.retriever.passages)
    planned = plan(task, examples, variants, articles, **options)
    settings = {name: config.to_dict() for name, config in variants.items()}
    results = Results(folder, identity(planned, engine, articles), settings)
    return evaluate(planned, engine, articles, results, batch_size=batch_size, progress=progress)


def untimed(records: Sequence[Record]) -> list[Record]:
    return [
        record
        | {
            "measures": {
                name: pair for name, pair in record["measures"].items() if name not in TIMED
            }
        }
        for record in records
    ]


# --- conditions


class Listed:
    """Finds the passages in their order, whatever is asked, and remembers how many were wanted."""

    def __init__(self) -> None:
        self.wanted: list[int] = []

    def retrieve(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        self.wanted.append(k)
        return [PASSAGES[:k] for _ in queries]


def test_gold_has_the_article_and_no_gold_has_as_many_others() -> None:
    found, other = search(Listed(), ["a", "b"], [["otter"], ["Somebody"]], 4)

    assert [passage.title for passage in found["gold"]] == ["Otter"] * 3 + ["Elk"]
    assert [passage.title for passage in found["no-gold"]] == ["Elk"] * 3 + ["Heron"]
    assert other["gold"] == other["no-gold"] == tuple(PASSAGES[:4])


def test_a_long_article_is_searched_past() -> None:
    class LongArticle(Listed):
        def retrieve(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
            super().retrieve(queries, k)
            return [
                [*(replace(PASSAGES[0], id=f"{number}") for number in range(50)), *PASSAGES[3:6]][
                    :k
                ]
                for _ in queries
            ]

    retriever = LongArticle()
    [found] = search(retriever, ["a"], [["Otter"]], 2)

    assert [passage.title for passage in found["no-gold"]] == ["Elk", "Elk"]
    assert retriever.wanted == [18, 72]
    assert search(retriever, ["a"], [["Otter"]], 0) == [{"gold": (), "no-gold": ()}]
    assert len(retriever.wanted) == 2  # nothing wanted, nothing searched


def test_titles_are_compared_without_case_underscores_and_wide_spaces() -> None:
    assert title_key("Ada_Quill (Swimmer)") == title_key(" ada  quill (swimmer)")
    assert title_key("Ada Quill") != title_key("Ada Quill (swimmer)")


def test_no_method_sees_the_article_in_no_gold(tmp_path: Path) -> None:
    engine = make_engine()
    records = run(
        tmp_path,
        engine,
        "biography",
        subjects(*SUBJECTS),
        variants_of(engine, *COPYING, num_passages=3),
    )

    found = {(r["condition"], r["measures"]["article_found"][0]) for r in records}
    assert found == {("gold", 1.0), ("no-gold", 0.0)}
    cited = {
        (record["condition"], title)
        for record in records
        if record["topic"] == "Otter"
        for *_, title in record["citations"]
    }
    assert ("gold", "Otter") in cited
    assert {title for condition, title in cited if condition == "no-gold"}.isdisjoint({"Otter"})


def test_copying_from_the_wrong_article_shows_as_off_topic(tmp_path: Path) -> None:
    engine = make_engine()
    # as many as the article has
    variants = variants_of(engine, "lm", "nest", num_passages=3, by_sentence=False)
    rows = summarize(run(tmp_path, engine, "biography", subjects("Otter"), variants))
    share = {(row.condition, row.variant): row.estimates["off_topic"].value for row in rows}

    assert share["gold", "nest"] == 0
    assert share["no-gold", "nest"] > 10
    assert share["no-gold", "lm"] == 0


# --- what is asked


def test_examples_and_conditions_are_chosen_from_what_the_corpus_has() -> None:
    articles = Articles(PASSAGES)
    examples = [*subjects("Otter", "Elk", "Unicorn"), Example("x", "Who?", answers=("He",))]

    planned = plan("attribution", examples, {}, articles)
    assert {example.titles for example in planned.examples} == {("Otter",), ("Elk",)}
    assert (planned.conditions, planned.left_out) == (CONDITIONS, 2)
    assert len(plan("attribution", examples, {}, articles, conditions=["open"]).examples) == 4
    assert plan("qa", examples, {}, articles).conditions == ("open",)
    more = plan("attribution", examples, {}, articles, limit=2, seed=5).examples
    assert plan("attribution", examples, {}, articles, limit=1, seed=5).examples == more[:1]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            ("poetry", subjects("Otter"), ()),
            ConfigError,
            "task 'poetry' is unknown: expected one of completion, qa",
        ),
        (
            ("qa", subjects("Otter"), ()),
            InputError,
            "none of 1 examples suits the task 'qa', which needs questions with",
        ),
        (
            ("biography", subjects("Otter"), ("silver",)),
            ConfigError,
            "condition 'silver' is unknown: expected one of gold",
        ),
        (
            ("biography", subjects("Unicorn"), ("gold",)),
            InputError,
            "none of 1 examples has its article among the passages",
        ),
        (
            ("biography", [*subjects("Otter"), *subjects("Elk")], ()),
            InputError,
            "examples 1 and 2 have the same id '0'; .* give each its own",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    arguments: Any, error: type[Exception], message: str
) -> None:
    task, examples, conditions = arguments
    with pytest.raises(error, match=message):
        plan(task, examples, {}, Articles(PASSAGES), conditions=conditions)


def test_what_cannot_be_answered_is_left_out_and_counted() -> None:
    answers = [(), ("?",), ("Ada",)]
    examples = [Example(f"{n}", "Who?", answers=given) for n, given in enumerate(answers)]
    planned = plan("qa", examples, {}, Articles(()))
    assert [example.answers for example in planned.examples] == [("Ada",)]
    assert planned.unsuited == 2


def test_conditions_are_measured_once_and_no_gold_needs_an_answer() -> None:
    articles = Articles(PASSAGES)
    planned = plan("biography", subjects("Otter"), {}, articles, conditions=["gold", "gold"])
    assert planned.conditions == ("gold",)
    asked = [Example("1", "Who?", passages=(PASSAGES[0],))]
    assert plan("attribution", asked, {}, articles).conditions == ("open",)


def test_an_answer_counts_where_its_passages_do_not_fit_in_the_prompt(tmp_path: Path) -> None:
    passages = (Passage("The otter swims in the river. " * 20, title="Otter"),)
    example = Example("1", "Who swims?", answers=("otter",), passages=passages)
    engine = NestEngine(
        ScriptedLanguageModel("The otter swims.", context_length=200),
        retriever=BM25Retriever(PASSAGES),
    )
    [record] = run(
        tmp_path, engine, "qa", [example], variants_of(engine, "lm"), conditions=["gold"]
    )
    assert "error" not in record
    assert record["measures"]["answer_recall"] == [1, 1]


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_perplexities_that_cannot_be_compared_choose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    engine = make_engine()
    score = Score(1, wrong, 1, 1.0, (-wrong,))
    monkeypatch.setattr(engine, "score", lambda *_, **__: score)
    example = Example("1", "What swims?", choices=("an otter", "a heron"), right=0)
    [record] = run(tmp_path, engine, "choice", [example], variants_of(engine, "lm"))
    assert "no choice is the likeliest" in record["error"]


def test_a_completion_is_cut_by_tokens() -> None:
    engine = make_engine()
    text = "".join(chr(ord("a") + number % 26) for number in range(200)) + "é" * 100
    posed = make_prompt(
        "completion", Example("1", "", ("Otter",), text), engine, Articles(PASSAGES), 74
    )

    assert posed.prompt == posed.query == text[:128]  # a byte each
    assert posed.reference == text[128:201]  # a character of two bytes is not cut
    with pytest.raises(
        InputError, match="the article has 128 tokens; a completion needs more than 128"
    ):
        make_prompt(
            "completion", Example("1", "", ("Otter",), text[:128]), engine, Articles(PASSAGES), 74
        )


def test_completion_measures_perplexity_and_likeness(tmp_path: Path) -> None:
    text = " ".join(passage.text for passage in PASSAGES[:6])
    engine = make_engine(text[128:190])
    examples = [Example("1", "", ("Otter",), text), Example("2", "", ("Elk",), "too short")]
    records = run(
        tmp_path,
        engine,
        "completion",
        examples,
        variants_of(engine, "lm", "nest", max_new_tokens=62),
    )
    rows = {(row.condition, row.variant): row for row in summarize(records)}

    alone = rows["gold", "lm"]
    assert alone.estimates["rouge1"].value == 100  # the script is the article
    assert alone.estimates["perplexity"].value == pytest.approx(1 / 0.9, rel=1e-3)
    assert (alone.examples, alone.failed) == (2, 1)
    assert rows["gold", "nest"].estimates["perplexity"].value < alone.estimates["perplexity"].value
    assert [r["error"] for r in records if r["example"] == "2"] == [
        "the article has 9 tokens; a completion needs more than 128"
    ] * 4


def test_qa_recalls_answers_and_truthful_qa_compares_them(tmp_path: Path) -> None:
    engine = make_engine("It was Ada Quill.")
    examples = [
        Example("1", "Who saw the otter?", ("Otter",), answers=("Bea", "Ada Quill")),
        Example("2", "Who saw the elk?", ("Elk",), answers=("Bea",)),
        Example(
            "3",
            "Who saw the newt?",
            ("Newt",),
            answers=("It was Ada Quill.",),
            incorrect=("It was Bea Reel.",),
        ),
    ]
    [row] = summarize(
        run(tmp_path, engine, "qa", examples, variants_of(engine, "lm"), conditions=["gold"])
    )

    assert (row.estimates["answer_recall"].value, row.estimates["answer_recall"].examples) == (
        50,
        2,
    )
    assert row.estimates["delta_bleu"].value > 0
    assert row.estimates["delta_rouge1"].value == pytest.approx(50)


def test_the_choice_of_lowest_perplexity_is_taken(tmp_path: Path) -> None:
    engine = make_engine(" a heron")
    examples = [
        Example("1", "What swims?", choices=("a heron", "an otter"), right=0),
        Example("2", "What flies?", choices=("an otter", "a heron"), right=0),
    ]
    records = run(tmp_path, engine, "choice", examples, variants_of(engine, "lm"))
    [row] = summarize(records)

    assert [record["answer"] for record in records] == ["a heron", "a heron"]
    assert row.condition == "open"
    assert row.estimates["accuracy"].value == 50


def test_one_bad_example_costs_only_itself(tmp_path: Path) -> None:
    engine = make_engine(context_length=200)
    examples = [
        Example("1", "Otter?", ("Otter",)),
        Example("2", "x" * 300, ("Otter",)),
        Example("3", "Elk?", ("Elk",)),
    ]
    records = run(
        tmp_path,
        engine,
        "attribution",
        examples,
        variants_of(engine, "nest"),
        conditions=["gold"],
        batch_size=3,
    )

    assert {record["example"]: "error" in record for record in records} == {
        "1": False,
        "2": True,
        "3": False,
    }
    assert "the prompt has" in next(record["error"] for record in records if "error" in record)


def test_answers_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    engine, examples = make_engine(), subjects(*SUBJECTS)
    tables = [
        untimed(
            run(
                tmp_path / f"{size}",
                engine,
                "biography",
                examples,
                variants_of(engine, "nest"),
                batch_size=size,
            )
        )
        for size in (1, 4)
    ]
    assert tables[0] == tables[1]


# --- resuming

KILLED = """
import os, signal, sys
from pathlib import Path
from tests.unit.evaluation import test_runner as here

def progress(done, total):
    if done == 6:
        os.kill(os.getpid(), signal.SIGKILL)

engine, examples = here.make_engine(), here.subjects(*here.SUBJECTS)
variants = here.variants_of(engine, "lm", "nest")
here.run(Path(sys.argv[1]), engine, "biography", examples, variants, progress=progress)
"""


def test_a_killed_run_resumes_and_gives_the_same_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "killed"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder)], timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL
    lines = folder / "results.jsonl"
    kept = lines.read_text(encoding="utf-8")
    assert len(kept.splitlines()) == 6
    lines.write_text(kept + '{"example": "half a li', encoding="utf-8")  # killed while writing

    engine, examples = make_engine(), subjects(*SUBJECTS)
    variants = variants_of(engine, "lm", "nest")
    told: list[tuple[int, int]] = []
    asked: list[int] = []
    measure = runner_module._Batch.measure
    monkeypatch.setattr(
        runner_module._Batch,
        "measure",
        lambda self, missing, *rest: asked.append(len(missing)) or measure(self, missing, *rest),
    )
    resumed = run(
        folder, engine, "biography", examples, variants, progress=lambda *at: told.append(at)
    )
    monkeypatch.undo()

    assert told[0] == (6, 20)
    assert told[-1] == (20, 20)
    assert sum(asked) == 14  # nothing is done again
    assert lines.read_text(encoding="utf-8").startswith(kept)
    assert len(lines.read_text(encoding="utf-8").splitlines()) == 20
    fresh = run(tmp_path / "fresh", engine, "biography", examples, variants)
    assert to_markdown(summarize(untimed(resumed))) == to_markdown(summarize(untimed(fresh)))
    assert untimed(resumed) == untimed(fresh)


def test_more_examples_and_variants_may_follow(tmp_path: Path) -> None:
    engine, examples = make_engine(), subjects(*SUBJECTS)
    first = run(tmp_path, engine, "biography", examples, variants_of(engine, "lm"), limit=2)
    both = run(tmp_path, engine, "biography", examples, variants_of(engine, "lm", "nest"), limit=4)

    assert len(first) == 4
    assert len(both) == 16
    assert all(record in both for record in first)  # speed included: they were not measured again


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"task": "attribution"},
            "holds results of other settings: task was 'biography' and is now 'attribution'",
        ),
        ({"examples": subjects("Elk")}, "other settings: data was '"),
        (
            {"engine": make_engine(memory=3)},
            "other settings: model was 'scripted, memory 6' and is now 'scripted, memory 3'",
        ),
        ({"settings": {"gamma": 0.5}}, "other variant 'nest': gamma was 0.05 and is now 0.5"),
        (
            {"settings": {"max_new_tokens": 25}},
            "other settings: max_new_tokens was 24 and is now 25",
        ),
    ],
)
def test_results_of_other_settings_are_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    engine, examples = make_engine(), subjects("Otter")
    run(tmp_path, engine, "biography", examples, variants_of(engine, "nest"))
    before = (tmp_path / "results.jsonl").read_text(encoding="utf-8")
    engine, examples = change.get("engine", engine), change.get("examples", examples)
    variants = variants_of(engine, "nest", **change.get("settings", {}))
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, engine, change.get("task", "biography"), examples, variants)
    assert (tmp_path / "results.jsonl").read_text(encoding="utf-8") == before


def test_other_passages_are_other_settings(tmp_path: Path) -> None:
    engine = make_engine()
    run(tmp_path, engine, "biography", subjects("Otter"), variants_of(engine, "nest"))
    engine.retriever = BM25Retriever(PASSAGES[:9])
    with pytest.raises(ConfigError, match="other settings: passages was"):
        run(tmp_path, engine, "biography", subjects("Otter"), variants_of(engine, "nest"))


def test_another_search_is_another_setting(tmp_path: Path) -> None:
    class Letters:
        fingerprint = "letters"

        def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
            return np.array(
                [[1 + text.count(letter) for letter in "aeinor"] for text in texts],
                dtype=np.float32,
            )

    engine = make_engine()
    run(tmp_path, engine, "biography", subjects("Otter"), variants_of(engine, "nest"))
    dense = DenseRetriever(PASSAGES, Letters())
    for engine.retriever in (dense, HybridRetriever(BM25Retriever(PASSAGES), dense)):
        with pytest.raises(
            ConfigError,
            match=r"other settings: search was 'BM25 .* and is now .*vectors of letters",
        ):
            run(tmp_path, engine, "biography", subjects("Otter"), variants_of(engine, "nest"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("settings.json", "[]", r"settings\.json holds no settings of an evaluation"),
        ("results.jsonl", "not json\n", r"results\.jsonl, line 1: not a result"),
        ("results.jsonl", '{"example": "1"}\n', r"results\.jsonl, line 1: not a result"),
    ],
)
def test_damaged_results_are_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    engine = make_engine()
    run(tmp_path, engine, "biography", subjects("Otter"), variants_of(engine, "lm"))
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        run(tmp_path, engine, "biography", subjects("Otter"), variants_of(engine, "lm"))
    (tmp_path / "settings.json").unlink()
    with pytest.raises(InputError, match=r"holds results\.jsonl without settings\.json"):
        run(tmp_path, engine, "biography", subjects("Otter"), variants_of(engine, "lm"))


def test_a_run_without_results_binds_nobody(tmp_path: Path) -> None:
    Results(str(tmp_path), {"task": "qa"}, {"nest": {"gamma": 0.5}})
    assert len(Results(str(tmp_path), {"task": "choice"}, {"nest": {"gamma": 0.1}})) == 0


def test_a_folder_that_cannot_hold_results_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(InputError, match=r"cannot hold results .*give a folder that can"):
            Results(folder, {}, {})


ASKED = Example(
    "1",
    "Who saw the otter?",
    answers=("Ada Quill",),
    passages=(Passage("The elk was seen by Ben Reed."), Passage("Ada Quill saw the otter.")),
)


def test_passages_may_come_with_the_question(tmp_path: Path) -> None:
    """Nothing is searched; without gold, what names an answer is kept out."""
    engine = NestEngine(ScriptedLanguageModel("Ada Quill saw the otter."))
    variants = variants_of(engine, "ra-nest")
    planned = plan("qa", [ASKED], variants, Articles(()))
    assert planned.conditions == CONDITIONS
    gold, no_gold = evaluate(planned, engine, Articles(()), Results(tmp_path, {}, {}))

    assert gold["answer"] == "Ada Quill saw the otter."
    measured = gold["measures"]
    assert measured["answer_recall"] == [1, 1]
    assert measured["quotes"] == [1, 1]
    assert measured["quoted_sentences"] == [24, 24]
    assert measured["spliced_sentences"] == measured["own_sentences"] == [0, 24]
    assert measured["nll"][0] > 0
    assert 0 <= measured["odd_tokens"][0] <= measured["odd_tokens"][1]
    assert measured["seconds"][0] > 0
    assert "Ada Quill" not in no_gold["answer"] or not no_gold["citations"]


def test_evaluating_needs_a_search(tmp_path: Path) -> None:
    engine = NestEngine(ScriptedLanguageModel("x"))
    planned = Evaluation("biography", tuple(subjects("Otter")), {}, ("open",))
    with pytest.raises(InputError, match="the engine has no retriever"):
        evaluate(planned, engine, Articles(PASSAGES), Results(tmp_path, {}, {}))


# --- the command


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "load_engine", lambda model, **_: make_engine())


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    path = tmp_path / "docs.jsonl"
    path.write_text(
        "".join(json.dumps({"title": p.title, "text": p.text}) + "\n" for p in PASSAGES),
        encoding="utf-8",
    )
    return path


@pytest.fixture
def entities(tmp_path: Path) -> Path:
    path = tmp_path / "entities.txt"
    path.write_text("Otter\nElk\nUnicorn\n", encoding="utf-8")
    return path


def nest_eval(
    data: Path, docs: Path | None, out: Path, *arguments: str, task: str = "biography"
) -> Result:
    given = [
        "--task",
        task,
        "--data",
        data,
        *(["--docs", docs] if docs else []),
        "--out",
        out,
        "--max-new-tokens",
        16,
        *arguments,
    ]
    return CliRunner().invoke(app, ["eval", *map(str, given)])


@pytest.mark.usefixtures("scripted")
def test_the_command_prints_a_table_and_writes_the_rest(
    docs: Path, entities: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = nest_eval(entities, docs, out, "--methods", "lm,nest,nest+gamma=0.5+delta=0")
    assert result.exit_code == 0, result.output

    assert result.stdout == (out / "summary.md").read_text(encoding="utf-8")
    assert result.stdout.startswith("**gold, 2 examples**")
    assert "\n| nest+gamma=0.5+delta=0 | " in result.stdout
    assert "note: 1 examples are left out: their article is not among the passages" in result.stderr
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert [(row["condition"], row["method"]) for row in summary["rows"]] == [
        (condition, method)
        for condition in CONDITIONS
        for method in ("lm", "nest", "nest+gamma=0.5+delta=0")
    ]
    assert set(summary["metrics"]) == {name for row in summary["rows"] for name in row["figures"]}
    lines = (out / "factscore-nest-gold.jsonl").read_text(encoding="utf-8").splitlines()
    assert sorted(json.loads(line)["topic"] for line in lines) == ["Elk", "Otter"]
    assert all(set(json.loads(line)) == {"topic", "output"} for line in lines)

    again = nest_eval(entities, docs, out, "--methods", "lm,nest,nest+gamma=0.5+delta=0", "--json")
    assert json.loads(again.stdout) == summary


@pytest.mark.usefixtures("scripted")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "lm,magic"], "method='magic' is not valid: expected one of lm"),
        (["--methods", "nest+gama=1"], "unknown setting 'gama'; did you mean 'gamma'?"),
        (["--conditions", "silver"], "condition 'silver' is unknown"),
        (["--set", "k=0"], "k=0 is not valid"),
        (["--max-new-tokens", "0"], "max_new_tokens=0 is not valid"),
        (["--set", "method=lm"], "--set method=lm would make every variant the same"),
        (["--methods", "nest+method=lm"], "has two methods, nest and lm; give one"),
        (["--docs", "nowhere"], "nowhere does not exist"),
    ],
)
def test_the_command_says_what_is_wrong(
    docs: Path, entities: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = nest_eval(entities, docs, tmp_path / "out", *arguments)
    assert result.exit_code == 1
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("scripted")
def test_results_are_not_written_among_the_documents(
    docs: Path, entities: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    docs.rename(folder / docs.name)
    result = nest_eval(entities, folder, folder / "out")
    assert result.exit_code == 1
    assert "lies in --docs" in " ".join(result.stderr.split())
    assert not (folder / "out").exists()


@pytest.mark.usefixtures("scripted")
def test_the_command_refuses_other_data_and_tasks(
    docs: Path, entities: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert "--task 'poetry' is not valid" in nest_eval(entities, docs, out, task="poetry").stderr
    assert "which needs articles: WikiText tokens" in " ".join(
        nest_eval(entities, docs, out, task="completion").stderr.split()
    )
    assert nest_eval(entities, docs, out, "--methods", "lm").exit_code == 0
    entities.write_text("Otter\n", encoding="utf-8")
    refused = nest_eval(entities, docs, out, "--methods", "lm")
    assert refused.exit_code == 1
    assert f"{out} holds results of other settings: data was" in " ".join(refused.stderr.split())


@pytest.mark.usefixtures("scripted")
def test_without_documents_the_examples_bring_their_passages(docs: Path, tmp_path: Path) -> None:
    data = tmp_path / "asked.jsonl"
    asked = {
        "question": ASKED.question,
        "answers": ASKED.answers,
        "passages": [passage.text for passage in ASKED.passages],
    }
    data.write_text(json.dumps(asked), encoding="utf-8")
    result = nest_eval(data, None, tmp_path / "out", "--methods", "ra", task="qa")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("**gold, 1 examples**")
    data.write_text('{"question": "Who?", "answers": ["Ada"]}', encoding="utf-8")
    refused = nest_eval(data, None, tmp_path / "other", task="qa")
    assert (
        f"1 of 1 examples of {data} come without passages, example 1 first: give --docs"
        in " ".join(refused.stderr.split())
    )
    answered = json.dumps(asked) + "\n" + json.dumps(asked | {"answers": []}) + "\n"
    data.write_text(answered, encoding="utf-8")
    result = nest_eval(data, None, tmp_path / "third", "--methods", "ra", task="qa")
    assert result.stdout.startswith("**gold, 1 examples**")
    assert "note: 1 examples are left out: qa needs questions with answers" in result.stderr


def test_settings_of_the_prompt_reach_every_prompt(
    entities: Path, docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    monkeypatch.setattr(loading, "load_engine", lambda model, **_: engine)
    pair = 'chat_template_kwargs={"enable_thinking": false}'
    result = nest_eval(entities, docs, tmp_path / "out", "--methods", "lm", "--set", pair)
    assert result.exit_code == 0, result.output
    assert engine.config.chat_template_kwargs == {"enable_thinking": False}


def test_an_answer_is_judged_with_the_passages_it_was_given_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    judged: list[NestConfig] = []
    score = engine.score
    monkeypatch.setattr(
        engine,
        "score",
        lambda *text, **given: judged.append(given["config"]) or score(*text, **given),
    )
    variants = variants_of(engine, "ra", prompt_passages=5)
    run(tmp_path, engine, "qa", [ASKED], variants, conditions=["gold"])
    assert [(config.method, config.prompt_passages) for config in judged] == [("ra", 5)]


def test_no_variant_finds_what_another_has_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They ask the same prompts, and their times are compared."""
    monkeypatch.setitem(huggingface._PIECE, "cpu", 64)
    engine = nest_demo.load_engine(BM25Retriever(nest_demo.load_passages()))
    passage = nest_demo.load_passages()[0]
    example = Example("sun", "What is the Sun?", answers=("star",), passages=(passage,) * 2)
    variants = {name: NestConfig(method="ra", max_new_tokens=2 + n) for n, name in enumerate("ab")}
    known: list[int] = []
    answer = engine.generate_batch

    def noting(*given, **more):
        outputs = answer(*given, **more)
        known.extend(output.stats.cached_prompt_tokens for output in outputs)
        return outputs

    engine.generate_batch = noting
    nowhere = Articles(())
    planned = plan("qa", [example], variants, nowhere, conditions=("gold",))
    settings = {name: config.to_dict() for name, config in variants.items()}
    results = Results(tmp_path, identity(planned, engine, nowhere), settings)
    evaluate(planned, engine, nowhere, results, batch_size=1)
    assert known == [0, 0]
    again = engine.generate(
        engine.format_question(example.question), passages=[passage], query=example.question
    )
    assert again.stats.cached_prompt_tokens >= 64
