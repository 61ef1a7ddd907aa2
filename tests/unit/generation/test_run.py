"""Whoever enters or leaves in between, each answer is the one it would be alone; failures too."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nest_engine import METHODS, NestConfig, NestEngine, NestOutput, Passage
from nest_engine.generation.request import Request, prepare
from nest_engine.generation.run import Decoding, Run
from nest_engine.records import DecodeStats
from nest_engine.testing import ScriptedLanguageModel
from tests.tiny_models import tiny_model, tiny_tokenizer

FEW = settings(derandomize=True, database=None, deadline=None, max_examples=12)
PASSAGES = [
    Passage(
        "The river flows from the mountains to the sea. Copper is a metal that conducts heat.",
        title="River",
    ),
    Passage(
        "A planet is a body that moves around a star, and the sea gives the rain back to the "
        "mountains."
    ),
    Passage("Helium is a gas. Neon is a gas. Iron is a metal."),
]
PROMPTS = ["Question: What is a river? Answer: The", "A planet", "Helium is a gas that", "The sea"]


@dataclass(frozen=True)
class Asked:
    """A prompt, what may be quoted and how, the steps in which it enters and its asker leaves."""

    prompt: str
    passages: tuple[Passage, ...]
    config: NestConfig
    enters: int
    leaves: int | None

    def request(self, engine: NestEngine) -> Request:
        [request] = prepare(engine, [self.prompt], [self.passages], None, self.config)
        return request


@st.composite
def asked(draw: st.DrawFn) -> Asked:
    config = NestConfig(
        method=draw(st.sampled_from(METHODS)),
        temperature=draw(st.sampled_from([0.0, 0.0, 1.0])),
        seed=draw(st.integers(0, 3)),
        max_new_tokens=draw(st.integers(1, 16)),
        k=16,
        alpha=0.8,
        delta=0.9,
        gamma=0.05,
        min_citation_tokens=1,
        stop=draw(st.sampled_from([(), ("e",)])),
    )
    passages = draw(
        st.lists(st.sampled_from(PASSAGES), max_size=2, unique_by=lambda passage: passage.id)
    )
    leaves = draw(st.one_of(st.none(), st.none(), st.integers(0, 12)))
    return Asked(
        draw(st.sampled_from(PROMPTS)), tuple(passages), config, draw(st.integers(0, 8)), leaves
    )


def decoded(engine: NestEngine, all_asked: list[Asked]) -> list[NestOutput]:
    """Decode requests in one run, entering and leaving when they say; the pieces must add up."""
    run = Run(engine.language_model, engine.key_cache)
    running: dict[int, Decoding] = {}
    outputs: dict[int, NestOutput] = {}
    texts = [""] * len(all_asked)
    step = 0
    while len(outputs) < len(all_asked):
        for number, each in enumerate(all_asked):
            if each.enters == step:
                [running[number]] = run.enter([each.request(engine)])
            if number in running and each.leaves is not None and step >= each.enters + each.leaves:
                running[number].cancel()
        advanced = run.step()
        assert set(advanced) == set(running.values())
        for number, decoding in list(running.items()):
            chunk = decoding.take()
            texts[number] += chunk.text
            if chunk.output is not None:
                outputs[number] = chunk.output
                del running[number]
        assert len(run) == len(running)
        step += 1
    assert [outputs[number].text for number in range(len(all_asked))] == texts
    return [outputs[number] for number in range(len(all_asked))]


def alone(engine: NestEngine, each: Asked) -> NestOutput:
    """Decode a request by itself, with the public call."""
    steps = iter(range(1000))
    leaves = each.leaves
    cancel = None if leaves is None else lambda: next(steps) >= leaves
    return engine.generate(each.prompt, passages=each.passages, config=each.config, cancel=cancel)


def without_costs(output: NestOutput) -> NestOutput:
    """Leave out seconds, and figures whose last bits depend on the size of the batch."""
    return replace(output, stats=DecodeStats(), lambdas=(), trace=())


def assert_as_alone(engine: NestEngine, all_asked: list[Asked]) -> None:
    for output, each in zip(decoded(engine, all_asked), all_asked, strict=True):
        assert without_costs(output) == without_costs(alone(engine, each))
        offered = {passage.id: passage.text for passage in each.passages}
        for citation in output.citations:
            quoted = offered[citation.passage_id][citation.source_start : citation.source_end]
            assert (
                quoted
                == citation.cited_text
                == output.text[citation.answer_start : citation.answer_end]
            )


@FEW
@given(all_asked=st.lists(asked(), min_size=1, max_size=5))
def test_on_a_scripted_model_who_joins_or_leaves_changes_no_answer(all_asked: list[Asked]) -> None:
    text = PASSAGES[0].text + " " + PASSAGES[2].text
    assert_as_alone(NestEngine(ScriptedLanguageModel(text, confidence=0.4)), all_asked)


TINY = {
    name: NestEngine(tiny_model(name), tiny_tokenizer()) for name in ("llama", "mistral", "gpt2")
}


@pytest.mark.parametrize("name", TINY)
@FEW
@given(all_asked=st.lists(asked(), min_size=2, max_size=4))
def test_on_a_real_model_who_joins_or_leaves_changes_no_answer(
    name: str, all_asked: list[Asked]
) -> None:
    assert_as_alone(TINY[name], all_asked)


def failing(request: Request, *, at: int) -> Request:
    """Return the request with a logits processor that raises once the answer has ``at`` tokens."""
    num_prompt = len(request.tokens.token_ids)

    def process(token_ids, logits_V):
        if len(token_ids) - num_prompt >= at:
            raise ZeroDivisionError("in a callback")
        return logits_V

    return replace(request, process_logits=process)


@pytest.mark.parametrize("at", [0, 1, 3])
@pytest.mark.parametrize("method", ["lm", "nest", "lossless"])
def test_a_callback_that_fails_ends_its_own_answer_only(method: str, at: int) -> None:
    engine = TINY["llama"]
    config = NestConfig(method=method, max_new_tokens=12, k=16, alpha=0.8, delta=0.9, gamma=0.05)
    good, bad = (prepare(engine, [prompt], [PASSAGES], None, config)[0] for prompt in PROMPTS[:2])
    run = Run(engine.language_model, engine.key_cache)
    failed, fine = run.enter([failing(bad, at=at), good])
    for _ in run.steps():
        fine.take()
    assert without_costs(fine.output) == without_costs(
        engine.generate(PROMPTS[0], passages=PASSAGES, config=config)
    )
    with pytest.raises(ZeroDivisionError, match="in a callback"):
        failed.take()


def test_a_stopping_criterion_that_fails_ends_its_own_answer_only() -> None:
    engine = NestEngine(ScriptedLanguageModel("abc"))
    requests = prepare(engine, ["x", "y"], None, None, NestConfig(method="lm"))

    def fails(token_ids):
        raise ZeroDivisionError("in a criterion")

    run = Run(engine.language_model, engine.key_cache)
    failed, fine = run.enter([replace(requests[0], is_stopped=fails), requests[1]])
    for _ in run.steps():
        pass
    assert fine.output.text == "abc"
    with pytest.raises(ZeroDivisionError, match="in a criterion"):
        failed.take()


def test_a_prompt_that_cannot_be_read_leaves_the_others_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = TINY["llama"]
    config = NestConfig(method="nest", max_new_tokens=8, seed=1)
    first, second = prepare(engine, PROMPTS[:2], [PASSAGES, PASSAGES], None, config)
    run = Run(engine.language_model, engine.key_cache)
    [fine] = run.enter([first])
    run.step()
    with monkeypatch.context() as patched:
        patched.setattr(
            torch.Tensor,
            "new_zeros",
            lambda *_: (_ for _ in ()).throw(MemoryError("no room to join")),
        )
        with pytest.raises(MemoryError, match="no room to join"):
            run.enter([second])
    for _ in run.steps():
        pass
    assert without_costs(fine.output) == without_costs(
        engine.generate(PROMPTS[0], passages=PASSAGES, config=config)
    )


def test_a_long_row_that_has_left_leaves_no_wide_buffer() -> None:
    lm = TINY["llama"].language_model
    session, _ = lm.prefill([[5] * 200, [6] * 10])
    wide = session._cache.layers[0].keys.shape[2]
    session.keep([1])
    assert session._cache.layers[0].keys.shape[2] <= 20 < 200 <= wide
    session.join(lm.prefill([[7] * 40])[0])
    assert session.lengths == (10, 40)
    expected = lm.prefill([[6] * 10 + [8]])[1][0].frontier.logits_V
    torch.testing.assert_close(
        session.extend([[8], [9]])[0].logits_TV[-1], expected, rtol=1e-4, atol=1e-4
    )
