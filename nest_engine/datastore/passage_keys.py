"""The keys of a passage, and the only place where they are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nest_engine.interfaces import LanguageModel, TokenizedPassage
from nest_engine.records import Passage

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PassageKeys:
    """Keys of a passage: one row for each token of its text that a search can find.

    Args:
        tokens: the tokenized passage.
        first: index of the first token that has a key: 1 when nothing precedes the text, otherwise
            0.
        keys_TD: hidden state of the token *before* each token from ``first`` on: the value of
            a key is the token that follows it. No rows for a passage that the model has not read:
            its tokens can be copied, not searched for.
    """

    tokens: TokenizedPassage
    first: int
    keys_TD: Tensor

    @property
    def nbytes(self) -> int:
        """Size of the keys in bytes."""
        return int(self.keys_TD.nbytes)


def unread(language_model: LanguageModel, passage: Passage) -> PassageKeys:
    """Return the tokens of a passage without keys."""
    import torch  # plain records and citations do not need it

    tokens = language_model.tokenizer.encode_passage(passage)
    return PassageKeys(tokens, len(tokens.token_ids), torch.empty(0, 0))


def encode_passages(
    language_model: LanguageModel, passages: Sequence[Passage]
) -> list[PassageKeys]:
    """Return the keys of passages, computed in one batch; they are on the model's device."""
    tokenized = [language_model.tokenizer.encode_passage(passage) for passage in passages]
    return [
        PassageKeys(tokens, len(tokens.token_ids) - len(keys_TD), keys_TD)
        for tokens, keys_TD in zip(tokenized, language_model.encode(tokenized), strict=True)
    ]
