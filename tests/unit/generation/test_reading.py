"""Which passages the model reads for their keys: those that pay."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nest_engine import NestConfig, NestEngine, Passage
from nest_engine.datastore.key_cache import KeyCache
from nest_engine.generation.datastores import build_datastores, read_ahead
from nest_engine.generation.request import prepare
from nest_engine.interfaces import ForwardCost
from nest_engine.testing import ScriptedLanguageModel

PROMPT = "What is the harbour of Oss called? "
IN_PROMPT = Passage("Oss is a town on a river.", title="Oss")
ANSWERS = Passage("The harbour of Oss is called Heesterhaven.", title="Oss harbour")
LONG = Passage("Boats are moored there in winter. " * 12, title="Boats")


def engine(cost: float = 0.01, script: str = " Nothing is known of it.") -> NestEngine:
    model = ScriptedLanguageModel(script, confidence=0.6)
    model.forward_cost = ForwardCost(two=1.0, more=cost)
    return NestEngine(model)


def read(stats) -> tuple[int, int]:
    return stats.encoded_passages, stats.unread_passages


def test_a_quoted_sentence_needs_no_keys():
    scripted = engine()
    output = scripted.generate(
        PROMPT,
        passages=[IN_PROMPT, ANSWERS],
        query=PROMPT,
        method="ra-nest",
        prompt_passages=1,
        own_words=0,
    )
    assert ANSWERS.text in output.text
    assert output.citations[0].title == ANSWERS.title
    assert read(output.stats) == (0, 1)
    assert scripted.language_model.num_encoded == 0


def test_what_the_cache_holds_changes_no_answer():
    cold, warm = engine(), engine()
    asked = {"passages": [IN_PROMPT, ANSWERS, LONG], "query": PROMPT, "prompt_passages": 1}
    warm.generate(PROMPT, method="nest", **asked)
    assert len(warm.key_cache) == 3
    answers = [each.generate(PROMPT, method="ra-nest", **asked) for each in (cold, warm)]
    assert answers[0].token_ids == answers[1].token_ids
    assert answers[0].provenance == answers[1].provenance


@pytest.mark.parametrize(
    "config",
    [
        NestConfig(method="nest"),
        NestConfig(method="knn-lm"),
        NestConfig.paper_7b(method="ra-nest"),
    ],
    ids=["nest", "knn-lm", "ra-nest as published"],
)
def test_a_search_for_tokens_reads_all(config: NestConfig):
    passages = [IN_PROMPT, ANSWERS, LONG]
    output = engine(cost=0.2).generate(
        PROMPT, passages=passages, query=PROMPT, config=config, prompt_passages=0
    )
    assert read(output.stats) == (3, 0)


@pytest.mark.parametrize(("cost", "num_read"), [(0.2, 0), (3.2 / len(ANSWERS.text), 1), (0.001, 3)])
def test_lossless_reads_what_a_tenth_of_an_answer_pays(cost: float, num_read: int):
    passages = [ANSWERS, LONG, IN_PROMPT]
    output = engine(cost).generate(PROMPT, passages=passages, method="lossless")
    assert read(output.stats) == (num_read, 3 - num_read)


def test_lossless_takes_keys_that_are_there():
    scripted = engine(cost=0.2)
    scripted.generate(PROMPT, passages=[ANSWERS], query=PROMPT, method="nest")
    output = scripted.generate(PROMPT, passages=[LONG, ANSWERS], method="lossless")
    assert read(output.stats) == (0, 1)


def test_lossless_drafts_from_what_it_has_not_read():
    scripted = engine(cost=0.2, script=ANSWERS.text)
    output = scripted.generate(PROMPT, passages=[ANSWERS], method="lossless")
    alone = engine(script=ANSWERS.text).generate(PROMPT, method="lm")
    assert output.text == alone.text == ANSWERS.text
    assert read(output.stats) == (0, 1)
    assert output.stats.tokens_per_forward > 3
    assert [each.passage for each in output.provenance[10:-1]] == [0] * (len(ANSWERS.text) - 10)


def test_what_others_read_changes_no_answer():
    """Requests of different methods are read together by the scheduler."""
    scripted = engine()
    passages = [IN_PROMPT, ANSWERS]
    requests = [
        prepare(
            scripted, [PROMPT], [passages], [PROMPT], NestConfig(method=method, prompt_passages=1)
        )[0]
        for method in ("nest", "ra-nest")
    ]
    prompts = [request.tokens.token_ids for request in requests]
    _, prefills = scripted.language_model.prefill(prompts)
    read_all, quotes = build_datastores(
        scripted.language_model, scripted.key_cache, requests, prefills
    )
    assert [len(keys.keys_TD) > 0 for keys in read_all.keys] == [True, True]
    assert [len(keys.keys_TD) > 0 for keys in quotes.keys] == [True, False]
    assert (quotes.num_encoded, quotes.num_unread) == (0, 1)


@pytest.mark.parametrize("method", ["lm", "ra"])
def test_what_cannot_be_copied_is_not_unread(method: str):
    output = engine().generate(PROMPT, passages=[ANSWERS], query=PROMPT, method=method)
    assert read(output.stats) == (0, 0)


def test_reading_ahead_spends_the_same():
    """The scheduler reads in a thread of its own; what it left unread stays so."""
    scripted = engine(cost=3.2 / len(ANSWERS.text))
    config = NestConfig(method="lossless")
    [request] = prepare(scripted, [PROMPT], [[ANSWERS, IN_PROMPT, LONG]], [None], config)
    ahead = read_ahead(scripted.language_model, scripted.key_cache, request)
    assert len(ahead.read_ahead) == 1
    _, [prefill] = scripted.language_model.prefill([request.tokens.token_ids])
    for cache in (scripted.key_cache, KeyCache()):
        [store] = build_datastores(scripted.language_model, cache, [ahead], [prefill])
        assert (store.num_encoded, store.num_unread) == (1, 2)
    [store] = build_datastores(
        scripted.language_model, KeyCache(), [replace(ahead, read_ahead=None)], [prefill]
    )
    assert (store.num_encoded, store.num_unread) == (1, 2)
