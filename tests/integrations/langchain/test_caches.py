"""LangChain's caches: a hit is the same answer of the same model, settings and source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("langchain_core", reason="needs: pip install 'nest-engine[langchain]'")

from langchain_core.caches import InMemoryCache
from langchain_core.documents import Document
from langchain_core.globals import set_llm_cache
from langchain_core.retrievers import BaseRetriever

from nest_engine import NestConfig, NestEngine
from nest_engine.testing import ScriptedLanguageModel
from nest_integrations.langchain import ChatNest, NestLLM
from tests.integrations.langchain.conftest import SENTENCE
from tests.integrations.langchain.support import (
    PLAIN_TEMPLATE,
    TOOL_TEMPLATE,
    documents,
    tool_tokenizer,
)
from tests.tiny_models import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.usefixtures("no_cache")


class Store(BaseRetriever):
    def _get_relevant_documents(self, query: str, **kwargs: Any) -> list[Document]:
        return documents(SENTENCE)


def llm(engine: NestEngine, **fields: Any) -> Any:
    return NestLLM(engine=engine, **fields)


def chat(engine: NestEngine, **fields: Any) -> Any:
    return ChatNest(engine=engine, tokenizer=tool_tokenizer(), **fields)


def forwards(model: Any, **call: Any) -> int:
    """Return how many forwards a call costs; 0 is a hit."""
    scripted: ScriptedLanguageModel = model.engine.language_model
    before = scripted.num_forwards
    model.invoke("Say: ", **call)
    return scripted.num_forwards - before


@pytest.mark.parametrize("make", [llm, chat])
def test_the_same_call_is_a_hit(make: Callable[..., Any]):
    model = make(
        NestEngine(ScriptedLanguageModel(SENTENCE)), cache=InMemoryCache(), retriever=Store()
    )
    assert forwards(model) > 0
    assert forwards(model) == 0
    assert forwards(model, stop=["gas"]) > 0


@pytest.mark.parametrize("make", [llm, chat])
async def test_async_hits_the_same_entries(make: Callable[..., Any]):
    model = make(NestEngine(ScriptedLanguageModel(SENTENCE)), cache=InMemoryCache())
    await model.ainvoke("Say: ")
    assert forwards(model) == 0


@pytest.mark.parametrize(
    "call",
    [
        {"max_tokens": 5},
        {"temperature": 0.5, "seed": 1},
        {"method": "lm"},
        {"gamma": 0.25},
        {"passages": documents(SENTENCE)},
        {"query": "helium"},
    ],
    ids=str,
)
@pytest.mark.parametrize("make", [llm, chat])
def test_settings_of_a_call_never_hit_another(make: Callable[..., Any], call: dict[str, Any]):
    model = make(NestEngine(ScriptedLanguageModel(SENTENCE)), cache=InMemoryCache())
    assert forwards(model) > 0
    assert forwards(model, **call) > 0
    assert forwards(model) == 0


@pytest.mark.parametrize("make", [llm, chat])
def test_instances_with_other_settings_never_share(make: Callable[..., Any]):
    engine = NestEngine(ScriptedLanguageModel(SENTENCE))
    variants: list[dict[str, Any]] = [
        {},
        {"max_tokens": 20},
        {"temperature": 0.5, "seed": 1},
        {"seed": 1},
        {"method": "lm"},
        {"gamma": 0.25},
        {"stop": ["gas"]},
        {"config": NestConfig(min_citation_tokens=5)},
        {"retriever": Store()},
        {"retriever": Store()},
        {"retriever": Store(), "source_id": "the corpus of May"},
        {"on_error": "degrade"},
        {"revision": "abc"},
        {"model_name": "other"},
    ]
    cache = InMemoryCache()
    models = [make(engine, cache=cache, **fields) for fields in variants]
    assert [forwards(model) > 0 for model in models] == [True] * len(models)
    assert [forwards(model) for model in models] == [0] * len(models)


def test_a_source_may_be_named_to_share_its_answers():
    engine, cache = NestEngine(ScriptedLanguageModel(SENTENCE)), InMemoryCache()
    first, second = (
        llm(engine, cache=cache, retriever=Store(), source_id="the corpus of May") for _ in range(2)
    )
    assert forwards(first) > 0
    assert forwards(second) == 0


def test_one_store_in_two_models_is_one_source():
    engine, cache, store = NestEngine(ScriptedLanguageModel(SENTENCE)), InMemoryCache(), Store()
    assert forwards(llm(engine, cache=cache, retriever=store)) > 0
    assert forwards(llm(engine, cache=cache, retriever=store)) == 0
    assert forwards(llm(engine, cache=cache, retriever=Store())) > 0


def test_chat_templates_never_share():
    engine, cache = NestEngine(ScriptedLanguageModel(SENTENCE)), InMemoryCache()
    assert forwards(chat(engine, cache=cache, chat_template=TOOL_TEMPLATE)) > 0
    assert forwards(chat(engine, cache=cache, chat_template=PLAIN_TEMPLATE)) > 0


def test_models_with_other_weights_never_share():
    set_llm_cache(InMemoryCache())
    models = [
        NestLLM(model=tiny_model("llama", seed=seed), tokenizer=tiny_tokenizer(), max_tokens=8)
        for seed in (0, 1, 0)
    ]
    first, second, same = (model.invoke("A planet") for model in models)
    assert first != second
    assert first == same
    assert models[0]._identifying_params == models[2]._identifying_params
    assert models[0]._identifying_params != models[1]._identifying_params


def test_a_hit_of_a_chat_model_keeps_its_citations():
    engine = NestEngine(ScriptedLanguageModel(SENTENCE))
    model = chat(engine, cache=InMemoryCache(), retriever=Store(), method="lossless")
    fresh, cached = model.invoke("Say: "), model.invoke("Say: ")
    assert engine.language_model.num_forwards > 0  # type: ignore[attr-defined]
    assert fresh.content_blocks[0]["annotations"] == cached.content_blocks[0]["annotations"] != []
