"""`nest tune`: the sweep agrees with the engine's score, the choice follows from its counts."""

import json
import math
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import nest_demo
from nest_engine import InputError, NestConfig, NestEngine, Passage
from nest_engine.cli import app
from nest_engine.evaluation.draft_outcomes import (
    DraftingRow,
    DraftOutcome,
    acceptance_by_gamma,
    choose_delta,
    choose_gamma,
    draft_outcomes,
    drafting_by_lambda,
    yield_by_length,
)
from nest_engine.evaluation.samples import Sample, force, make_samples
from nest_engine.evaluation.trust import PredictedTexts, Trust
from nest_engine.evaluation.tuning import tune
from nest_engine.retrieval import BM25Retriever
from tests.settings import WORD_BY_WORD


@pytest.fixture(scope="module")
def engine() -> NestEngine:
    loaded = nest_demo.load_engine(BM25Retriever(nest_demo.load_passages()))
    loaded.config = WORD_BY_WORD
    return loaded


@pytest.fixture(scope="module")
def samples(engine: NestEngine) -> list[Sample]:
    return make_samples(engine, nest_demo.load_passages(), 3)


def test_the_document_is_among_the_passages_or_kept_out_of_them(
    engine: NestEngine, samples: list[Sample]
) -> None:
    assert [sample.condition for sample in samples] == [
        "gold",
        "no-gold",
        "gold, in prompt",
        "no-gold, in prompt",
    ] * 3
    for gold, without in zip(samples[::4], samples[1::4], strict=True):
        assert (gold.prompt, gold.query, gold.text) == (without.prompt, without.query, without.text)
        assert gold.prompt == engine.format_question(gold.query)
        assert any(f" {passage.text}" == gold.text for passage in gold.passages)
        assert not any(f" {passage.text}" == gold.text for passage in without.passages)
        assert len(gold.passages) == len(without.passages) == engine.config.num_passages


def test_few_passages_stand_in_the_prompt_as_a_chain_writes_them(
    engine: NestEngine, samples: list[Sample]
) -> None:
    for searched, placed in [
        *zip(samples[::4], samples[2::4], strict=True),
        *zip(samples[1::4], samples[3::4], strict=True),
    ]:
        assert placed.query == placed.prompt
        assert placed.text == searched.text
        assert placed.passages == searched.passages[: engine.config.prompt_passages]
        assert all(passage.text in placed.prompt for passage in placed.passages)


def test_a_method_that_writes_passages_into_the_prompt_itself_has_two_conditions(
    engine: NestEngine,
) -> None:
    writes = NestEngine(
        engine.language_model,
        retriever=engine.retriever,
        config=engine.config.replace(method="ra-nest"),
    )
    assert [sample.condition for sample in make_samples(writes, nest_demo.load_passages(), 1)] == [
        "gold",
        "no-gold",
    ]


def test_samples_depend_on_the_seed_alone(engine: NestEngine, samples: list[Sample]) -> None:
    passages = nest_demo.load_passages()
    assert make_samples(engine, passages, 3) == samples
    assert make_samples(engine, passages, 3, seed=1) != samples


def test_documents_without_titles_cannot_be_asked_for(engine: NestEngine) -> None:
    with pytest.raises(InputError, match="no passage has a title"):
        make_samples(engine, [Passage(text="Text alone.")], 3)


def test_tuning_needs_a_search(engine: NestEngine) -> None:
    with pytest.raises(InputError, match="the engine has no retriever"):
        make_samples(NestEngine(engine.language_model), nest_demo.load_passages(), 3)


@pytest.mark.parametrize(
    ("alpha", "tau", "knn_temperature"), [(0.3, 0.1, 1.0), (0.1, 0.02, 0.1), (0.8, 0.3, 0.3)]
)
def test_perplexity_by_arithmetic_is_the_engines_own(
    engine: NestEngine, samples: list[Sample], alpha: float, tau: float, knn_temperature: float
) -> None:
    trust = Trust(alpha, tau, knn_temperature)
    observed = PredictedTexts([knn_temperature])
    for sample in samples[:4]:
        for predicted in force(engine, engine.config, sample).predict():
            observed.add(sample.condition, predicted)
    for sample in samples[:4]:
        score = engine.score(
            sample.text,
            prompt=sample.prompt,
            passages=sample.passages,
            query=sample.query,
            **trust._asdict(),
        )
        assert observed.perplexity(trust)[sample.condition] == pytest.approx(
            score.perplexity, rel=1e-3
        )
        alone = engine.score(sample.text, prompt=sample.prompt, passages=[], method="lm")
        assert observed.perplexity(None)[sample.condition] == pytest.approx(
            alone.perplexity, rel=1e-4
        )


def test_a_copy_is_right_as_far_as_passage_and_text_agree(engine: NestEngine) -> None:
    passage = next(p for p in nest_demo.load_passages() if p.title == "Neptune")
    words = passage.text.split()
    departing = " ".join([*words[:20], "entirely", *words[21:25]])
    query = "Tell me about Neptune."
    sample = Sample(engine.format_question(query), query, f" {departing}", (passage,), "gold")
    config = engine.config.replace(fixed_lambda=0.0)
    forced = force(engine, config, sample)
    [predicted] = forced.predict()
    copies = list(draft_outcomes(predicted, forced.index, config))
    departed = next(copy for copy in copies if copy.wrong_ratio is not None)
    before = engine.language_model.tokenizer.encode_prompt(" ".join(words[:20])).token_ids
    assert sum(copy.right for copy in copies[: copies.index(departed) + 1]) <= len(before)
    assert departed.right > 5
    assert len(departed.right_ratios) == departed.right - 1
    assert 0 < departed.wrong_ratio <= 1
    assert departed.lambda_ == 0.0


def copy(lambda_: float, right: int, wrong: float | None = 0.5) -> DraftOutcome:
    return DraftOutcome(lambda_, right, (0.9,) * (right - 1), wrong)


def test_drafting_is_counted_by_lambda() -> None:
    copies = [copy(0.05, 4), copy(0.1, 1), copy(0.15, 1), copy(0.55, 9, None), copy(0.55, 1, None)]
    rows = {row.delta: (row.drafts, row.right) for row in drafting_by_lambda(copies)}
    assert rows[0.1] == (2, 0.5)
    assert rows[0.2] == (1, 0.0)
    assert rows[0.6] == (1, 1.0)  # the other ended with its first token, which says nothing
    assert rows[1.0] == (0, 0.0)


def test_delta_is_where_drafting_has_gained_most() -> None:
    first, last = [(0.1, 10, 0.9), (0.2, 4, 0.25)], [(0.4, 8, 0.0)]
    assert choose_delta([DraftingRow(*row) for row in (*first, (0.3, 6, 1.0), *last)]) == 0.3
    assert choose_delta([DraftingRow(*row) for row in (*first, (0.3, 1, 1.0), *last)]) == 0.1


def test_acceptance_is_counted_by_gamma() -> None:
    rows = {
        row.gamma: row
        for row in acceptance_by_gamma([copy(0.1, 3, 0.04), copy(0.1, 2, None), copy(0.1, 2, 0.3)])
    }
    assert (rows[1e-5].right, rows[1e-5].wrong) == (1.0, 1.0)
    # the test is p > 0.5 * gamma * max p
    assert (rows[0.1].right, rows[0.1].wrong) == (1.0, 0.5)
    assert (rows[1.0].right, rows[1.0].wrong) == (1.0, 0.0)


def test_gamma_refuses_what_is_wrong_unless_that_ends_copies() -> None:
    # Its second token is right, and hardly probable.
    lost = [DraftOutcome(0.1, 9, (0.9, 0.04, *[0.9] * 6), 0.3)]
    assert choose_gamma(lost) == 0.05
    wrong = [copy(0.1, 2, 0.3)] * 8
    assert choose_gamma(lost + wrong) == 1.0  # seven tokens against eight
    assert choose_gamma(lost * 2 + wrong) == 0.05


def test_draft_yield_weighs_tokens_against_width() -> None:
    rows = {row.length: row.tokens for row in yield_by_length([copy(0.1, 20), copy(0.1, 4)], 0.1)}
    assert rows[8] == pytest.approx((8 + 4) / 2 / 1.6)
    assert rows[32] == pytest.approx((20 + 4) / 2 / 4.0)


def test_recommended_settings_predict_better_and_are_settings(
    engine: NestEngine, samples: list[Sample]
) -> None:
    told: list[tuple[int, int]] = []
    tuning = tune(engine, samples, progress=lambda done, total: told.append((done, total)))
    config = engine.config.replace(**tuning.settings)
    assert told == [(number, 24) for number in range(1, 25)]

    def mean(figures: dict[str, float]) -> float:
        return math.prod(figures.values()) ** (1 / len(figures))

    assert mean(tuning.perplexity_of["recommended"]) <= 1.01 * mean(tuning.perplexity_of["before"])
    assert mean(tuning.perplexity_of["recommended"]) < mean(tuning.perplexity_of["lm"])
    for sample in samples[:2]:
        engine.generate(
            sample.prompt,
            passages=sample.passages,
            query=sample.query,
            config=config,
            max_new_tokens=4,
        )


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for passage in nest_demo.load_passages()[:12]:
        (folder / f"{passage.title}.txt").write_text(passage.text, encoding="utf-8")
    return folder


def test_the_command_writes_settings_that_ask_takes(docs: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned.json"
    out.write_text('{"lossless": {"max_draft_tokens": 8}}')
    run = CliRunner().invoke(
        app, ["tune", "--docs", str(docs), "--documents", "2", "--out", str(out)]
    )
    assert run.exit_code == 0, run.output
    tuned = json.loads(out.read_text())
    assert tuned["lossless"] == {"max_draft_tokens": 8}
    assert set(tuned["nest"]) == {
        "alpha",
        "tau",
        "knn_temperature",
        "delta",
        "gamma",
        "max_draft_tokens",
    }
    assert f"alpha={tuned['nest']['alpha']}" in run.output
    asked = ["ask", "Tell me about the Sun.", "--docs", str(docs), "--max-new-tokens", "2"]
    assert CliRunner().invoke(app, [*asked, "--tuned", str(out)]).exit_code == 0
    out.write_text("[]")
    refused = CliRunner().invoke(app, [*asked, "--tuned", str(out)])
    assert refused.exit_code == 1
    assert "holds no settings by method" in refused.output


def test_stored_settings_come_with_the_model(docs: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "tuned.json"
    shutil.copytree(nest_demo.model_path(), model)
    before = NestEngine.from_pretrained(str(model), dtype="float32").language_model.fingerprint
    arguments = [
        "--docs",
        str(docs),
        "--documents",
        "2",
        "--out",
        str(out),
        "--model",
        str(model),
        "--store",
    ]
    run = CliRunner().invoke(app, ["tune", *arguments, "--method", "ra-nest"])
    assert run.exit_code == 0, run.output
    engine = NestEngine.from_pretrained(str(model), dtype="float32")
    settings = json.loads(out.read_text())["ra-nest"]
    tuned = engine.config.replace(method="ra-nest")
    assert {name: getattr(tuned, name) for name in settings} == settings
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
    ],
)
def test_wrong_use_is_told_before_anything_slow(
    docs: Path, arguments: list[str], message: str
) -> None:
    run = CliRunner().invoke(app, ["tune", "--docs", str(docs), *arguments])
    assert run.exit_code == 1
    assert message in " ".join(run.output.split())


def test_settings_of_a_model_are_the_engines(engine: NestEngine) -> None:
    class Tuned:
        tuned = {"nest": {"alpha": 0.2}}  # noqa: RUF012

        def __getattr__(self, name: str) -> object:
            return getattr(engine.language_model, name)

    assert NestEngine(Tuned()).config.replace(method="nest") == NestConfig(method="nest", alpha=0.2)
