"""Text to tokens and back: exact character offsets, no control tokens from untrusted text."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import tokenizers

from nest_engine._validation import require_text
from nest_engine.citations.reasoning import OPENING, begins_reasoning, marks_among
from nest_engine.errors import UnsupportedModelError
from nest_engine.interfaces import Message, TokenizedPassage, TokenizedText
from nest_engine.models.chat_template import ChatTemplate, require_place_for_tools
from nest_engine.records import Passage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_ANSWER = "nestanswer"


def plain_chat(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> str:
    """Write a conversation for a model without a chat template: ``Question: ... Answer:``.

    The instructions of a developer stand without a label, as those of a system. A last turn of the
    assistant is the beginning of the answer.

    Args:
        messages: the turns, first to last; instructions stand without a label.
        tools: what the model may call: nothing.

    Returns:
        the prompt, ready for the model's answer.

    Raises:
        InputError: if there are tools.
    """
    require_place_for_tools(tools, "")
    written = {"user": "Question: {}\n", "assistant": "Answer: {}\n\n"}
    is_begun = bool(messages) and messages[-1].role == "assistant"
    if is_begun and not messages[-1].text:  # it has not
        return plain_chat(messages[:-1])
    turns = (written.get(role, "{}\n\n").format(text) for role, text, _ in messages)
    written_out = "".join(turns)
    return written_out.removesuffix("\n\n") if is_begun else written_out + "Answer:"


def titled_text(passage: Passage) -> str:
    """Return a passage as the model reads it: ``title. text``."""
    return f"{_title_prefix(passage)}{passage.text}"


def _title_prefix(passage: Passage) -> str:
    return f"{passage.title}. " if passage.title else ""


class OffsetTokenizer(ABC):
    """Text at the edges, token ids inside: what a tokenizer does that knows characters.

    Attributes:
        control_ids: tokens that steer the model instead of standing for text.
        control_strings: how they are written.
    """

    control_ids: frozenset[int]
    control_strings: frozenset[str]
    _owner: PreTrainedTokenizerBase
    _prefix_ids: tuple[int, ...]  # what precedes any text

    @abstractmethod
    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of token ids, without control tokens and with spaces as they are."""

    @abstractmethod
    def _encode_trusted(self, text: str, offset: int, add_special_tokens: bool) -> TokenizedText:
        """Encode text in which control strings are control tokens.

        Args:
            text: the text.
            offset: what to add to its character offsets.
            add_special_tokens: whether to begin as a text begins.
        """

    @abstractmethod
    def _encode_untrusted(self, text: str, offset: int) -> TokenizedText:
        """Encode text in which control strings are text; arguments as above."""

    @property
    def hf_tokenizer(self) -> PreTrainedTokenizerBase:
        """A tokenizer of transformers, for its chat template; encode with this class."""
        return self._owner

    @property
    def has_chat_template(self) -> bool:
        """Whether conversations are written as the model was trained to read them."""
        return bool(self._owner.chat_template)

    @property
    def reasoning_ids(self) -> frozenset[int]:
        """The tokens that a mark which opens reasoning is, or begins with."""
        marks = (OPENING, *filter(begins_reasoning, self.control_strings))
        return frozenset(
            self._encode_trusted(mark, 0, add_special_tokens=False).token_ids[0] for mark in marks
        )

    def encode_prompt(self, text: str, untrusted: Sequence[tuple[int, int]] = ()) -> TokenizedText:
        """Encode a prompt as ``tokenizer(text)`` does, without doubling its start-of-text token.

        Args:
            text: the prompt, chat template applied.
            untrusted: character ranges, in order, whose control strings must be read as text.

        Returns:
            the tokens and their offsets in ``text``.

        Raises:
            InputError: if ``text`` cannot be encoded as UTF-8.
        """
        require_text("prompt", text)
        bos = self._owner.bos_token
        add_special_tokens = not (bos and text.startswith(bos))
        encoded = self._encode_trusted(text, 0, add_special_tokens)
        if not any(self._is_control_in(encoded, start, end) for start, end in untrusted):
            return encoded
        # Cut at the borders of the untrusted ranges. Cuts may change how the words there are
        # tokenized, so this is done only if an untrusted text does hold a control string.
        pieces: list[TokenizedText] = []
        position = 0
        for start, end in [*untrusted, (len(text), len(text))]:
            pieces.append(
                self._encode_trusted(
                    text[position:start], position, add_special_tokens and position == 0
                )
            )
            pieces.append(self._encode_untrusted(text[start:end], start))
            position = end
        token_ids, starts, ends = (
            tuple(chain.from_iterable(parts)) for parts in zip(*pieces, strict=True)
        )
        return TokenizedText(token_ids, starts, ends)

    def encode_passage(self, passage: Passage) -> TokenizedPassage:
        """Encode a passage by itself as ``title. text``.

        Args:
            passage: the passage; control strings in it are read as text. Its title becomes context,
                which is never copied.

        Returns:
            tokens with their offsets in ``passage.text``.
        """
        prefix = _title_prefix(passage)
        encoded = self._encode_untrusted(prefix + passage.text, 0)
        num_context = sum(end <= len(prefix) for end in encoded.ends) if prefix else 0
        return TokenizedPassage(
            context_ids=(*self._prefix_ids, *encoded.token_ids[:num_context]),
            token_ids=encoded.token_ids[num_context:],
            starts=tuple(max(start - len(prefix), 0) for start in encoded.starts[num_context:]),
            ends=tuple(end - len(prefix) for end in encoded.ends[num_context:]),
        )

    def format_question(self, question: str, **chat_template_kwargs: Any) -> str:
        """Put a question into the chat template, or into ``Question: ... Answer:`` without one."""
        return self.format_chat([Message("user", question)], **chat_template_kwargs)

    def format_chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        **chat_template_kwargs: Any,
    ) -> str:
        """Put a conversation into the chat template, or write it plainly without one.

        Args:
            messages: the turns, first to last.
            tools: what the model may call, in OpenAI's format.
            chat_template_kwargs: variables of the template.

        Returns:
            the prompt, ready for the model's answer; by ``plain_chat`` without a template.

        Raises:
            InputError: if the template refuses the conversation, or has no place for tools.
        """
        if not self.has_chat_template:
            return plain_chat(messages, tools)
        template = ChatTemplate(self._owner)
        require_place_for_tools(tools, str(template.text))
        turns = [{"role": role, "content": text, **more} for role, text, more in messages]
        return template.write(turns, tools=tools, variables=chat_template_kwargs)

    def _is_control_in(self, encoded: TokenizedText, start: int, end: int) -> bool:
        return any(
            token in self.control_ids and token_start < end and token_end > start
            for token, token_start, token_end in zip(*encoded, strict=True)
        )


class TextTokenizer(OffsetTokenizer):
    """A Hugging Face fast tokenizer, with a second, control-free tokenizer for untrusted text.

    Options such as ``split_special_tokens`` are state that threads share, and they let added tokens
    like ``<tool_call>`` through. The second tokenizer simply knows no control tokens.

    Args:
        tokenizer: a fast tokenizer of transformers.

    Raises:
        UnsupportedModelError: if the tokenizer is not a fast one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, tokenizers.Tokenizer):
            raise UnsupportedModelError(
                f"{type(tokenizer).__name__} gives no character offsets, which exact citations "
                "need; load a fast tokenizer (AutoTokenizer.from_pretrained(..., use_fast=True))"
            )
        self._owner = tokenizer
        self._definition = _without_limits(backend.to_str())
        self.control_ids: frozenset[int] = frozenset(tokenizer.all_special_ids) | {
            number
            for number, token in tokenizer.added_tokens_decoder.items()
            if not token.content.isspace()
        }
        self.control_strings = frozenset(
            filter(None, map(self._owner.convert_ids_to_tokens, self.control_ids))
        )
        # Private copies: truncation and padding are state that the tokenizer's owner may set at any
        # moment.
        self._trusted = tokenizers.Tokenizer.from_str(_with_marks_shown(self._definition))
        self._untrusted = _without_control_tokens(self._definition)
        self._prefix_ids = self._find_prefix_ids()

    @property
    def definition(self) -> str:
        """The tokenizer's full definition as JSON, for fingerprints."""
        return self._definition

    @property
    def eos_id(self) -> int | None:
        """The tokenizer's end-of-text token."""
        return cast("int | None", self._owner.eos_token_id)

    @property
    def turn_end_id(self) -> int | None:
        """The control token that the chat template writes behind an answer, if it writes one."""
        if not self.has_chat_template:
            return None
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _ANSWER}]
        try:
            written = self._owner.apply_chat_template(turns, tokenize=False)
        except Exception:  # a template is a program, and may fail in any way
            return None
        behind = str(written).rpartition(_ANSWER)[2].lstrip()
        ends = [string for string in self.control_strings if behind.startswith(string)]
        return cast(int, self._owner.convert_tokens_to_ids(max(ends, key=len))) if ends else None

    def __len__(self) -> int:
        return len(self._owner)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of token ids, without special tokens and with spaces as they are."""
        return self._trusted.decode(list(token_ids), skip_special_tokens=True)

    def _encode_trusted(self, text: str, offset: int, add_special_tokens: bool) -> TokenizedText:
        return _shifted(self._trusted.encode(text, add_special_tokens=add_special_tokens), offset)

    def _encode_untrusted(self, text: str, offset: int) -> TokenizedText:
        return _shifted(self._untrusted.encode(text, add_special_tokens=False), offset)

    def _find_prefix_ids(self) -> tuple[int, ...]:
        """Return what precedes any text: what the tokenizer adds, else a start-of-text token."""
        encoded = self._trusted.encode("a", add_special_tokens=True)
        num_added = next(
            (i for i, is_special in enumerate(encoded.special_tokens_mask) if not is_special), 0
        )
        if num_added:
            return tuple(encoded.ids[:num_added])
        bos = self._owner.bos_token_id
        return () if bos is None else (bos,)


def _without_limits(definition: str) -> str:
    """Return a tokenizer's definition without truncation and padding."""
    return json.dumps(json.loads(definition) | {"truncation": None, "padding": None})


def _with_marks_shown(definition: str) -> str:
    """Return a tokenizer that decodes the marks around reasoning and tool calls as text."""
    settings = json.loads(definition)
    marks = marks_among([token["content"] for token in settings["added_tokens"]])
    for token in settings["added_tokens"]:
        token["special"] &= token["content"] not in marks
    return json.dumps(settings)


def _without_control_tokens(definition: str) -> tokenizers.Tokenizer:
    """Return a tokenizer that reads control strings as text; runs of spaces stay tokens."""
    settings = json.loads(definition)
    control = {
        token["content"]
        for token in settings["added_tokens"]
        if token["special"] or not token["content"].isspace()
    }
    settings["added_tokens"] = [
        token for token in settings["added_tokens"] if token["content"] not in control
    ]
    # Some vocabularies hold control strings as ordinary pieces, too: rename those to something that
    # no text contains.
    model = settings["model"]
    hidden = control - {model.get("unk_token")}
    if isinstance(model.get("vocab"), dict):
        model["vocab"] = {
            f"\uffff{number}" if piece in hidden else piece: number
            for piece, number in model["vocab"].items()
        }
    elif isinstance(model.get("vocab"), list):
        model["vocab"] = [
            [f"\uffff{number}" if piece in hidden else piece, score]
            for number, (piece, score) in enumerate(model["vocab"])
        ]
    return tokenizers.Tokenizer.from_str(json.dumps(settings))


def _shifted(encoded: tokenizers.Encoding, by: int) -> TokenizedText:
    starts, ends = zip(*encoded.offsets, strict=True) if encoded.offsets else ((), ())
    return TokenizedText(
        tuple(encoded.ids), tuple(start + by for start in starts), tuple(end + by for end in ends)
    )
