"""Rows being decoded: how many tokens each holds, and the cache they share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from nest_engine.interfaces import Outputs
from nest_engine.models.prompt_cache import PromptCache
from nest_engine.models.row_cache import RowCache
from nest_engine.models.static_cache import StaticCache


class HuggingFaceSession:
    """Rows being decoded by one model, sharing one cache.

    Args:
        cache: an empty cache of the model.
        num_rows: how many rows start.
        static_cache: the model's cache at fixed addresses, which the session takes for its drafts
            while no other session holds it; None if there is none.
    """

    def __init__(
        self, cache: RowCache, num_rows: int, static_cache: StaticCache | None = None
    ) -> None:
        self._cache = cache
        self._lengths = [0] * num_rows
        self._static_cache = static_cache

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens held for each row."""
        return tuple(self._lengths)

    @torch.inference_mode()
    def extend(self, drafts: Sequence[Sequence[int]]) -> list[Outputs]:
        """Read each row's draft behind its tokens, in one forward pass.

        Args:
            drafts: token ids of each row; at least one token each.

        Returns:
            for each row, logits and hidden states after each token of its draft.
        """
        if self._static_cache is not None:
            self._cache = self._static_cache.acquire(self, self._cache)
        logits_BTV, hidden_BTD = self.forward(drafts)
        return [
            Outputs(logits_TV[: len(draft)], hidden_TD[: len(draft)])
            for draft, logits_TV, hidden_TD in zip(drafts, logits_BTV, hidden_BTD, strict=True)
        ]

    def truncate(self, lengths: Sequence[int]) -> None:
        """Forget each row's tokens beyond ``lengths``; nothing attends to them any more."""
        for row, (length, held) in enumerate(zip(lengths, self._lengths, strict=True)):
            if not 0 <= length <= held:
                raise ValueError(
                    f"row {row} holds {held} tokens and cannot be cut back to {length}"
                )
        self._lengths = list(lengths)

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Drop every row that is not listed."""
        if list(rows) == list(range(len(self._lengths))):
            return
        self._lengths = [self._lengths[row] for row in rows]
        self._cache.keep(rows, 2 * max(self._lengths, default=0))
        if not rows:
            self._cache = self._cache.release()

    @torch.inference_mode()
    def join(self, other: HuggingFaceSession) -> None:
        """Append the rows of another session of the same model, which is used up by it.

        If that fails, for want of memory say, this session is as it was.
        """
        self._cache.join(other._cache)
        self._lengths += other._lengths

    def read_prompt(
        self, prompt: Sequence[int], names: Sequence[bytes], known: PromptCache
    ) -> tuple[Tensor, Tensor, int]:
        """Read the prompt of the only row in pieces, behind the beginning that is known.

        Args:
            prompt: token ids.
            names: of its pieces.
            known: where pieces are kept between sessions.

        Returns:
            logits after the last token ``[V]``, hidden states ``[T, D]``, and how many tokens were
            known.
        """
        pieces = known.beginning(names)
        hidden = [piece.hidden_TD for piece in pieces]
        nbytes = sum(piece.nbytes for piece in pieces)
        ends = [0, *known.ends(len(prompt))]
        num_known = ends[len(pieces)]
        if pieces:
            self._cache.begin(pieces)
            self._lengths = [num_known]
        for start, end in pairwise(ends[len(pieces) :]):
            _, [hidden_TD] = self.forward([prompt[start:end]], last_logits_only=True)
            hidden.append(hidden_TD)
            if nbytes < known.max_bytes:  # no copies of what cannot be kept
                pieces.append(self._cache.piece(start, end, hidden_TD))
                nbytes += pieces[-1].nbytes
        known.put(names[: len(pieces)], pieces)
        rest = prompt[ends[-1] :]
        [logits_TV], [hidden_TD] = self.forward([rest], last_logits_only=True)
        return logits_TV[-1], torch.cat([*hidden, hidden_TD[: len(rest)]]), num_known

    def forward(
        self, drafts: Sequence[Sequence[int]], last_logits_only: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Read drafts with the cache at hand; arguments and values as for ``RowCache.read``."""
        outputs = self._cache.read(drafts, self._lengths, last_logits_only)
        self._lengths = [
            length + len(draft) for length, draft in zip(self._lengths, drafts, strict=True)
        ]
        return outputs
