"""A cache at fixed addresses: the same tokens, from forwards that a CUDA graph could repeat.

Without a GPU, what takes the graph's place is a trace of the forward: operations on tensors at
fixed addresses, with nothing of Python left between them, and an error where a number would have to
come back from the device. With one, `NEST_TEST_DEVICE=cuda` captures real graphs.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from nest_engine import NestConfig, NestEngine, Passage, UnsupportedModelError
from nest_engine.models import huggingface
from nest_engine.models.cuda_graphs import CudaGraphs, Run
from nest_engine.models.huggingface import HuggingFaceLanguageModel
from nest_engine.models.static_cache import StaticCache
from tests.tiny_models import ARCHITECTURES, tiny_model, tiny_tokenizer

PASSAGES = [
    Passage("Neon is a gas. Iron is a metal that conducts heat well."),
    Passage("A moon moves around a planet."),
]


def traced(run: Run) -> Run:
    graph = make_fx(run)()
    return lambda: tuple(graph())


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Run]]:
    """Trace each forward instead of running it eagerly; on a GPU, capture it. What was made."""
    made: list[Run] = []
    capture_graph = CudaGraphs.capture

    def trace(run: Run) -> Run:
        made.append(traced(run))
        return made[-1]

    def capture(graphs: CudaGraphs, run: Run) -> Run:
        made.append(capture_graph(graphs, run))
        return made[-1]

    monkeypatch.setattr(huggingface, "eager", trace)
    monkeypatch.setattr(CudaGraphs, "capture", capture)
    return made


def pair(
    name: str = "llama", **changes: Any
) -> tuple[HuggingFaceLanguageModel, HuggingFaceLanguageModel]:
    """The same model with a static cache and without."""
    model = tiny_model(name, **changes)
    return (
        HuggingFaceLanguageModel(model, tiny_tokenizer(), static_cache=True),
        HuggingFaceLanguageModel(model, tiny_tokenizer()),
    )


def is_static(session: Any) -> bool:
    return isinstance(session._cache, StaticCache)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_steps_equal_plain_ones(traces: list[Run], name: str) -> None:
    """Uneven drafts, cut-backs, rows that leave or join, a draft wider than any shape."""
    static, plain = pair(name)
    prompts = [list(range(5, 25)), list(range(60, 63)), list(range(100, 109))]
    sessions = [lm.prefill(prompts)[0] for lm in (static, plain)]

    def extend(drafts: list[list[int]], accepted: list[int]) -> None:
        found, expected = (session.extend(drafts) for session in sessions)
        for mine, reference in zip(found, expected, strict=True):
            torch.testing.assert_close(mine.logits_TV, reference.logits_TV, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(mine.hidden_TD, reference.hidden_TD, rtol=1e-4, atol=1e-4)
        for session in sessions:
            session.truncate(
                [n - len(d) + a for n, d, a in zip(session.lengths, drafts, accepted, strict=True)]
            )

    extend([[7, 8, 9], [10], [11, 12]], [2, 1, 1])
    extend([[7, 8], [9, 10, 11, 12], [13]], [1, 4, 1])
    for session in sessions:
        session.keep([0, 2])
    extend([[20, 21, 22], [23]], [3, 1])
    for session, lm in zip(sessions, (static, plain), strict=True):
        session.join(lm.prefill([[30] * 40, [31] * 7])[0])
    extend([[40], [41, 42], [43, 44, 45], [46]], [1, 1, 2, 1])
    extend([[50 + i % 100 for i in range(150)], [51], [52], [53]], [100, 1, 1, 1])
    extend([[60], [61] * 5, [62], [63, 64]], [1, 3, 1, 1])
    assert sessions[0].lengths == sessions[1].lengths
    assert is_static(sessions[0])
    assert traces


def test_a_shape_is_captured_once(traces: list[Run]) -> None:
    static, _ = pair()
    session, _ = static.prefill([[5, 6, 7]])
    traces.clear()
    for width in (2, 5, 8, 8, 5, 2, 4, 2):
        session.extend([[8] * width])
    assert len(traces) == 3  # two, four and eight tokens; of one, the check on load made it


def test_what_a_forward_gave_outlives_the_next_one(traces: list[Run]) -> None:
    static, _ = pair()
    session, _ = static.prefill([[5, 6, 7]])
    [first] = session.extend([[8, 9]])
    kept = first.logits_TV.clone(), first.hidden_TD.clone()
    session.extend([[10, 11]])
    assert torch.equal(first.logits_TV, kept[0])
    assert torch.equal(first.hidden_TD, kept[1])


def test_the_last_logits_alone_are_the_same() -> None:
    """Captured or not, and of rows whose last tokens are in different columns."""
    sessions = [lm.prefill([[5, 6], [7, 8, 9]])[0] for lm in pair()]
    for session in sessions:
        session.extend([[10], [11]])
    for drafts in ([[12, 13, 14], [15]], [[16, 17, 18], [19, 20]]):
        with torch.inference_mode():
            found, expected = (
                session.forward(drafts, last_logits_only=True) for session in sessions
            )
        assert found[0].shape[:2] == (2, 1)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert is_static(sessions[0])


def test_a_longer_text_makes_it_grow(traces: list[Run]) -> None:
    static, plain = pair(max_position_embeddings=4096)
    [mine, _], [reference, _] = (
        lm.prefill([[5 + i % 300 for i in range(1000)]]) for lm in (static, plain)
    )
    for width in (10, 20, 30, 3):  # beyond 1024 slots in between
        draft = [[7 + i for i in range(width)]]
        [found], [expected] = mine.extend(draft), reference.extend(draft)
        torch.testing.assert_close(found.logits_TV, expected.logits_TV, rtol=1e-4, atol=1e-4)


def test_one_session_holds_it_at_a_time() -> None:
    static, plain = pair()
    first, second = static.prefill([[5, 6]])[0], static.prefill([[7, 8, 9]])[0]
    first.extend([[10]])
    second.extend([[11]])
    assert (is_static(first), is_static(second)) == (True, False)
    first.keep([])  # its answers are done
    [outputs] = second.extend([[12]])
    assert (is_static(first), is_static(second)) == (False, True)
    expected = plain.prefill([[7, 8, 9, 11, 12]])[1][0].frontier
    torch.testing.assert_close(outputs.logits_TV[0], expected.logits_V, rtol=1e-4, atol=1e-4)
    first.join(static.prefill([[13, 14]])[0])
    [outputs] = first.extend([[15]])
    expected = plain.prefill([[13, 14, 15]])[1][0].frontier
    torch.testing.assert_close(outputs.logits_TV[0], expected.logits_V, rtol=1e-4, atol=1e-4)
    del second  # nobody releases it, and still
    gc.collect()
    third, _ = static.prefill([[5]])
    third.extend([[6]])
    assert is_static(third)


def test_its_rows_may_join_another_session() -> None:
    static, plain = pair()
    settled, fresh = static.prefill([[5, 6]])[0], static.prefill([[7, 8, 9]])[0]
    settled.extend([[10]])
    fresh.join(settled)
    outputs = fresh.extend([[11], [12]])
    for output, text in zip(outputs, ([7, 8, 9, 11], [5, 6, 10, 12]), strict=True):
        expected = plain.prefill([text])[1][0].frontier
        torch.testing.assert_close(output.logits_TV[0], expected.logits_V, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["nest", "lossless"])
def test_answers_are_the_same(traces: list[Run], method: str) -> None:
    engines = [NestEngine(lm, config=NestConfig(method=method, max_new_tokens=24)) for lm in pair()]
    prompts = ["A planet is", "Iron", "The sea and the rain and"]
    mine, expected = (
        engine.generate_batch(prompts, passages=[PASSAGES, PASSAGES[:1], []]) for engine in engines
    )
    assert [(answer.text, answer.citations) for answer in mine] == [
        (a.text, a.citations) for a in expected
    ]
    assert traces
    assert mine[0].text == engines[0].generate(prompts[0], passages=PASSAGES).text


def test_no_memory_to_acquire_it_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    static, plain = pair(max_position_embeddings=4096)
    session, _ = static.prefill([[5] * 1500])
    with monkeypatch.context() as patched:
        patched.setattr(
            torch.Tensor, "new_zeros", lambda *_: (_ for _ in ()).throw(MemoryError("no room"))
        )
        with pytest.raises(MemoryError, match="no room"):
            session.extend([[6]])
    [outputs] = session.extend([[6]])
    expected = plain.prefill([[5] * 1500 + [6]])[1][0].frontier
    torch.testing.assert_close(outputs.logits_TV[0], expected.logits_V, rtol=1e-4, atol=1e-4)


def test_a_model_that_cannot_be_captured_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(run: Run) -> Run:
        raise UnsupportedModelError("the model's forward cannot be captured as a CUDA graph")

    monkeypatch.setattr(huggingface, "eager", refuse)
    monkeypatch.setattr(CudaGraphs, "capture", lambda graphs, run: refuse(run))
    with pytest.raises(UnsupportedModelError, match="cannot be captured"):
        HuggingFaceLanguageModel(tiny_model("llama"), tiny_tokenizer(), static_cache=True)


def test_an_interrupted_answer_releases_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while somebody holds the traceback, and with it the session."""
    static, _ = pair()
    engine = NestEngine(static, config=NestConfig(method="lm", max_new_tokens=8))
    read, reads = StaticCache.read, []

    def interrupted(self: StaticCache, *arguments: Any) -> Any:
        reads.append(arguments)
        if len(reads) == 2:
            raise KeyboardInterrupt
        return read(self, *arguments)

    monkeypatch.setattr(StaticCache, "read", interrupted)
    with pytest.raises(KeyboardInterrupt) as held:
        engine.generate("A planet")
    session, _ = static.prefill([[5, 6]])
    session.extend([[7]])
    assert is_static(session)
    del held


def test_an_overflow_does_not_reach_the_next_answer() -> None:
    static, plain = pair()
    first, _ = static.prefill([[5] * 60])
    first.extend([[6]])
    with torch.inference_mode():
        for layer in static._static_cache.layers:
            layer.keys.fill_(float("nan"))
            layer.values.fill_(float("nan"))
    first.keep([])
    second, _ = static.prefill([[7, 8, 9]])
    [outputs] = second.extend([[10]])
    expected = plain.prefill([[7, 8, 9, 10]])[1][0].frontier
    torch.testing.assert_close(outputs.logits_TV[0], expected.logits_V, rtol=1e-4, atol=1e-4)
