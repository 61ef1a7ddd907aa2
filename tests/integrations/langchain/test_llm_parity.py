"""LangChain has no suite for `BaseLLM`: every way to call gives the same text and citations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import reduce
from operator import add
from typing import Any

import pytest

pytest.importorskip("langchain_core", reason="needs: pip install 'nest-engine[langchain]'")
pytest.importorskip("bm25s", reason="bm25s runs the engine's keyword search")

from langchain_core.outputs import GenerationChunk, LLMResult

from nest_engine import NestEngine, Passage
from nest_engine.retrieval import BM25Retriever
from nest_integrations.langchain import CitationCallback, NestLLM
from tests.integrations.langchain.support import verify

QUESTIONS = [
    "Tell me about the planet Neptune.",
    "Tell me about the Danube.",
    "Tell me about tungsten.",
]
PROMPTS = [f"Question: {question}\nAnswer:" for question in QUESTIONS]

Answer = tuple[str, list[Any]]


@pytest.fixture(
    scope="module", params=[{}, {"temperature": 0.8, "seed": 5}, {"method": "ra-nest"}], ids=str
)
def llm(
    request: pytest.FixtureRequest, demo_engine: NestEngine, demo_passages: list[Passage]
) -> NestLLM:
    return NestLLM(
        engine=demo_engine,
        retriever=BM25Retriever(demo_passages),
        max_tokens=24,
        num_passages=4,
        max_draft_tokens=8,
        **request.param,
    )


def from_callback(call: Callable[[dict[str, Any]], str]) -> Answer:
    cited = CitationCallback()
    return call({"callbacks": [cited]}), cited.citations


def invoke(llm: NestLLM, prompt: str) -> Answer:
    return from_callback(lambda config: llm.invoke(prompt, config))


def ainvoke(llm: NestLLM, prompt: str) -> Answer:
    return from_callback(lambda config: asyncio.run(llm.ainvoke(prompt, config)))


def stream(llm: NestLLM, prompt: str) -> Answer:
    return from_callback(lambda config: "".join(llm.stream(prompt, config)))


def astream(llm: NestLLM, prompt: str) -> Answer:
    async def collect(config: dict[str, Any]) -> str:
        return "".join([chunk async for chunk in llm.astream(prompt, config)])

    return from_callback(lambda config: asyncio.run(collect(config)))


def of_result(result: LLMResult, number: int) -> Answer:
    generation = result.generations[number][0]
    assert generation.generation_info is not None
    return generation.text, generation.generation_info["citations"]


def batch(llm: NestLLM, prompt: str) -> Answer:
    return of_result(llm.generate(PROMPTS), PROMPTS.index(prompt))


def abatch(llm: NestLLM, prompt: str) -> Answer:
    return of_result(asyncio.run(llm.agenerate(PROMPTS)), PROMPTS.index(prompt))


def chunks(llm: NestLLM, prompt: str) -> Answer:
    merged: GenerationChunk = reduce(add, llm._stream(prompt))
    assert merged.generation_info is not None
    return merged.text, merged.generation_info["citations"]


@pytest.fixture(scope="module")
def expected(llm: NestLLM) -> dict[str, Answer]:
    return {prompt: invoke(llm, prompt) for prompt in PROMPTS}


@pytest.mark.parametrize("way", [ainvoke, stream, astream, batch, abatch, chunks])
def test_every_way_gives_the_same(
    llm: NestLLM, expected: dict[str, Answer], way: Callable[[NestLLM, str], Answer]
):
    for prompt in PROMPTS:
        assert way(llm, prompt) == expected[prompt]


def test_the_answers_cite_their_sources_exactly(
    expected: dict[str, Answer], demo_passages: list[Passage]
):
    sources = {passage.id: passage.text for passage in demo_passages}
    assert any(citations for _, citations in expected.values())
    for text, citations in expected.values():
        verify(citations, text, sources)


def test_the_engine_itself_gives_the_same(llm: NestLLM, expected: dict[str, Answer]):
    prompt = PROMPTS[0]
    passages = llm.retriever.retrieve([prompt], 4)[0]
    config = llm.config_for(llm.engine.config, None, {})
    output = llm.engine.generate(prompt, passages=passages, config=config)
    text, citations = expected[prompt]
    assert output.text == text
    assert [(c.answer_start, c.answer_end, c.passage_id) for c in output.citations] == [
        (c["start_index"], c["end_index"], c["extras"]["document_id"]) for c in citations
    ]


def test_streaming_delivers_in_pieces(llm: NestLLM):
    assert len(list(llm.stream(PROMPTS[0]))) > 1


def test_batch_and_abatch_return_the_texts_in_order(llm: NestLLM, expected: dict[str, Answer]):
    texts = [expected[prompt][0] for prompt in PROMPTS]
    assert llm.batch(PROMPTS) == texts
    assert asyncio.run(llm.abatch(PROMPTS)) == texts
    assert llm.batch(PROMPTS, {"max_concurrency": 2}) == texts
