"""The seams of the engine: what a model and a tokenizer must offer.

``models/`` implements them on transformers, ``testing.py`` without any model.

Axis suffixes in tensor names, everywhere: ``B`` sequences of a batch, ``T`` tokens of a sequence or
passage, ``Q`` queries, ``N`` entries of a token index, ``K`` neighbours of one query, ``D`` width
of the hidden state, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from nest_engine.records import Passage

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from typing_extensions import Self


@runtime_checkable
class PassageRetriever(Protocol):
    """First-stage search: anything that finds passages for a query."""

    def retrieve(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Passage]]:
        """Return up to ``k`` passages for each query, best first."""
        ...


@dataclass(frozen=True)
class Frontier:
    """The model's state after the last accepted token: the next step needs no forward to know it.

    Args:
        logits_V: next-token logits.
        hidden_D: hidden state of the last accepted token.
    """

    logits_V: Tensor
    hidden_D: Tensor


@dataclass(frozen=True)
class Outputs:
    """What one forward pass yields for one sequence.

    Args:
        logits_TV: next-token logits after each token of the draft, float32.
        hidden_TD: hidden state (the kNN query) after each token of the draft.
    """

    logits_TV: Tensor
    hidden_TD: Tensor

    def frontier(self, index: int) -> Frontier:
        """Return the model's state after token ``index`` of the draft."""
        return Frontier(self.logits_TV[index], self.hidden_TD[index])


@dataclass(frozen=True)
class TokenizedPassage:
    """A passage as token ids that know which characters they stand for.

    Args:
        context_ids: tokens read before the text (start-of-text token, title); never quoted.
        token_ids: tokens of the text.
        starts: first character of each token in ``Passage.text``.
        ends: one past the last character of each token.
    """

    context_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]


class TokenizedText(NamedTuple):
    """Trusted text as token ids with character offsets.

    Args:
        token_ids: token ids.
        starts: first character of each token; equals ``ends`` for tokens that stand for no
            character.
        ends: one past the last character of each token.
    """

    token_ids: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]


class Message(NamedTuple):
    """One turn of a conversation.

    Args:
        role: ``system`` or ``developer``, ``user``, ``assistant``, or ``tool``.
        text: what was said.
        more: what else the model's template reads, such as ``tool_calls``.
    """

    role: str
    text: str
    more: Mapping[str, Any] = {}


class Tokenizer(Protocol):
    """Text at the edges, token ids inside."""

    @property
    def control_ids(self) -> frozenset[int]:
        """Tokens that steer the model instead of standing for text."""
        ...

    @property
    def control_strings(self) -> frozenset[str]:
        """How control tokens are written."""
        ...

    @property
    def has_chat_template(self) -> bool:
        """Whether conversations are written as the model was trained to read them."""
        ...

    @property
    def reasoning_ids(self) -> frozenset[int]:
        """The tokens that a mark which opens reasoning is, or begins with."""
        ...

    def encode_prompt(self, text: str, untrusted: Sequence[tuple[int, int]] = ()) -> TokenizedText:
        """Encode a prompt; control strings inside ``untrusted`` character ranges are plain text."""
        ...

    def encode_passage(self, passage: Passage) -> TokenizedPassage:
        """Encode a passage; control strings in it are plain text."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of token ids, control tokens left out."""
        ...

    def format_question(self, question: str, **chat_template_kwargs: Any) -> str:
        """Return the prompt that puts a question to the model."""
        ...

    def format_chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        **chat_template_kwargs: Any,
    ) -> str:
        """Return the prompt for a conversation that the model is to answer."""
        ...


class Prefill(NamedTuple):
    """What reading a prompt yields.

    Args:
        frontier: the model's state after the prompt.
        hidden_TD: hidden state after each prompt token.
        num_known: tokens of the prompt's beginning that an earlier request had read.
    """

    frontier: Frontier
    hidden_TD: Tensor
    num_known: int = 0


class Session(Protocol):
    """Sequences being decoded, each with its own length; row numbers count those still kept."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens held for each row, the prompt's included."""
        ...

    def extend(self, drafts: Sequence[Sequence[int]]) -> list[Outputs]:
        """Read each row's draft behind its tokens, in one forward pass."""
        ...

    def truncate(self, lengths: Sequence[int]) -> None:
        """Forget each row's tokens beyond ``lengths``."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Drop every row that is not listed."""
        ...

    def join(self, other: Self) -> None:
        """Append the rows of another session of the same model, which is used up by it."""
        ...


class ForwardCost(NamedTuple):
    """How the time of a forward pass grows with its tokens.

    Args:
        two: time over two tokens, relative to one: on CPUs the second costs far more than those
            after it.
        more: time of each further token, relative to two.
    """

    two: float
    more: float


class LanguageModel(Protocol):
    """A decoder that reads tokens and shows its hidden state."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        ...

    @property
    def context_length(self) -> int | None:
        """Most tokens that the model can read; None when unlimited."""
        ...

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        ...

    @property
    def device(self) -> torch.device:
        """Where logits and hidden states live."""
        ...

    @property
    def fingerprint(self) -> str:
        """What the keys of passages depend on: equal only for models that give equal keys."""
        ...

    @property
    def forward_cost(self) -> ForwardCost:
        """How the time of a forward pass grows with its tokens."""
        ...

    def encode(self, passages: Sequence[TokenizedPassage]) -> list[Tensor]:
        """Return each passage's keys: the hidden state before each token that has a predecessor."""
        ...

    def prefill(self, prompts: Sequence[Sequence[int]]) -> tuple[Session, list[Prefill]]:
        """Read prompts and open a session on them."""
        ...
