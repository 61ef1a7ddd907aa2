"""Rows being decoded by llama.cpp: each a sequence of the model's memory."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch

from nest_engine.interfaces import Outputs
from nest_engine.models.llama_cpp.library import Row
from nest_engine.models.llama_cpp.memory import Memory


class LlamaCppSession:
    """Rows being decoded by one model.

    Args:
        memory: where the rows are held.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._sequences: list[int] = []
        self._lengths: list[int] = []
        weakref.finalize(self, memory.abandon, self._sequences)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens held for each row."""
        return tuple(self._lengths)

    def open(self) -> int:
        """Append an empty row; return its sequence."""
        self._sequences.append(self._memory.open())
        self._lengths.append(0)
        return self._sequences[-1]

    def lengthen(self, row: int, length: int) -> None:
        """Take note that a row's sequence now holds ``length`` tokens."""
        self._lengths[row] = length

    def extend(self, drafts: Sequence[Sequence[int]]) -> list[Outputs]:
        """Read each row's draft behind its tokens, in one forward pass.

        Args:
            drafts: token ids of each row; at least one token each.

        Returns:
            for each row, logits and hidden states after each token of its draft.
        """
        rows = [
            Row(sequence, length, draft, len(draft))
            for sequence, length, draft in zip(self._sequences, self._lengths, drafts, strict=True)
        ]
        outputs = self._memory.read(rows)
        self._lengths = [row.start + len(row.token_ids) for row in rows]
        return [
            Outputs(torch.from_numpy(logits_TV), torch.from_numpy(hidden_TD))
            for logits_TV, hidden_TD in outputs
        ]

    def truncate(self, lengths: Sequence[int]) -> None:
        """Forget each row's tokens beyond ``lengths``."""
        for row, (held, length) in enumerate(zip(self._lengths, lengths, strict=True)):
            if not 0 <= length <= held:
                raise ValueError(
                    f"row {row} holds {held} tokens and cannot be cut back to {length}"
                )
        for row, length in enumerate(lengths):
            if length < self._lengths[row]:
                self._lengths[row] = length
                self._memory.cut(self._sequences[row], length)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop every row that is not listed."""
        dropped = [self._sequences[row] for row in range(len(self._sequences)) if row not in rows]
        self._lengths = [self._lengths[row] for row in rows]
        self._sequences[:] = [self._sequences[row] for row in rows]
        for sequence in dropped:
            self._memory.close(sequence)

    def join(self, other: LlamaCppSession) -> None:
        """Append the rows of another session of the same model, which is used up by it."""
        self._sequences += other._sequences
        self._lengths += other._lengths
        other._sequences.clear()
        other._lengths = []
