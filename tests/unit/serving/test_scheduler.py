"""Many callers, one decoding thread: answers as if alone, failures alone, nobody in vain."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nest_engine import (
    METHODS,
    ConfigError,
    ContextOverflowError,
    DecodingError,
    InputError,
    NestConfig,
    NestEngine,
    NestOutput,
    Passage,
    QueueFullError,
    RetrievalError,
    Scheduler,
    SchedulerClosedError,
)
from nest_engine.records import DecodeStats
from nest_engine.testing import EOS, ScriptedLanguageModel
from tests.tiny_models import tiny_model, tiny_tokenizer

SECONDS = 120.0  # more than anything here takes, on a slow machine too
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
TINY = NestEngine(tiny_model("llama"), tiny_tokenizer())


def wait_until(condition) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


def without_costs(output: NestOutput) -> NestOutput:
    """Leave out seconds, and figures whose last bits depend on the size of the batch."""
    return replace(output, stats=DecodeStats(), lambdas=(), trace=())


class Gate:
    """A model without end, a letter for each permit: a test knows where decoding stands."""

    def __init__(self) -> None:
        self.permits = threading.Semaphore(0)
        self.model = ScriptedLanguageModel(self._say, confidence=1.0)
        self.engine = NestEngine(self.model, config=NestConfig(method="lm", max_new_tokens=100_000))
        self.is_over = False

    def _say(self, text: bytes) -> int:
        _, colon, answer = text.partition(b": ")
        if colon and answer and not self.is_over:
            assert self.permits.acquire(timeout=SECONDS), "the test gave no permit"
        return EOS if self.is_over else ord("a") + len(answer) % 26

    def open(self) -> None:
        self.is_over = True
        self.permits.release(1000)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


# Answers


@settings(derandomize=True, database=None, deadline=None, max_examples=8)
@given(seed=st.integers(0, 2**16), max_running=st.integers(1, 5))
def test_every_answer_is_the_one_it_would_be_alone(seed: int, max_running: int) -> None:
    """By every method, arriving and leaving at random; none cites another's passages."""
    chance = random.Random(seed)
    script = ScriptedLanguageModel(f"{PASSAGES[0].text} {PASSAGES[2].text}", confidence=0.4)
    engine = chance.choice([TINY, NestEngine(script)])
    expected, answers, leaving = [], [], []
    with Scheduler(engine, max_running=max_running) as scheduler:
        for _ in range(chance.randint(2, 8)):
            config = NestConfig(
                method=chance.choice(METHODS),
                temperature=chance.choice([0.0, 1.0]),
                seed=chance.randrange(4),
                max_new_tokens=chance.randint(1, 20),
                k=16,
                alpha=0.8,
                delta=0.9,
                gamma=0.05,
                min_citation_tokens=1,
            )
            passages = chance.sample(PASSAGES, chance.randint(0, 2))
            prompt = chance.choice(PROMPTS)
            answers.append(scheduler.submit(prompt, passages=passages, config=config))
            leaving.append(
                scheduler.submit(chance.choice(PROMPTS), passages=PASSAGES, config=config)
            )
            expected.append(engine.generate(prompt, passages=passages, config=config))
            if chance.random() < 0.5:
                leaving[-1].cancel()
        for answer, alone in zip(answers, expected, strict=True):
            chunks = list(answer)
            output = answer.result()
            assert without_costs(output) == without_costs(alone)
            assert "".join(chunk.text for chunk in chunks) == output.text
            assert [c for chunk in chunks for c in chunk.citations] == list(output.citations)
            assert {c.passage_id for c in output.citations} <= {
                passage.id for passage in output.passages
            }


def test_answers_share_their_forward_passes() -> None:
    are_all_there = threading.Event()

    def say(text: bytes) -> int:
        assert are_all_there.wait(SECONDS)
        return ord("x")

    model = ScriptedLanguageModel(say)
    with Scheduler(NestEngine(model), max_running=8) as scheduler:
        answers = [
            scheduler.submit(f"{number}", method="lm", max_new_tokens=40) for number in range(8)
        ]
        wait_until(lambda: len(scheduler._ready) == 7)  # the first is being read
        are_all_there.set()
        assert {answer.result(SECONDS).text for answer in answers} == {"x" * 40}
    # A forward for each prompt; one enters with each step, so the last begins 7 steps after the
    # first.
    assert model.num_forwards == 8 + 39 + 7


def test_chunks_come_while_decoding_goes_on_and_can_be_read_again(gate: Gate) -> None:
    with Scheduler(gate.engine) as scheduler:
        answer = scheduler.submit("Say: ")
        chunks = iter(answer)
        gate.permits.release()
        assert next(chunks).text == "a"
        gate.permits.release()
        assert next(chunks).text == "b"
        assert not answer.is_done
        with pytest.raises(TimeoutError, match=r"has not ended within 0\.01 seconds"):
            answer.result(0.01)
        gate.open()
        *_, last = chunks
        assert last.output == answer.result(SECONDS)
        assert "".join(chunk.text for chunk in answer) == answer.result().text


def test_an_event_loop_reads_many_answers_at_once(gate: Gate) -> None:
    async def text_of(answer) -> str:
        return "".join([chunk.text async for chunk in answer])

    async def read_all(answers) -> list[str]:
        read = [asyncio.create_task(text_of(answer)) for answer in answers]
        await asyncio.sleep(0)
        gate.permits.release(20)
        await asyncio.to_thread(wait_until, lambda: gate.permits._value == 0)
        gate.open()
        return await asyncio.wait_for(asyncio.gather(*read), SECONDS)

    with Scheduler(gate.engine) as scheduler:
        answers = [scheduler.submit("Say: ") for _ in range(3)]
        # One is decoded until it needs a permit; the others are about to be.
        wait_until(lambda: scheduler.num_running + len(scheduler._ready) == 3)
        texts = asyncio.run(read_all(answers))
    assert texts == [answer.result().text for answer in answers]
    assert all(len(text) > 1 for text in texts)
    assert all(answer._listeners == [] for answer in answers)


# Leaving


def test_a_cancelled_answer_ends_within_a_step(gate: Gate) -> None:
    with Scheduler(gate.engine) as scheduler:
        answer = scheduler.submit("Say: ")
        chunks = iter(answer)
        gate.permits.release(2)
        assert [next(chunks).text for _ in range(2)] == ["a", "b"]
        before = gate.model.num_forwards
        answer.cancel()
        gate.permits.release(1000)
        output = answer.result(SECONDS)
        assert output.finish_reason == "cancelled"
        assert output.text.startswith("ab")
        assert gate.model.num_forwards <= before + 1
        answer.cancel()
        assert answer.result() == output


def test_a_cancelled_request_that_waits_ends_at_once(gate: Gate) -> None:
    with Scheduler(gate.engine, max_running=1) as scheduler:
        running = scheduler.submit("Say: ")
        wait_until(lambda: scheduler.num_running == 1)
        waiting = scheduler.submit("Say: ")
        waiting.cancel()
        assert (waiting.result(0).text, waiting.result(0).finish_reason) == ("", "cancelled")
        assert scheduler.num_waiting == 0
        gate.open()
        assert running.result(SECONDS).finish_reason == "eos"


# The queue


def test_a_full_queue_refuses_and_then_takes_requests_again(gate: Gate) -> None:
    with Scheduler(gate.engine, max_running=1, max_waiting=2) as scheduler:
        answers = [scheduler.submit("Say: ")]
        wait_until(lambda: scheduler.num_running == 1)  # who is ready first is decoded first
        answers += [scheduler.submit("Say: ") for _ in range(2)]
        assert scheduler.num_waiting == 2
        with pytest.raises(
            QueueFullError, match="1 answers are being decoded and 2 wait; at most 1 and 2 can"
        ):
            scheduler.submit("Say: ")
        answers[2].cancel()
        answers.append(scheduler.submit("Say: "))
        gate.open()
        assert [answer.result(SECONDS).finish_reason for answer in answers] == [
            "eos",
            "eos",
            "cancelled",
            "eos",
        ]


@pytest.mark.parametrize(
    ("limits", "message"), [({"max_running": 0}, "max_running=0"), ({"max_waiting": -1}, "=-1")]
)
def test_limits_are_checked(limits: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Scheduler(TINY, **limits)


def test_a_slow_search_keeps_nobody_waiting() -> None:
    searched = threading.Event()

    class Slow:
        def retrieve(self, queries, k):
            assert searched.wait(SECONDS)
            return [[Passage("abc")] for _ in queries]

    engine = NestEngine(ScriptedLanguageModel("abc"), retriever=Slow())
    with Scheduler(engine) as scheduler:
        slow = scheduler.submit("x")
        assert scheduler.submit("x", passages=[]).result(SECONDS).text == "abc"
        assert (slow.is_done, scheduler.num_waiting) == (False, 1)
        searched.set()
        assert slow.result(SECONDS).passages == (Passage("abc"),)


def test_passages_that_are_new_to_the_model_are_read_beside_decoding(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_by: list[str] = []
    encode = gate.model.encode
    monkeypatch.setattr(
        gate.model,
        "encode",
        lambda passages: read_by.append(threading.current_thread().name) or encode(passages),
    )
    gate.engine.key_cache.max_bytes = 0  # nothing is kept: they must come with the request
    with Scheduler(gate.engine) as scheduler:
        assert gate.permits._value == 0
        running = scheduler.submit("Say: ")
        wait_until(lambda: scheduler.num_running == 1)  # and stands in a step without a permit
        cold = scheduler.submit("Say: ", passages=PASSAGES, method="lossless", max_new_tokens=3)
        wait_until(lambda: len(scheduler._ready) == 1)
        gate.permits.release(100)
        assert cold.result(SECONDS).stats.encoded_passages == len(PASSAGES)
        gate.open()
        assert running.result(SECONDS).finish_reason == "eos"
    [thread] = read_by
    assert thread.startswith("nest-search")


# Failing


class Failing:
    """A retriever that fails for some queries."""

    def retrieve(self, queries, k):
        if "fail" in queries[0]:
            raise OSError("the store is down")
        return [[Passage("abc")] for _ in queries]


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"prompt": "x", "query": "fail"}, RetrievalError, "Failing failed: the store is down"),
        ({"prompt": "x", "passages": ["text"]}, InputError, "must be Passage objects, got str"),
        ({"prompt": ""}, InputError, "the prompt is empty"),
        (
            {"prompt": "x" * 100},
            ContextOverflowError,
            "the prompt has 100 tokens and the model's context holds 60",
        ),
        ({"prompt": "\ud800"}, InputError, "lone surrogate"),
    ],
)
def test_a_bad_request_fails_alone(asked, error, message) -> None:
    engine = NestEngine(ScriptedLanguageModel("abc", context_length=60), retriever=Failing())
    with Scheduler(engine) as scheduler:
        bad, good = scheduler.submit(**asked), scheduler.submit("x")
        with pytest.raises(error, match=message):
            bad.result(SECONDS)
        with pytest.raises(error, match=message):
            list(bad)
        assert good.result(SECONDS).text == "abc"


def test_a_bad_setting_is_told_at_once() -> None:
    with (
        Scheduler(TINY) as scheduler,
        pytest.raises(ConfigError, match="unknown setting 'nonsense'"),
    ):
        scheduler.submit("x", nonsense=1)


def test_a_prompt_that_cannot_be_read_fails_alone(
    monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    prefill = gate.model.prefill

    def fails_for_some(prompts):
        if bytes(prompts[0]).startswith(b"Fail"):
            raise MemoryError("out of memory")
        return prefill(prompts)

    monkeypatch.setattr(gate.model, "prefill", fails_for_some)
    with Scheduler(gate.engine) as scheduler:
        good = scheduler.submit("Say: ")
        wait_until(lambda: scheduler.num_running == 1)
        bad = scheduler.submit("Fail: ")
        wait_until(lambda: len(scheduler._ready) == 1)  # behind the step that waits for a permit
        gate.permits.release(5)
        with pytest.raises(MemoryError, match="out of memory"):
            bad.result(SECONDS)
        gate.open()
        assert good.result(SECONDS).finish_reason == "eos"


def test_a_model_that_fails_fails_those_it_decoded_and_goes_on() -> None:
    is_broken = threading.Event()

    def say(text: bytes) -> int:
        if is_broken.is_set() and b"fail" in text:
            raise RuntimeError("CUDA error: an illegal memory access")
        return ord("a")

    engine = NestEngine(
        ScriptedLanguageModel(say), config=NestConfig(method="lm", max_new_tokens=100_000)
    )
    with Scheduler(engine) as scheduler:
        failed = [scheduler.submit(f"{number} fail: ") for number in range(3)]
        for answer in failed:
            # all are decoded now; before, one might fail alone while its prompt is
            # read
            next(iter(answer))
        is_broken.set()
        errors = []
        for answer in failed:
            with pytest.raises(
                DecodingError,
                match=r"the model failed while decoding 3 answers \(RuntimeError: CUDA",
            ) as it:
                answer.result(SECONDS)
            errors.append(it.value)
        assert len({id(error) for error in errors}) == 3
        assert scheduler.num_running == 0
        assert scheduler.submit("x: ", max_new_tokens=3).result(SECONDS).text == "aaa"


# Closing


def test_closing_lets_answers_end_and_takes_no_more() -> None:
    scheduler = Scheduler(NestEngine(ScriptedLanguageModel("abc")), max_running=1)
    answers = [scheduler.submit("x") for _ in range(4)]
    scheduler.close()
    assert [answer.result(0).text for answer in answers] == ["abc"] * 4
    with pytest.raises(SchedulerClosedError, match="takes no more requests"):
        scheduler.submit("x")
    scheduler.close()


def test_closing_without_draining_cancels(gate: Gate) -> None:
    scheduler = Scheduler(gate.engine, max_running=1)
    answers = [scheduler.submit("Say: ")]
    wait_until(lambda: scheduler.num_running == 1)  # who is ready first is decoded first
    answers += [scheduler.submit("Say: ") for _ in range(2)]
    closing = threading.Thread(target=scheduler.close, kwargs={"drain": False})
    closing.start()
    wait_until(lambda: answers[2].is_done)
    gate.permits.release(1)
    closing.join(SECONDS)
    assert not closing.is_alive()
    assert [answer.result(0).finish_reason for answer in answers] == ["cancelled"] * 3


def test_an_error_in_the_block_cancels_what_was_submitted(gate: Gate) -> None:
    answers = []

    def submit_and_fail() -> None:
        with Scheduler(gate.engine) as scheduler:
            answers.append(scheduler.submit("Say: "))
            gate.permits.release(100_000)  # one for each token: it never waits for another
            raise KeyError("oops")

    with pytest.raises(KeyError, match="oops"):
        submit_and_fail()
    assert answers[0].result(0).finish_reason == "cancelled"
