"""The beginnings of prompts, kept between requests as sequences of the same memory."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from torch import Tensor

from nest_engine.models.llama_cpp.memory import Memory

PIECE = 256
"""Tokens of a piece: a known beginning is whole pieces, so the forwards are those of a new one."""


@dataclass(frozen=True)
class _Known:
    token_ids: tuple[int, ...]
    hidden_TD: Tensor
    sequence: int
    nbytes: int


class KnownPrompts:
    """Least-recently-used beginnings of prompts, bounded by bytes.

    A sequence that begins with one shares its cells: nothing is copied.

    Args:
        memory: where they are held.
        max_bytes: most bytes of all.
    """

    def __init__(self, memory: Memory, max_bytes: int) -> None:
        self._memory = memory
        self._max_bytes = max_bytes
        self._known: list[_Known] = []  # the least recently used first
        clear = weakref.WeakMethod(self.clear)  # no cycle: what is dropped is freed at once

        def give_up() -> bool:
            method = clear()
            return method is not None and method()

        memory.give_up = give_up

    def begin(self, sequence: int, prompt: Sequence[int]) -> Tensor | None:
        """Let an empty sequence begin with what is known of a prompt.

        The last token is never known: the state behind it is what decoding begins with.

        Returns:
            the hidden states of the beginning, ``[T, D]``; None if nothing is known.
        """
        with self._memory.lock:
            lengths = [_common(known.token_ids, prompt[:-1]) for known in self._known]
            longest = max(lengths, default=0)
            if not longest:
                return None
            known = self._known[lengths.index(longest)]
            if not self._memory.share(known.sequence, sequence, longest):
                self._drop(known)
                return None
            self._known.remove(known)
            self._known.append(known)
            return known.hidden_TD[:longest]

    def keep(self, sequence: int, prompt: Sequence[int], hidden_TD: Tensor) -> None:
        """Keep the beginning of a prompt that a sequence holds."""
        length = (len(prompt) - 1) // PIECE * PIECE
        with self._memory.lock:
            if not length or any(
                _common(known.token_ids, prompt) >= length for known in self._known
            ):
                return
            for known in tuple(self._known):
                if _common(known.token_ids, prompt) == len(known.token_ids):
                    self._drop(known)  # the new one begins with it
            hidden_TD = hidden_TD[:length].clone()
            kept = self._memory.open_if_free()
            if kept is None:
                return
            if not self._memory.share(sequence, kept, length):
                self._memory.close(kept)
                return
            nbytes = self._memory.nbytes(kept) + int(hidden_TD.nbytes)
            self._known.append(_Known(tuple(prompt[:length]), hidden_TD, kept, nbytes))
            while sum(known.nbytes for known in self._known) > self._max_bytes:
                self._drop(self._known[0])

    def clear(self) -> bool:
        """Forget everything; return whether there was something."""
        with self._memory.lock:
            had_some = bool(self._known)
            while self._known:
                self._drop(self._known[0])
            return had_some

    def _drop(self, known: _Known) -> None:
        self._known.remove(known)
        self._memory.close(known.sequence)


def _common(known: Sequence[int], prompt: Sequence[int]) -> int:
    """Return the tokens of the whole pieces with which both begin."""
    pairs = zip(known, prompt, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)) // PIECE * PIECE
