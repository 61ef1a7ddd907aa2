"""`nest tune`: questions without labels; what is recommended is better over other questions."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

import nest_demo
from nest_engine import InputError, NestConfig, NestEngine, Passage
from nest_engine.cli import app
from nest_engine.evaluation import tuning as module
from nest_engine.evaluation.matching import names, words_of
from nest_engine.evaluation.summary import Estimate
from nest_engine.evaluation.tuning import Tuning, make_questions, tune
from nest_engine.retrieval import BM25Retriever
from nest_engine.testing import ScriptedLanguageModel

PASSAGES = nest_demo.load_passages()[:60]


@pytest.fixture(scope="module")
def search() -> BM25Retriever:
    return BM25Retriever(PASSAGES)


def wants_to_speak() -> NestEngine:
    """A model that answers everything with a sentence of its own, of which it is rather sure."""
    return NestEngine(ScriptedLanguageModel("It is hard to say. " * 4, confidence=0.5))


def test_a_question_asks_for_a_sentence_and_its_passage_stands_among_others(
    search: BM25Retriever,
) -> None:
    asked = make_questions(PASSAGES, search, 20)
    assert len(asked) == 20
    places = set()
    for example in asked:
        [answer] = example.answers
        given = example.passages[:3]
        titles = [passage.title for passage in given]
        [own] = [each for each in given if example.question.startswith(f"{each.title}: ")]
        places.add(titles.index(own.title))
        assert names(words_of(own.text), answer)
        assert not names(words_of(example.question), answer)
        assert len({passage.text for passage in given}) == 3
        words = example.question.removeprefix(f"{own.title}: ").rstrip("?").split()
        assert len(words) >= 2
        assert all(names(words_of(own.text), word) for word in words)
    assert places == {0, 1, 2}


def test_other_languages_can_be_asked_about() -> None:
    texts = [
        "東京タワーは三百三十三メートルです。富士山は高い山です。",
        "大阪城は豊臣秀吉が築いた城です。京都には寺が多い。",
        "Берлин стоит на реке Шпрее. Париж стоит на реке Сене близ леса.",
    ]
    passages = [Passage(text, title=f"{number}") for number, text in enumerate(texts)]
    asked = make_questions(passages, BM25Retriever(passages), 3)
    assert len(asked) == 3
    assert {example.question[0] for example in asked} == {"0", "1", "2"}


def test_questions_depend_on_the_seed_alone(search: BM25Retriever) -> None:
    assert make_questions(PASSAGES, search, 5) == make_questions(PASSAGES, search, 5)
    assert make_questions(PASSAGES, search, 5) != make_questions(PASSAGES, search, 5, seed=1)


def test_what_says_too_little_is_not_asked_about() -> None:
    passages = [Passage("It is. It was.", title="Being"), Passage("", title="Nothing")]
    with pytest.raises(InputError, match="none of 2 passages has a sentence to ask about"):
        make_questions(passages, BM25Retriever([Passage("other")]), 5)


def test_a_model_that_knows_nothing_is_turned_towards_its_sources(
    search: BM25Retriever, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = wants_to_speak()
    engine.config = NestConfig(own_words=0.9)
    monkeypatch.setattr(module, "_BY_SENTENCE", {"own_words": (0.0,), "plausibility": (0.02,)})
    asked = make_questions(PASSAGES, search, 12)
    told: list[tuple[int, int]] = []
    tuning = tune(engine, asked, tmp_path, progress=lambda *done: told.append(done))
    assert tuning.method == "ra-nest"
    assert tuning.settings["own_words"] < 0.5
    before, chosen = tuning.checked
    assert (before.variant, before.examples, chosen.examples) == ("before", 6, 6)
    worth = [row.estimates["worth"].value for row in (before, chosen)]
    assert tuning.gain is not None
    assert tuning.gain.value == pytest.approx(worth[1] - worth[0])
    assert tuning.gain.value > 0
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] == 6 * 3 + 12


def test_what_is_not_better_is_not_recommended(
    search: BM25Retriever, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BY_SENTENCE", {"own_words": (0.9,)})
    engine = wants_to_speak()
    engine.config = NestConfig(own_words=0.0)
    tuning = tune(engine, make_questions(PASSAGES, search, 12), tmp_path)
    assert (tuning.settings, tuning.chosen, tuning.gain) == ({}, {}, None)
    assert [row.variant for row in tuning.checked] == ["before"]


def test_what_other_questions_do_not_confirm_is_not_recommended(
    search: BM25Retriever, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chance has chosen: over the other questions it is worse."""
    engine = wants_to_speak()
    engine.config = NestConfig(own_words=0.0)
    monkeypatch.setattr(module, "_BY_SENTENCE", {"own_words": (1.0,)})
    rank = module._rank
    monkeypatch.setattr(module, "_rank", lambda row: tuple(-figure for figure in rank(row)))
    tuning = tune(engine, make_questions(PASSAGES, search, 12), tmp_path)
    assert (tuning.settings, tuning.chosen) == ({}, {"own_words": 1.0})
    assert tuning.gain is not None
    assert tuning.gain.value < 0


def test_a_stopped_run_goes_on(search: BM25Retriever, tmp_path: Path) -> None:
    asked = make_questions(PASSAGES, search, 4)

    class StoppedError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done >= 6:
            raise StoppedError

    with pytest.raises(StoppedError):
        tune(wants_to_speak(), asked, tmp_path, progress=stop)
    again, engine = [], wants_to_speak()
    whole = tune(engine, asked, tmp_path, progress=lambda done, _: again.append(done))
    assert again[0] >= 6
    anew = tune(wants_to_speak(), asked, tmp_path / "other")
    assert (whole.settings, worths(whole)) == (anew.settings, worths(anew))


def worths(tuning: Tuning) -> list[float]:
    return [row.estimates["worth"].value for row in (*tuning.tried, *tuning.checked)]


def test_other_questions_and_other_settings_have_results_of_their_own(
    search: BM25Retriever, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BY_SENTENCE", {"own_words": (0.0,)})
    engine = wants_to_speak()
    for seed, own_words in ((0, 0.1), (1, 0.1), (1, 0.2)):
        engine.config = NestConfig(own_words=own_words)
        tune(engine, make_questions(PASSAGES, search, 4, seed=seed), tmp_path)
    assert len([*tmp_path.iterdir()]) == 3


def test_filler_words_and_stray_marks_are_no_answers() -> None:
    texts = [
        "Helium was discovered by Janssen during an eclipse. It was light.",
        "alpha beta gamma delta\u06d4 \u064eepsilon zeta eta theta iota.",
        "Nothing of this stands elsewhere, which was to be expected.",
    ]
    passages = [Passage(text, title=str(number)) for number, text in enumerate(texts)]
    asked = make_questions(passages, BM25Retriever(passages), 3)
    assert asked
    assert all(example.answers[0] not in ("was", "it", "by", "of") for example in asked)


def test_word_by_word_distances_are_tuned(search: BM25Retriever, tmp_path: Path) -> None:
    engine = wants_to_speak()
    engine.config = NestConfig.paper_7b(max_new_tokens=8)
    tuning = tune(engine, make_questions(PASSAGES, search, 4), tmp_path)
    assert all(row.variant.startswith("knn_temperature=") for row in tuning.tried)


def test_too_few_questions_are_refused(search: BM25Retriever, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"2 questions are too few .*; give more text"):
        tune(wants_to_speak(), make_questions(PASSAGES, search, 2), tmp_path)


def test_where_nothing_can_be_asked_nothing_is_best(search: BM25Retriever, tmp_path: Path) -> None:
    engine = NestEngine(ScriptedLanguageModel("x", context_length=8))
    with pytest.raises(InputError, match="none of 2 questions can be asked: the prompt has"):
        tune(engine, make_questions(PASSAGES, search, 4), tmp_path)


def test_a_part_of_a_number_is_neither_asked_nor_answered() -> None:
    texts = [f"Alpha{n} beta{n} gamma{n} delta{n} weighs {n}3.{n}51 tons." for n in range(4)]
    passages = [Passage(text, title=f"{number}") for number, text in enumerate(texts)]
    for example in make_questions(passages, BM25Retriever(passages), 4):
        assert not re.search(r"\b\d+\b", example.question.partition(":")[2])
        assert not example.answers[0].isdigit()


def test_passages_are_read_one_by_one() -> None:
    """Those of an index are on disk, and may be millions."""

    class OnDisk(Sequence[Passage]):
        read = 0

        def __len__(self) -> int:
            return len(PASSAGES)

        def __getitem__(self, place: int) -> Passage:  # type: ignore[override]
            self.read += 1
            return PASSAGES[place]

    passages, search = OnDisk(), BM25Retriever(PASSAGES)
    asked = make_questions(passages, search, 4)
    assert asked == make_questions(PASSAGES, search, 4)
    assert passages.read < 2 * len(PASSAGES)  # once to count words, and a few for each question


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for passage in nest_demo.load_passages()[:12]:
        (folder / f"{passage.title}.txt").write_text(passage.text, encoding="utf-8")
    return folder


def run(docs: Path, tmp_path: Path, *arguments: str) -> object:
    model = ["--model", str(nest_demo.model_path())] if "--model" not in arguments else []
    fixed = ["--docs", str(docs), "--out", str(tmp_path / "tuned.json")]
    work = ["--work", str(tmp_path / "work"), "--questions", "4"]
    return CliRunner().invoke(app, ["tune", *fixed, *work, *model, *arguments])


@pytest.fixture
def generous(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is tried first is best, and is confirmed."""
    monkeypatch.setattr(module, "_BY_SENTENCE", {"own_words": (0.3,)})
    monkeypatch.setattr(module, "_rank", lambda row: (row.variant == "own_words=0.3", 0.0))
    monkeypatch.setattr(module, "difference", lambda *given: Estimate(5.0, -1.0, 9.0, 2))


@pytest.mark.usefixtures("generous")
def test_the_command_writes_settings_that_ask_takes(docs: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned.json"
    out.write_text('{"lossless": {"max_draft_tokens": 8}, "ra-nest": {"gamma": 0.1}}')
    done = run(docs, tmp_path)
    assert done.exit_code == 0, done.output
    assert json.loads(out.read_text()) == {
        "lossless": {"max_draft_tokens": 8},
        "ra-nest": {"gamma": 0.1, "own_words": 0.3},
    }
    assert "with own_words=0.3: +5.0 points" in " ".join(done.output.split())
    assert "This may be chance" in done.output
    asked = ["ask", "Tell me about the Sun.", "--docs", str(docs), "--max-new-tokens", "2"]
    asked += ["--model", str(nest_demo.model_path()), "--tuned", str(out)]
    assert CliRunner().invoke(app, asked).exit_code == 0
    for wrong, message in (
        ("[]", "holds no settings by method"),
        ('{"ra-nest": 5}', f"{out}: tuned={{'ra-nest': ...}} is not valid"),
        ('{"nest": {"own_words": 7}}', f"{out}: own_words=7 is not valid"),
    ):
        out.write_text(wrong)
        refused = CliRunner().invoke(app, asked)
        assert refused.exit_code == 1
        assert message in " ".join(refused.output.split())


def test_the_command_leaves_the_file_alone_where_nothing_is_better(
    docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BY_SENTENCE", {"own_words": (0.1,)})
    done = run(docs, tmp_path)
    assert done.exit_code == 0, done.output
    assert "nothing is recommended" in done.output
    assert not (tmp_path / "tuned.json").exists()


@pytest.mark.usefixtures("generous")
def test_stored_settings_come_with_the_model(docs: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(nest_demo.model_path(), model)
    before = NestEngine.from_pretrained(str(model), dtype="float32").language_model.fingerprint
    done = run(docs, tmp_path, "--store", "--model", str(model))
    assert done.exit_code == 0, done.output
    engine = NestEngine.from_pretrained(str(model), dtype="float32")
    assert engine.config.replace(method="ra-nest").own_words == 0.3
    assert engine.config.replace(method="nest").own_words == 0.1
    # keys stay valid: they do not depend on settings
    assert engine.language_model.fingerprint == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--method", "lossless"],
            "--method 'lossless' has nothing to tune: expected nest or ra-nest",
        ),
        (["--store"], "--store needs a model in a folder, with its config.json; --model is None"),
        (["--docs", "nowhere"], "nowhere does not exist"),
        (["--out", "nowhere/tuned.json"], "--out nowhere/tuned.json cannot be written: give a"),
    ],
)
def test_wrong_use_is_told_before_anything_slow(
    docs: Path, arguments: list[str], message: str
) -> None:
    done = CliRunner().invoke(app, ["tune", "--docs", str(docs), *arguments])
    assert done.exit_code == 1
    assert message in " ".join(done.output.split())


def test_settings_of_a_model_are_the_engines() -> None:
    scripted = ScriptedLanguageModel("")
    scripted.tuned = {"nest": {"own_words": 0.2}}  # type: ignore[attr-defined]
    config = NestEngine(scripted).config.replace(method="nest")
    assert config == NestConfig(method="nest", own_words=0.2)
