"""The sequences that a model has read: opened, read on, cut back, shared, closed."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from nest_engine.errors import DecodingError, InputError
from nest_engine.models.llama_cpp.library import (
    MAX_BATCH,
    LlamaContext,
    LlamaModel,
    NoRoomError,
    Row,
    bindings,
)

_CELLS = 4096  # tokens that there is place for at first
_SEQUENCES = 32  # of them at first

Read = tuple[NDArray[np.float32], NDArray[np.float32]]
"""What reading a row yields: logits ``[T, V]`` of its last tokens, and hidden states ``[T, D]``."""


class Memory:
    """What one model holds of all sequences that are being decoded. Safe to share between threads.

    A context of llama.cpp has a fixed size. When it is full, what was kept for later is given up;
    when that is not enough, a larger context takes over what the old one held.

    Args:
        model: the model.
        num_threads: CPU threads that compute.
        cache_type: ``ggml_type`` of keys and values.
        flash_attn: whether attention is computed in blocks.
        longest: most tokens of a sequence.
        least: tokens that there is place for at least.
    """

    def __init__(
        self,
        model: LlamaModel,
        *,
        num_threads: int,
        cache_type: int,
        flash_attn: bool,
        longest: int,
        least: int = MAX_BATCH,
    ) -> None:
        self.lock = threading.RLock()
        self.give_up: Callable[[], bool] = lambda: False
        """Closes sequences that were kept for later; returns whether there were any."""
        self._model = model
        self._num_threads = num_threads
        self._cache_type = cache_type
        self._flash_attn = flash_attn
        self._context = self._new_context(max(least, min(_CELLS, longest)), _SEQUENCES)
        self._lengths: dict[int, int] = {}
        self._abandoned: deque[int] = deque()
        _memories.add(self)

    @property
    def num_cells(self) -> int:
        """Tokens that there is place for now."""
        return self._context.num_cells

    @property
    def num_sequences(self) -> int:
        """Sequences that are open."""
        with self.lock:
            self._close_abandoned()
            return len(self._lengths)

    def shut(self) -> None:
        """Give everything back; nothing can be read any more."""
        with self.lock:
            self._context.close()
            self._model.close()

    def open_if_free(self) -> int | None:
        """Return the number of a new, empty sequence, or None if all that there are are open."""
        with self.lock:
            self._close_abandoned()
            numbers = range(self._context.num_sequences)
            number = next((number for number in numbers if number not in self._lengths), None)
            if number is not None:
                self._lengths[number] = 0
            return number

    def open(self) -> int:
        """Return the number of a new, empty sequence.

        Raises:
            InputError: if llama.cpp cannot hold more.
        """
        with self.lock:
            number = self.open_if_free()
            if number is None and self.give_up():
                number = self.open_if_free()
            if number is None:
                self._grow(more_sequences=True)
                number = self.open_if_free()
            assert number is not None
            return number

    def close(self, sequence: int) -> None:
        """Forget a sequence."""
        with self.lock:
            del self._lengths[sequence]
            self._context.cut(sequence, 0)

    def abandon(self, sequences: Sequence[int]) -> None:
        """Close sequences as soon as nothing is being read. For finalizers, which run any time."""
        self._abandoned.extend(sequences)

    def cut(self, sequence: int, length: int) -> None:
        """Forget a sequence's tokens beyond ``length``."""
        with self.lock:
            if not self._context.cut(sequence, length):
                raise DecodingError(f"llama.cpp cannot cut a sequence back to {length} tokens")
            self._lengths[sequence] = length
            if not self._holds_window(sequence):
                raise DecodingError(
                    "a draft cannot be taken back: llama.cpp has used its place for other rows, in "
                    "layers with a sliding window; decode fewer rows at a time"
                )

    def share(self, source: int, target: int, length: int) -> bool:
        """Let an empty sequence begin with the first ``length`` tokens of another.

        Returns:
            whether they were all there still; if not, the sequence is empty as before.
        """
        with self.lock:
            self._context.share(source, target, length)
            self._lengths[target] = length
            if self._holds_window(target):
                return True
            self._context.cut(target, 0)
            self._lengths[target] = 0
            return False

    def nbytes(self, sequence: int) -> int:
        """Return the size of a sequence's keys and values."""
        with self.lock:
            return self._context.state_size(sequence)

    def read(self, rows: Sequence[Row], *, stop_at_hidden: bool = False) -> list[Read]:
        """Read tokens behind those of sequences, as many in one forward as llama.cpp takes.

        Args:
            rows: what to read.
            stop_at_hidden: whether hidden states are all that is wanted of these sequences.

        Returns:
            what each row yields.
        """
        found: list[list[Read]] = [[] for _ in rows]
        for parts in _forwards(rows):
            with self.lock:
                self._close_abandoned()
                logits_TV, hidden_TD = self._read(
                    [part for _, part in parts], stop_at_hidden=stop_at_hidden
                )
                for _, part in parts:
                    self._lengths[part.sequence] = part.start + len(part.token_ids)
            first = first_logits = 0
            for number, part in parts:
                last, last_logits = first + len(part.token_ids), first_logits + part.num_logits
                found[number].append((logits_TV[first_logits:last_logits], hidden_TD[first:last]))
                first, first_logits = last, last_logits
        return [
            of_row[0]
            if len(of_row) == 1
            else (np.concatenate([r[0] for r in of_row]), np.concatenate([r[1] for r in of_row]))
            for of_row in found
        ]

    def _read(self, rows: Sequence[Row], *, stop_at_hidden: bool) -> Read:
        while True:
            try:
                return self._context.read(rows, stop_at_hidden=stop_at_hidden)
            except NoRoomError:
                if not self.give_up():
                    self._grow()
            except BaseException:  # what it has stored so far
                for row in rows:
                    self._context.cut(row.sequence, row.start)
                raise

    def _grow(self, *, more_sequences: bool = False) -> None:
        """Go on in a larger context."""
        old = self._context
        num_sequences = old.num_sequences
        if more_sequences:
            most = int(bindings().llama_max_parallel_sequences())
            if num_sequences == most:
                raise InputError(
                    f"llama.cpp holds at most {most} sequences at once; ask for fewer answers at a "
                    "time"
                )
            num_sequences = min(2 * num_sequences, most)
        # Sequences that shared cells take some of their own.
        needed = sum(self._lengths.values()) + MAX_BATCH
        num_cells = old.num_cells
        while num_cells < needed or (num_cells == old.num_cells and not more_sequences):
            num_cells *= 2
        new = self._new_context(num_cells, num_sequences)
        for sequence, length in self._lengths.items():
            if length:
                new.set_state(sequence, old.state(sequence))
        self._context = new
        old.close()

    def _holds_window(self, sequence: int) -> bool:
        """Return whether all layers hold what they look back to.

        Layers with a sliding window give up cells that are outside it, when others need them.
        """
        window, length = self._model.window, self._lengths[sequence]
        if not window or not length:
            return True
        return 0 <= self._context.first_position(sequence) <= max(0, length - window)

    def _new_context(self, num_cells: int, num_sequences: int) -> LlamaContext:
        return LlamaContext(
            self._model,
            num_cells=num_cells,
            num_sequences=num_sequences,
            num_threads=self._num_threads,
            cache_type=self._cache_type,
            flash_attn=self._flash_attn,
        )

    def _close_abandoned(self) -> None:
        while self._abandoned:
            self.close(self._abandoned.popleft())


_memories: weakref.WeakSet[Memory] = weakref.WeakSet()


@atexit.register
def _shut_all() -> None:
    """Wait for the forwards of other threads, and give back what they compute with."""
    for memory in list(_memories):
        memory.shut()


def _forwards(rows: Sequence[Row]) -> Iterator[list[tuple[int, Row]]]:
    """Cut rows into forwards of at most ``MAX_BATCH`` tokens.

    Yields:
        the parts of rows of one forward, each with the number of its row.
    """
    parts: list[tuple[int, Row]] = []
    room = MAX_BATCH
    for number, row in enumerate(rows):
        begin, length = 0, len(row.token_ids)
        without_logits = length - row.num_logits
        while begin < length:
            end = min(begin + room, length)
            num_logits = max(0, end - max(begin, without_logits))
            part = Row(row.sequence, row.start + begin, row.token_ids[begin:end], num_logits)
            parts.append((number, part))
            room -= end - begin
            begin = end
            if not room:
                yield parts
                parts, room = [], MAX_BATCH
    if parts:
        yield parts
