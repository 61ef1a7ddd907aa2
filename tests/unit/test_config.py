"""Settings are complete, validated as a whole, and follow the method where nobody chose."""

from __future__ import annotations

import dataclasses
import re

import pytest

from nest_engine import METHODS, ConfigError, NestConfig


def test_the_papers_settings():
    config = NestConfig.paper_7b()
    assert (config.method, config.k, config.alpha, config.tau, config.delta) == (
        "nest",
        1024,
        0.3,
        0.1,
        0.5,
    )
    assert (config.gamma, config.max_draft_tokens, config.num_passages, config.prompt_passages) == (
        5e-4,
        64,
        40,
        3,
    )
    assert (config.plausibility, config.by_sentence) == (0.0, False)
    assert (NestConfig.knn_lm().fixed_lambda, NestConfig.knn_lm().max_draft_tokens) == (0.7, 1)


def test_passages_in_the_prompt_are_quoted_sentence_by_sentence():
    """Ours; the paper's setting stays one call away."""
    ours = NestConfig.ra_nest()
    assert (ours.by_sentence, ours.plausibility, ours.own_words) == (True, 0.02, 0.1)
    assert NestConfig() == ours
    assert (ours.alpha, ours.knn_temperature, ours.delta, ours.gamma) == (0.5, 0.3, 0.8, 0.05)
    paper = NestConfig.paper_70b(method="ra-nest")
    assert (paper.by_sentence, paper.plausibility) == (False, 0.0)
    assert (paper.alpha, paper.knn_temperature, paper.delta, paper.gamma) == (0.3, 1.0, 0.5, 0.05)
    with pytest.raises(ConfigError, match="plausibility=2 is not valid"):
        NestConfig(plausibility=2)
    with pytest.raises(ConfigError, match="by_sentence=1 is not valid"):
        NestConfig(by_sentence=1)


@pytest.mark.parametrize(
    ("preset", "gamma"),
    [(NestConfig.paper_7b, 5e-4), (NestConfig.paper_13b, 5e-3), (NestConfig.paper_70b, 5e-2)],
)
def test_paper_presets(preset, gamma):
    config = preset(max_new_tokens=7)
    assert (config.gamma, config.draft_after_rejection, config.max_new_tokens) == (gamma, False, 7)


def test_a_preset_can_be_adjusted():
    assert NestConfig.paper_7b(gamma=0.1).gamma == 0.1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", "nests"),
        ("method", ["nest"]),
        ("max_new_tokens", 0),
        ("max_new_tokens", True),
        ("max_new_tokens", 1.5),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_k", 0),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("seed", 1.0),
        ("seed", 2**70),
        ("stop", ("a", "")),
        ("stop", (1,)),
        ("stop", 5),
        ("k", 0),
        ("alpha", "0.3"),
        ("alpha", float("inf")),
        ("tau", 0),
        ("delta", -0.1),
        ("gamma", 1.1),
        ("max_draft_tokens", 0),
        ("fixed_lambda", 1.1),
        ("draft_after_rejection", 1),
        ("mask_copied", "yes"),
        ("num_passages", 0),
        ("prompt_passages", -1),
        ("min_citation_tokens", 0),
    ],
)
def test_a_value_out_of_range_is_named(name, value):
    with pytest.raises(ConfigError, match=rf"^{name}=.* is not valid: expected"):
        NestConfig(**{name: value})


def test_an_unknown_setting_suggests_the_nearest():
    with pytest.raises(
        ConfigError, match="unknown setting 'max_tokens'; did you mean 'max_new_tokens'"
    ):
        NestConfig().replace(max_tokens=3)
    with pytest.raises(
        ConfigError, match="unknown setting 'zzz'; known settings: method, max_new_tokens"
    ):
        NestConfig.from_dict({"zzz": 1})


@pytest.mark.parametrize("method", METHODS)
def test_dict_round_trip(method):
    config = NestConfig(method=method, stop=("a", "b"), top_k=5, delta=0.25)
    assert NestConfig.from_dict(config.to_dict()) == config
    assert config.to_dict()["stop"] == ["a", "b"]


def test_one_stop_string_is_not_taken_apart():
    assert NestConfig(stop="END").stop == ("END",)
    assert NestConfig(stop=["a", "b"]).stop == ("a", "b")
    assert NestConfig(stop=None).stop == ()


def test_changing_the_method_changes_only_what_nobody_chose():
    config = NestConfig(gamma=0.2).replace(method="lossless")
    assert (config.gamma, config.delta, config.mask_copied) == (0.2, 1.0, False)
    assert config.replace(method="nest") == NestConfig(method="nest", gamma=0.2)
    assert NestConfig.knn_lm().replace(method="ra-nest", delta=0.9) == NestConfig(delta=0.9)
    for method in ("lm", "ra", "lossless", "knn-lm"):  # nothing is in the way of their words
        alone = NestConfig(method=method)
        assert (alone.plausibility, alone.by_sentence) == (0, False)


def test_it_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        NestConfig().k = 5
    base = NestConfig()
    base.replace(k=5)
    assert base.k == 1024


def test_a_models_own_defaults_are_those_of_the_method_they_were_tuned_for():
    config = NestConfig(
        method="nest",
        tuned={"nest": {"alpha": 0.4, "gamma": 0.01}, "ra-nest": {"max_draft_tokens": 16}},
    )
    assert (config.alpha, config.tau, config.gamma) == (0.4, 0.1, 0.01)
    in_prompt = config.replace(method="ra-nest")
    assert (in_prompt.alpha, in_prompt.gamma, in_prompt.max_draft_tokens) == (0.5, 0.05, 16)
    assert config.replace(method="knn-lm").max_draft_tokens == 1
    assert in_prompt.replace(method="nest") == config


def test_a_chosen_setting_wins_over_a_tuned_one():
    config = NestConfig(alpha=0.2, tuned={"nest": {"alpha": 0.4}, "lossless": {"alpha": 0.5}})
    assert config.alpha == 0.2
    assert config.replace(method="lossless").alpha == 0.2


@pytest.mark.parametrize(
    ("tuned", "message"),
    [
        ({"alpha": 0.4}, "tuned={'alpha': ...} is not valid: expected {method: {setting: value}}"),
        (
            {"nest": {"alfa": 0.4}},
            "tuned setting 'alfa' of nest: expected one of alpha, tau, knn_temperature",
        ),
        ({"nest": {"alpha": "much"}}, "alpha='much' is not valid"),
    ],
)
def test_tuned_defaults_are_checked(tuned, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        NestConfig(method="nest", tuned=tuned)
