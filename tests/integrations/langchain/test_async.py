"""The event loop stays free, and nothing decodes for somebody who has left."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("langchain_core", reason="needs: pip install 'nest-engine[langchain]'")

from nest_engine import NestEngine
from nest_integrations.langchain import ChatNest, CitationCallback, NestLLM
from tests.integrations.langchain.support import SlowModel, tool_tokenizer, verify


def llm(model: SlowModel, **fields: Any) -> NestLLM:
    return NestLLM(engine=NestEngine(model), method="lm", max_tokens=300, **fields)


def chat(model: SlowModel, **fields: Any) -> ChatNest:
    return ChatNest(engine=NestEngine(model), method="lm", max_tokens=300, tokenizer=tool_tokenizer(), **fields)


async def heartbeats(pauses: list[float]) -> None:
    last = time.perf_counter()
    while True:
        await asyncio.sleep(0.005)
        now = time.perf_counter()
        pauses.append(now - last)
        last = now


@pytest.mark.parametrize("make", [llm, chat])
@pytest.mark.parametrize("way", ["ainvoke", "astream"])
async def test_the_event_loop_is_never_blocked(make: Callable[..., Any], way: str):
    model = make(SlowModel(seconds=0.25))
    pauses: list[float] = []
    beating = asyncio.create_task(heartbeats(pauses))
    start = time.perf_counter()
    if way == "ainvoke":
        await model.ainvoke("x", max_tokens=3)
    else:
        async for _ in model.astream("x", max_tokens=3):
            pass
    elapsed = time.perf_counter() - start
    beating.cancel()
    assert elapsed > 0.6  # a blocked loop would have paused for as long as a forward takes
    assert sum(pauses) > 0.8 * elapsed
    assert max(pauses) < 0.2


async def settled(model: SlowModel) -> int:
    """Return the number of forwards once it stops growing."""
    count = -1
    while count != model.num_forwards:
        count = model.num_forwards
        await asyncio.sleep(4 * model.seconds)
    return count


@pytest.mark.parametrize("make", [llm, chat])
async def test_a_cancelled_task_stops_decoding(make: Callable[..., Any]):
    slow = SlowModel(seconds=0.02)
    task = asyncio.create_task(make(slow).ainvoke("x"))
    while slow.num_forwards < 5:
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    at_cancel = slow.num_forwards
    assert await settled(slow) <= at_cancel + 1


@pytest.mark.parametrize("make", [llm, chat])
async def test_a_cancelled_stream_stops_within_a_step(make: Callable[..., Any]):
    slow = SlowModel(seconds=0.02)

    async def consume() -> None:
        async for _ in make(slow).astream("x"):
            pass

    task = asyncio.create_task(consume())
    while slow.num_forwards < 5:
        await asyncio.sleep(0.005)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    at_cancel = slow.num_forwards
    assert await settled(slow) <= at_cancel + 1


@pytest.mark.parametrize("make", [llm, chat])
async def test_a_closed_stream_stops_at_once(make: Callable[..., Any]):
    slow = SlowModel(seconds=0.01)
    stream = make(slow).astream("x")
    async for _ in stream:
        break
    await stream.aclose()
    at_close = slow.num_forwards
    assert await settled(slow) == at_close


@pytest.mark.parametrize("make", [llm, chat])
def test_a_closed_sync_stream_stops_at_once(make: Callable[..., Any]):
    slow = SlowModel(seconds=0.001)
    stream = make(slow).stream("x")
    next(stream)
    stream.close()
    at_close = slow.num_forwards
    time.sleep(0.05)
    assert slow.num_forwards == at_close


@pytest.mark.filterwarnings("ignore:.*beta")
async def test_a_closed_event_stream_stops_decoding():
    slow = SlowModel(seconds=0.02)
    stream = await chat(slow).astream_events("x", version="v3")
    async for _ in stream:
        if slow.num_forwards >= 4:
            break
    await stream.aclose()
    at_close = slow.num_forwards
    assert await settled(slow) <= at_close + 1


async def test_sixteen_at_once_on_one_engine(demo_engine: NestEngine, demo_passages: list[Any]):
    model = NestLLM(engine=demo_engine, max_tokens=24)
    passages = demo_passages[:16]
    prompts = [f"Question: Tell me about {passage.title}.\nAnswer:" for passage in passages]
    one_by_one = [model.invoke(prompt, passages=[p]) for prompt, p in zip(prompts, passages, strict=True)]
    cited = [CitationCallback() for _ in passages]
    together = await asyncio.gather(
        *(
            model.ainvoke(prompt, {"callbacks": [callback]}, passages=[passage])
            for prompt, passage, callback in zip(prompts, passages, cited, strict=True)
        )
    )
    assert list(together) == one_by_one
    assert sum(bool(callback.citations) for callback in cited) >= 12
    for answer, passage, callback in zip(together, passages, cited, strict=True):
        verify(callback.citations, answer, {passage.id: passage.text})
