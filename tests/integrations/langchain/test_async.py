"""The event loop stays free, and nothing decodes for somebody who has left."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("langchain_core", reason="needs: pip install 'nest-engine[langchain]'")

from nest_engine import NestEngine
from nest_integrations.langchain import ChatNest, CitationCallback, NestLLM
from tests.integrations.langchain.support import (
    SECONDS,
    Gated,
    PacedModel,
    tool_tokenizer,
    verify,
)


def llm(model: PacedModel, **fields: Any) -> NestLLM:
    return NestLLM(engine=NestEngine(model), method="lm", max_tokens=300, **fields)


def chat(model: PacedModel, **fields: Any) -> ChatNest:
    return ChatNest(
        engine=NestEngine(model), method="lm", max_tokens=300, tokenizer=tool_tokenizer(), **fields
    )


@pytest.mark.parametrize("make", [llm, chat])
@pytest.mark.parametrize("way", ["ainvoke", "astream"])
async def test_the_event_loop_is_never_blocked(make: Callable[..., Any], way: str):
    loop = asyncio.get_running_loop()

    def let_the_loop_run() -> None:
        """Were it this forward that blocks the loop, it would never end."""
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(SECONDS)

    decoding = PacedModel(let_the_loop_run)
    model = make(decoding)
    if way == "ainvoke":
        await model.ainvoke("x", max_tokens=3)
    else:
        async for _ in model.astream("x", max_tokens=3):
            pass
    assert decoding.num_forwards >= 3


@pytest.mark.parametrize("make", [llm, chat])
async def test_a_cancelled_task_stops_decoding(make: Callable[..., Any]):
    gated = Gated(5)
    task = asyncio.create_task(make(gated).ainvoke("x"))
    await gated.begins(6)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await gated.goes_on() == 6


@pytest.mark.parametrize("make", [llm, chat])
async def test_a_cancelled_stream_stops_within_a_step(make: Callable[..., Any]):
    gated = Gated(5)

    async def consume() -> None:
        async for _ in make(gated).astream("x"):
            pass

    task = asyncio.create_task(consume())
    await gated.begins(6)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert await gated.goes_on() == 6


@pytest.mark.parametrize("make", [llm, chat])
async def test_a_closed_stream_stops_at_once(make: Callable[..., Any]):
    gated = Gated(1000)
    stream = make(gated).astream("x")
    async for _ in stream:
        break
    await stream.aclose()
    at_close = gated.num_forwards
    assert await gated.goes_on() == at_close


@pytest.mark.parametrize("make", [llm, chat])
def test_a_closed_sync_stream_stops_at_once(make: Callable[..., Any]):
    gated = Gated(1000)
    stream = make(gated).stream("x")
    next(stream)
    before = gated.num_forwards
    stream.close()
    assert gated.num_forwards == before < 5


@pytest.mark.filterwarnings("ignore:.*beta")
async def test_a_closed_event_stream_stops_decoding():
    gated = Gated(6)
    stream = await chat(gated).astream_events("x", version="v3")
    async for _ in stream:
        if gated.num_forwards >= 4:
            break
    await stream.aclose()
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others, timeout=SECONDS)  # one of them is the answer, cancelled
    assert await gated.goes_on() <= 7


async def test_sixteen_at_once_on_one_engine(demo_engine: NestEngine, demo_passages: list[Any]):
    model = NestLLM(engine=demo_engine, max_tokens=24)
    passages = demo_passages[:16]
    prompts = [f"Question: Tell me about {passage.title}.\nAnswer:" for passage in passages]
    one_by_one = [
        model.invoke(prompt, passages=[p]) for prompt, p in zip(prompts, passages, strict=True)
    ]
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
