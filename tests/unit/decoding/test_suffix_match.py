"""Exact matches of the end of a text, against brute force."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nest_engine import NestEngine, Passage
from nest_engine.datastore.passage_keys import PassageKeys
from nest_engine.datastore.token_index import TokenIndex
from nest_engine.decoding.suffix_match import SEPARATOR, SUFFIX_TOKENS, SuffixMatcher
from nest_engine.interfaces import TokenizedPassage
from nest_engine.testing import ScriptedLanguageModel

tokens = st.lists(st.integers(0, 2), max_size=40)


def brute_force_length(haystack: list[int], text: list[int]) -> int:
    """Return the longest end of ``text`` that stands anywhere in ``haystack``."""
    for length in range(min(len(text), len(haystack), SUFFIX_TOKENS), 1, -1):
        if any(
            haystack[i : i + length] == text[-length:] for i in range(len(haystack) - length + 1)
        ):
            return length
    return 0


@settings(max_examples=200, derandomize=True, deadline=None)
@given(tokens, tokens)
def test_match_is_the_longest(haystack, text):
    match = SuffixMatcher(haystack).longest(text)
    expected = brute_force_length(haystack, text)
    if expected == 0:
        assert match is None
    else:
        assert match.length == expected
        assert haystack[match.position - expected + 1 : match.position + 1] == text[-expected:]


@settings(max_examples=100, derandomize=True, deadline=None)
@given(tokens, tokens, st.integers(0, 2), st.integers(0, 30))
def test_continuation_repeats_what_stood_there(first, second, token, limit):
    matcher = SuffixMatcher(first)
    matcher.extend(second)
    text = [*matcher.tokens, token]
    match = matcher.longest(text)
    if match is None:
        return
    draft = matcher.continuation(match.position, token, limit)
    assert len(draft) == limit
    # what comes next stood behind the match, in the text or in the draft itself
    for i in range(limit):
        assert draft[i] == [*text, *draft][match.position + 1 + i]


def test_nothing_matches_across_a_separator():
    assert SuffixMatcher([1, 2, SEPARATOR, 3]).longest([2, 3]) is None
    assert SuffixMatcher([1, SEPARATOR]).longest([1, SEPARATOR]) is None
    assert SuffixMatcher([1, 2]).longest([2]) is None


def test_index_prefers_the_best_ranked_passage_and_keeps_passages_apart():
    def keys(*token_ids):
        return PassageKeys(
            TokenizedPassage((0,), token_ids, token_ids, token_ids),
            0,
            torch.zeros(len(token_ids), 2),
        )

    index = TokenIndex([keys(5, 6, 7), keys(7, 8), keys(4, 5, 6, 9), keys(5, 6, 1)], forbidden={9})
    assert index.match([1, 5, 6]) == (1, 2), "equal matches: the passage that comes first"
    assert index.match([4, 5, 6]) == (7, 3), "a longer match wins"
    assert index.match([6, 9]) is None, "control tokens are never copied"
    assert index.match([7, 7]) is None, "the end of one passage and the start of the next"


def test_lossless_copies_from_its_own_answer():
    text = "again and again and again and again and again. " * 3
    alone = NestEngine(ScriptedLanguageModel(text)).generate(
        "x", method="lossless", max_new_tokens=140
    )
    assert alone.text == text[:140]
    assert alone.stats.lm_forwards < 60
    assert alone.citations == ()
    assert alone.stats.attributed_share == 0.0


def test_lossless_prefers_a_source_where_both_agree():
    sentence = "this sentence stands in the prompt and in a passage, word for word"
    engine = NestEngine(ScriptedLanguageModel(sentence))
    output = engine.generate(
        f"We say that {sentence}. Say it: ", passages=[Passage(sentence)], method="lossless"
    )
    assert output.text == sentence
    assert output.stats.attributed_share > 0.8


def test_nothing_is_drafted_behind_an_end_of_sequence_token():
    """Chat prompts hold such tokens, and a model may well go on behind one if it is asked to."""
    model = ScriptedLanguageModel("to be! or not to be")
    model.eos_ids = frozenset([ord("!")])
    output = NestEngine(model).generate(
        "He said to be! or not. Again: ", method="lossless", max_new_tokens=40
    )
    assert (output.text, output.finish_reason) == ("to be!", "eos")
    assert output.stats.drafted_tokens > 0
