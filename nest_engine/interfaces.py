"""The seams of the engine: what a model and a tokenizer must offer, whoever implements them.

``language_model.py`` and ``tokenization.py`` implement them on transformers, ``testing.py`` without any model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from nest_engine.types import Frontier, Outputs, Passage, TokenizedPassage

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


class TokenizedText(NamedTuple):
    """Trusted text as token ids with character offsets.

    Args:
        token_ids: token ids.
        starts: first character of each token; equals ``ends`` for tokens that stand for no character.
        ends: one past the last character of each token.
    """

    token_ids: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]


class Message(NamedTuple):
    """One turn of a conversation.

    Args:
        role: ``system``, ``user`` or ``assistant``.
        text: what was said.
    """

    role: str
    text: str


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

    def encode_prompt(self, text: str, untrusted: Sequence[tuple[int, int]] = ()) -> TokenizedText:
        """Encode a prompt; control strings inside ``untrusted`` character ranges are plain text."""
        ...

    def encode_passage(self, passage: Passage) -> TokenizedPassage:
        """Encode a passage; control strings in it are plain text."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of token ids, control tokens left out."""
        ...

    def format_question(self, question: str) -> str:
        """Return the prompt that puts a question to the model."""
        ...

    def format_chat(self, messages: Sequence[Message]) -> str:
        """Return the prompt that lets the model answer a conversation."""
        ...


class Prefill(NamedTuple):
    """What reading a prompt yields.

    Args:
        frontier: the model's state after the prompt.
        hidden_TD: hidden state after each prompt token.
    """

    frontier: Frontier
    hidden_TD: Tensor


class Session(Protocol):
    """Sequences being decoded, each with its own length. Row numbers count the rows that are still kept."""

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
    def marginal_token_cost(self) -> float:
        """Time of one more token in a forward pass, relative to a forward pass over two tokens."""
        ...

    def encode(self, passages: Sequence[TokenizedPassage]) -> list[Tensor]:
        """Return, for each passage, the hidden state before each of its tokens that has a predecessor."""
        ...

    def prefill(self, prompts: Sequence[Sequence[int]]) -> tuple[Session, list[Prefill]]:
        """Read prompts and open a session on them."""
        ...
