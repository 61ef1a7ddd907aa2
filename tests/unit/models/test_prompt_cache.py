"""Beginnings of prompts are kept: what is read behind them is the same, to the last bit."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from nest_engine import ConfigError, NestEngine, Passage
from nest_engine.models import huggingface
from nest_engine.models.huggingface import HuggingFaceLanguageModel
from nest_engine.models.prompt_cache import Piece, PromptCache
from tests.tiny_models import tiny_model, tiny_tokenizer

PIECE = 64
END = 160  # of the pieces of PROMPTS: two whole ones and half a one
BEGINNING = [5 + number % 200 for number in range(165)]
PROMPTS = [[*BEGINNING, *range(20 + number, 45 + number)] for number in range(3)]
# Among them sliding windows, and heads that share keys.
ARCHITECTURES = ["llama", "mistral", "gemma", "qwen3", "gpt2", "opt"]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(huggingface._PIECE, "cpu", PIECE)


def loaded(architecture: str = "llama", **options) -> HuggingFaceLanguageModel:
    model = tiny_model(architecture, max_position_embeddings=512)
    return HuggingFaceLanguageModel(model, tiny_tokenizer(), **options)


def widths(language_model: HuggingFaceLanguageModel, prompt: list[int]) -> list[int]:
    """Return how many tokens each forward over a prompt reads."""
    seen: list[int] = []
    embeddings = language_model.model.get_input_embeddings()
    hook = embeddings.register_forward_hook(lambda *call: seen.append(call[1][0].shape[1]))
    language_model.prefill([prompt])
    hook.remove()
    return seen


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_follows_a_known_beginning_is_the_same(architecture: str, dtype: torch.dtype) -> None:
    warm, cold = loaded(architecture), loaded(architecture)
    for each in (warm, cold):
        each.model.to(dtype)
    warm.prefill([PROMPTS[0]])
    for prompt in PROMPTS[1:]:
        cold._prompt_cache = PromptCache(2**28, PIECE)
        sessions, states = [], []
        for each in (warm, cold):
            session, [prefill] = each.prefill([prompt])
            sessions.append(session)
            states.append(prefill)
        assert (states[0].num_known, states[1].num_known) == (END, 0)
        assert torch.equal(states[0].hidden_TD, states[1].hidden_TD)
        assert torch.equal(states[0].frontier.logits_V, states[1].frontier.logits_V)
        outputs = [session.extend([[7, 8, 9]])[0] for session in sessions]
        assert torch.equal(outputs[0].logits_TV, outputs[1].logits_TV)


def test_pieces_and_one_forward_agree() -> None:
    in_pieces, whole = loaded(), loaded(prompt_cache=0)
    for prompt in (PROMPTS[0], BEGINNING[:64], BEGINNING[:65], BEGINNING[:1]):
        [one], [other] = (each.prefill([prompt])[1] for each in (in_pieces, whole))
        assert torch.allclose(one.hidden_TD, other.hidden_TD, atol=1e-5)
        assert torch.allclose(one.frontier.logits_V, other.frontier.logits_V, atol=1e-5)
        assert torch.equal(one.frontier.hidden_D, one.hidden_TD[-1])


def test_only_what_is_new_is_read() -> None:
    language_model = loaded()
    assert widths(language_model, PROMPTS[0]) == [64, 64, 32, 30]
    assert widths(language_model, PROMPTS[0]) == [30]
    assert widths(language_model, PROMPTS[1]) == [30]
    assert widths(language_model, [9, *PROMPTS[0]]) == [64, 64, 32, 31]
    # The state behind the last token is needed, so something is always read.
    assert widths(language_model, BEGINNING[:128]) == [32, 32]
    assert widths(language_model, BEGINNING[:129]) == [1]
    # Where a prompt is longer, the half piece that another ended with is not one of its pieces.
    assert widths(language_model, PROMPTS[0] + PROMPTS[1]) == [64] * 3 + [32, 28]
    assert widths(loaded(prompt_cache=0), PROMPTS[0]) == [190]


def test_a_batch_is_read_together() -> None:
    language_model = loaded()
    _, prefills = language_model.prefill(PROMPTS)
    assert [prefill.num_known for prefill in prefills] == [0, 0, 0]
    assert language_model._prompt_cache is not None
    assert len(language_model._prompt_cache) == 0


def test_rows_that_began_from_the_cache_join_others() -> None:
    language_model = loaded()
    language_model.prefill([PROMPTS[0]])
    first, [one] = language_model.prefill([PROMPTS[1]])
    second, _ = language_model.prefill([PROMPTS[2][:80]])
    first.join(second)
    first.extend([[3, 4], [5]])
    alone, _ = loaded().prefill([PROMPTS[1]])
    expected = alone.extend([[3, 4]])[0]
    first.truncate([190, 80])
    found = first.extend([[3, 4], [5]])[0]
    assert one.num_known == END
    assert torch.allclose(found.logits_TV, expected.logits_TV, atol=1e-5)
    first.keep([1])
    assert first.lengths == (81,)


def test_what_is_decoded_later_leaves_the_cache_as_it_was() -> None:
    language_model = loaded()
    before = language_model.prefill([PROMPTS[0]])[1][0].frontier.logits_V
    session, _ = language_model.prefill([PROMPTS[1]])
    session.extend([[9] * 40])
    session.truncate([3])
    session.extend([[8] * 200])
    assert torch.equal(language_model.prefill([PROMPTS[0]])[1][0].frontier.logits_V, before)


def test_answers_say_what_was_known() -> None:
    tokenizer = tiny_tokenizer()
    engine = NestEngine(tiny_model("llama", max_position_embeddings=1024), tokenizer)
    beginning = "The sea is deep and wide, and ships sail on it. " * 20
    first = engine.generate(beginning + "One", method="lm", max_new_tokens=4)
    second = engine.generate(beginning + "Two", method="lm", max_new_tokens=4)
    assert first.stats.cached_prompt_tokens == 0
    assert second.stats.cached_prompt_tokens >= 64
    alone = NestEngine(engine.language_model.model, tokenizer)
    asked = {"passages": [Passage("Ships sail on it.")], "max_new_tokens": 8}
    again = [each.generate(beginning + "Two", **asked) for each in (engine, alone)]
    assert again[0].token_ids == again[1].token_ids
    assert again[0].provenance == again[1].provenance


@pytest.mark.parametrize("change", ["trained", "cast", "another layer"])
def test_a_changed_model_begins_anew(change: str) -> None:
    language_model = loaded()
    before = language_model.prefill([PROMPTS[0]])[1][0]
    weights = dict(language_model.model.named_parameters())
    name = "model.layers.0.mlp.up_proj.weight"
    if change == "trained":
        with torch.no_grad():
            weights[name].mul_(1.5)
    elif change == "cast":
        language_model.model.to(torch.float64)
    else:
        owner = language_model.model.get_submodule(name.rpartition(".")[0])
        owner.weight = torch.nn.Parameter(weights[name] * 1.5)
    [after] = language_model.prefill([PROMPTS[0]])[1]
    assert after.num_known == 0
    assert not torch.equal(before.frontier.logits_V, after.frontier.logits_V)
    assert language_model.prefill([PROMPTS[0]])[1][0].num_known == END


def test_positions_that_depend_on_the_length_are_read_in_one() -> None:
    """longrope takes other factors in longer texts."""
    factors = [1.0 + 0.1 * number for number in range(4)]
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": factors,
        "original_max_position_embeddings": 128,
    }
    model = tiny_model("llama", max_position_embeddings=512, rope_parameters=rope)
    language_model = HuggingFaceLanguageModel(model, tiny_tokenizer())
    assert language_model._prompt_cache is None
    assert widths(language_model, PROMPTS[0]) == [190]
    assert loaded()._prompt_cache is not None


def test_no_copies_are_made_of_what_cannot_be_kept() -> None:
    language_model = loaded(prompt_cache=1)
    copied: list[int] = []
    session = language_model._open_session(1)
    of_cache = session._cache.piece
    session._cache.piece = lambda *given: copied.append(1) or of_cache(*given)
    cache = language_model._prompt_cache
    assert cache is not None
    session.read_prompt(PROMPTS[0], cache.names(PROMPTS[0]), cache)
    assert (copied, len(cache)) == ([1], 0)


# The cache


def piece(size: int) -> Piece:
    return Piece([(torch.zeros(1, size, 1), torch.zeros(1, size, 1)), None], torch.zeros(size, 1))


def test_space_is_bounded_and_ends_are_dropped_before_beginnings() -> None:
    cache = PromptCache(max_bytes=5 * 3 * 4 * 2, piece=2)
    first, second = cache.names(range(7)), cache.names([0, 1, 9, 9, 9, 9, 9])
    assert (len(first), first[0]) == (3, second[0])
    cache.put(first, [piece(2)] * 3)
    cache.put(second, [piece(2)] * 3)
    assert cache.nbytes == 5 * piece(2).nbytes <= cache.max_bytes
    assert len(cache.beginning(second)) == 3
    other = cache.names([8, 8, 8])
    cache.put(other, [piece(2)])
    assert (len(cache.beginning(second)), len(cache.beginning(first))) == (3, 2)
    cache.put(other, [piece(2)])
    assert cache.nbytes == len(cache) * piece(2).nbytes


def test_what_is_too_large_is_not_kept() -> None:
    cache = PromptCache(max_bytes=10, piece=2)
    cache.put(cache.names(range(7)), [piece(2)] * 3)
    assert (len(cache), cache.nbytes) == (0, 0)


def test_threads_share_it() -> None:
    language_model = loaded()
    expected = [loaded().prefill([prompt])[1][0].frontier.logits_V for prompt in PROMPTS]
    begun = threading.Barrier(6)

    def read(number: int) -> bool:
        begun.wait()
        rows = [language_model.prefill([PROMPTS[number % 3]])[1][0] for _ in range(3)]
        return all(torch.equal(row.frontier.logits_V, expected[number % 3]) for row in rows)

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(read, range(6)))


@pytest.mark.parametrize("bad", [-1, 0.5, True])
def test_a_size_is_a_number_of_bytes(bad: object) -> None:
    with pytest.raises(ConfigError, match=f"prompt_cache={bad!r} is not valid"):
        loaded(prompt_cache=bad)
