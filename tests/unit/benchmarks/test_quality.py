"""`benchmarks/quality.py` writes its page, from made-up data and a scripted model."""

from __future__ import annotations

import json
import lzma
import re
from pathlib import Path

import pytest

import nest_demo
from benchmarks import quality
from nest_demo.training_data import is_held_out
from nest_engine import NestConfig, NestEngine
from nest_engine.testing import ScriptedLanguageModel


def titled(held_out: bool, count: int, prefix: str) -> list[str]:
    names = (f"{prefix} {number}" for number in range(10_000))
    return [name for name in names if is_held_out(name) is held_out][:count]


def text_about(title: str) -> str:
    years = ". ".join(
        f"In {1700 + i} {title} was seen at Lake {chr(65 + i % 26)}yra" for i in range(12)
    )
    return f"{title} was an otter of Oslo. {years}."


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    held_out, trained_on = titled(True, 3, "Otter"), titled(False, 3, "Elk")
    articles = tmp_path / "articles.jsonl.xz"
    with lzma.open(articles, "wt", encoding="utf-8") as stream:
        for title in [*held_out, *trained_on, held_out[0]]:  # one stands there twice
            stream.write(json.dumps({"title": title, "text": text_about(title)}) + "\n")
    questions = tmp_path / "questions.jsonl"
    lines = [
        {"question": f"Where was {title} seen?", "answers": ["Lake Ayra"], "gold_title": title}
        for title in trained_on
    ]
    questions.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    monkeypatch.setattr(quality, "SHORTEST_ARTICLE", 400)
    wikitext = tmp_path / "wiki.valid.tokens"
    tokens = "".join(
        f" = {title} = \n\n {text_about(title)} \n\n" for title in ["Heron", "Newt", trained_on[0]]
    )
    wikitext.write_text(tokens, encoding="utf-8")
    return {"articles": articles, "questions": questions, "wikitext": wikitext}


@pytest.fixture
def arguments(files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    model = ScriptedLanguageModel("It was seen at Lake Ayra in 1700.")
    monkeypatch.setattr(nest_demo, "load_engine", lambda: NestEngine(model))
    monkeypatch.setattr(quality, "GAMMAS", (5e-4, 0.5))
    monkeypatch.setattr(quality, "SENSITIVITY", {"alpha": (0.3,), "num_passages": (5,)})
    given = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    sizes = [
        "--examples",
        "2",
        "--sweep-examples",
        "1",
        "--passages",
        "100",
        "--max-new-tokens",
        "12",
    ]
    return [
        *given,
        *sizes,
        "--work",
        str(tmp_path / "work"),
        "--out",
        str(tmp_path / "docs" / "results.md"),
    ]


def test_the_page_holds_every_table_and_is_the_same_when_it_is_written_again(
    arguments: list[str], tmp_path: Path
) -> None:
    quality.main(arguments)
    out = tmp_path / "docs" / "results.md"
    page = out.read_text(encoding="utf-8")

    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert headings == [heading for heading, _ in quality.SECTIONS.values()]
    assert "**gold, 2 examples**" in page
    assert "**no-gold, 2 examples**" in page
    assert "| `nest` | 8.4 | 28.4 |" in page  # the paper's
    assert re.search(r"every quotation is exact \| yes \| (\d+) of \1 ", page)
    assert "--articles articles.jsonl.xz" in page
    assert str(tmp_path) not in page
    assert (tmp_path / "docs" / "results_gamma.png").read_bytes().startswith(b"\x89PNG")

    lines = {path: path.read_bytes() for path in (tmp_path / "work").glob("*/results.jsonl")}
    assert len(lines) == 4
    quality.main(arguments)
    assert out.read_text(encoding="utf-8") == page
    assert {path: path.read_bytes() for path in lines} == lines  # nothing was measured again


def test_one_part_is_printed(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quality.main([*arguments, "--only", "table-3"])
    printed = capsys.readouterr().out

    assert re.findall(r"^\| (.+?) \| \d", printed, re.MULTILINE)[:4] == list(
        quality.LADDER.values()
    )
    assert not (tmp_path / "docs").exists()
    with pytest.raises(SystemExit):
        quality.main([*arguments, "--only", "table-9"])


def test_only_what_was_not_trained_on_is_continued(files: dict[str, Path]) -> None:
    articles = quality.read_articles([files["articles"]])
    questions, wikitext = (
        quality.read_examples(files["questions"]),
        quality.read_examples(files["wikitext"]),
    )
    data = quality.data_sets(articles, questions, wikitext, 0)

    held_out, trained_on = titled(True, 3, "Otter"), titled(False, 3, "Elk")
    assert [example.titles[0] for example in data["articles"].examples] == held_out
    assert [example.titles[0] for example in data["wikitext"].examples] == ["Heron", "Newt"]
    assert {passage.title for passage in data["articles"].retriever.passages} == {
        *held_out,
        *trained_on,
    }
    passages = data["wikitext"].retriever.passages
    assert {passage.title for passage in passages} == {*held_out, *trained_on, "Heron", "Newt"}
    assert len({passage.id for passage in passages}) == len(passages)
    some = quality.data_sets(articles, questions[:1], wikitext, 0)["questions"].retriever.passages
    more = quality.data_sets(articles, questions[:1], wikitext, len(some) + 1)[
        "questions"
    ].retriever.passages
    assert [passage.text for passage in more[: len(some)]] == [passage.text for passage in some]
    assert len({passage.title for passage in more}) == len({passage.title for passage in some}) + 1


def test_the_ladder_adds_one_part_at_a_time() -> None:
    knn_lm, confidence, spans, whole = quality.rungs(NestConfig()).values()

    assert (knn_lm.fixed_lambda, knn_lm.max_draft_tokens) == (0.7, 1)
    assert (confidence.fixed_lambda, confidence.max_draft_tokens) == (None, 1)
    assert (spans.gamma, spans.max_draft_tokens) == (0.0, 64)
    assert whole == NestConfig(method="nest", **quality.WORD_BY_WORD)
