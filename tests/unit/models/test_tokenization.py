"""Offsets are exact, untrusted text steers no model, and streamed text equals decoded text."""

from __future__ import annotations

import copy
import threading

import pytest
import tokenizers
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, processors

from nest_engine import InputError, Passage, UnsupportedModelError
from nest_engine.citations.detokenizer import Detokenizer
from nest_engine.models.tokenization import TextTokenizer, titled_text
from nest_engine.testing import ByteTokenizer
from tests.tiny_models import tiny_tokenizer

TINY = TextTokenizer(tiny_tokenizer())
VOCABULARY = len(tiny_tokenizer())
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>"]
FEW = settings(derandomize=True, database=None, deadline=None, max_examples=60)
TEXT = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("é🌙 \u0301\r\n\0"), max_size=30
)


def with_start_token() -> transformers.PreTrainedTokenizerFast:
    """Return the tiny tokenizer, made to put its start-of-text token in front of every text."""
    backend = tokenizers.Tokenizer.from_str(tiny_tokenizer().backend_tokenizer.to_str())
    backend.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|endoftext|>")


def with_metaspace() -> transformers.PreTrainedTokenizerFast:
    """Return a tokenizer in the manner of SentencePiece: it strips the space in front of a text."""
    pieces = ["<unk>", "<s>", "</s>", "▁", "▁▁", "▁hello", "world", "a"]
    backend = tokenizers.Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>"
    )


@FEW
@given(title=TEXT, text=TEXT)
@example(title="", text="🌙🌙é")
@example(title="a ", text=" b")
def test_passage_tokens_cover_the_text_and_nothing_else(title, text):
    passage = Passage(text, title=title)
    tokens = TINY.encode_passage(passage)
    assert all(
        0 <= start <= end <= len(text)
        for start, end in zip(tokens.starts, tokens.ends, strict=True)
    )
    covered = {
        i for start, end in zip(tokens.starts, tokens.ends, strict=True) for i in range(start, end)
    }
    assert all(text[i].isspace() for i in set(range(len(text))) - covered)
    assert tiny_tokenizer().decode([*tokens.context_ids[1:], *tokens.token_ids]) == titled_text(
        passage
    )


@FEW
@given(text=TEXT)
def test_prompt_offsets(text):
    tokens = TINY.encode_prompt(text)
    assert list(tokens.token_ids) == tiny_tokenizer()(text)["input_ids"]
    assert all(
        0 <= start <= end <= len(text)
        for start, end in zip(tokens.starts, tokens.ends, strict=True)
    )


def test_lone_surrogates_are_refused():
    with pytest.raises(InputError, match=r"prompt holds a lone surrogate .* at offset 2"):
        TINY.encode_prompt("ab\ud800")


@pytest.mark.parametrize("control", CONTROL)
def test_control_strings_in_a_passage_are_text(control):
    tokens = TINY.encode_passage(Passage(f"a{control} b{control}", title=f"title {control}"))
    assert TINY.control_ids.isdisjoint(tokens.token_ids)
    assert TINY.control_ids.isdisjoint(tokens.context_ids[1:])
    assert tiny_tokenizer().decode(tokens.token_ids).strip() == f"a{control} b{control}"


@pytest.mark.parametrize("control", CONTROL)
def test_control_strings_in_untrusted_ranges_are_text(control):
    first, second = f"one {control} two", f"three{control}"
    prompt = f"<|im_start|>Read {first} and {second}<|im_end|>"
    ranges = [(prompt.index(part), prompt.index(part) + len(part)) for part in (first, second)]
    tokens = TINY.encode_prompt(prompt, ranges)
    kept = [
        TINY.decode([t]) or prompt[a:b]
        for t, a, b in zip(*tokens, strict=True)
        if t in TINY.control_ids
    ]
    assert kept == ["<|im_start|>", "<|im_end|>"]
    assert tiny_tokenizer().decode(tokens.token_ids) == prompt
    for a, b in ranges:
        assert TINY.control_ids.isdisjoint(
            t for t, start, _ in zip(*tokens, strict=True) if a <= start < b
        )


def test_control_strings_are_text_to_a_vocabulary_that_holds_them():
    """A Unigram model finds ``</s>`` among its own pieces, whatever tokens were added to it."""
    tokenizer = TextTokenizer(with_metaspace())
    text = "a</s>hello"
    assert tokenizer.eos_id not in tokenizer.encode_passage(Passage(text)).token_ids
    assert tokenizer.eos_id not in tokenizer.encode_prompt(text, [(0, len(text))]).token_ids


def test_trusted_text_keeps_its_control_tokens():
    tokens = TINY.encode_prompt("<|im_start|>hi<tool_call>", untrusted=[(12, 14)])
    assert [t in TINY.control_ids for t in tokens.token_ids] == [True, False, False, True]


def test_the_start_token_is_added_once():
    tokenizer = TextTokenizer(with_start_token())
    for text in ("A planet", "<|endoftext|>A planet"):
        assert tokenizer.encode_prompt(text).token_ids.count(0) == 1
        assert tokenizer.encode_prompt(text)[0][0] == 0
    passage = "<|im_end|> of a planet"
    for prompt in (passage, f"<|endoftext|>{passage}", f"{passage} {passage}"):
        ranges = [(prompt.index(passage), prompt.index(passage) + len(passage))]
        assert tokenizer.encode_prompt(prompt, ranges).token_ids.count(0) == 1
    assert tokenizer.encode_passage(Passage("a planet")).context_ids == (0,)


def test_truncation_in_another_thread_never_shortens_a_prompt():
    """Truncation is state of a fast tokenizer, which the caller may be using at the same time."""
    shared = copy.deepcopy(tiny_tokenizer())
    tokenizer, text = TextTokenizer(shared), "The river flows from the mountains to the sea. " * 8
    whole, is_done = tokenizer.encode_prompt(text), threading.Event()

    def truncate() -> None:
        while not is_done.is_set():
            shared(text, truncation=True, max_length=8)

    threads = [threading.Thread(target=truncate) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        lengths = {len(tokenizer.encode_prompt(text).token_ids) for _ in range(300)}
    finally:
        is_done.set()
        for thread in threads:
            thread.join()
    assert lengths == {len(whole.token_ids)}


def test_slow_tokenizers_are_refused():
    with pytest.raises(UnsupportedModelError, match=r"gives no character offsets.*use_fast=True"):
        TextTokenizer(object())


def test_format_question_uses_the_chat_template():
    assert TINY.format_question("Who?") == "Question: Who?\nAnswer:"
    backend = tiny_tokenizer().backend_tokenizer
    chat = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")
    chat.chat_template = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}>"
    assert TextTokenizer(chat).format_question("Who?") == "<|im_start|>Who?<|im_end|>>"


def streamed(decode, token_ids) -> Detokenizer:
    detokenizer = Detokenizer(decode)
    shown = ""
    for token in token_ids:
        detokenizer.push(token)
        assert detokenizer.text.startswith(shown), "shown text changed"
        shown = detokenizer.text
    detokenizer.flush()
    assert detokenizer.text.startswith(shown)
    return detokenizer


def assert_ranges_fit(detokenizer: Detokenizer, num_tokens: int) -> None:
    """Ranges cover the text without gaps; tokens that share a character share its range."""
    assert len(detokenizer.starts) == len(detokenizer.ends) == num_tokens
    position = 0
    ranges = list(zip(detokenizer.starts, detokenizer.ends, strict=True))
    for before, (start, end) in zip([None, *ranges], ranges, strict=False):
        if (start, end) != before:
            assert start == position
            assert end >= start
            position = end
    assert position == len(detokenizer.text)


@FEW
@given(token_ids=st.lists(st.integers(0, 256), max_size=30))
def test_streamed_bytes_equal_decoded_bytes(token_ids):
    detokenizer = streamed(ByteTokenizer().decode, token_ids)
    assert detokenizer.text == ByteTokenizer().decode(token_ids)
    assert_ranges_fit(detokenizer, len(token_ids))


@FEW
@given(text=TEXT)
def test_ranges_of_valid_text_are_its_characters(text):
    encoded = ByteTokenizer().encode_prompt(text.replace("\ufffd", ""))
    detokenizer = streamed(ByteTokenizer().decode, encoded.token_ids)
    assert (tuple(detokenizer.starts), tuple(detokenizer.ends)) == (encoded.starts, encoded.ends)


@FEW
@given(token_ids=st.lists(st.integers(0, VOCABULARY - 1), max_size=20))
def test_streamed_bpe_equals_decode(token_ids):
    detokenizer = streamed(TINY.decode, token_ids)
    assert detokenizer.text == TINY.decode(token_ids)
    assert_ranges_fit(detokenizer, len(token_ids))


@FEW
@given(token_ids=st.lists(st.integers(1, 7), max_size=12))
@example(token_ids=[7, 2, 3, 7])
def test_streamed_metaspace_equals_decode(token_ids):
    tokenizer = TextTokenizer(with_metaspace())
    detokenizer = streamed(tokenizer.decode, token_ids)
    assert detokenizer.text == tokenizer.decode(token_ids)
    assert_ranges_fit(detokenizer, len(token_ids))
