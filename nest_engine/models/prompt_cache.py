"""What reading the beginnings of prompts has yielded, kept between requests.

A chain's prompts begin alike: the system's text, often the same passages, the conversation so far.
Prompts are read in pieces of a fixed length, the last of which may be half as long, and each piece
is kept under the tokens up to its end. Reading goes on behind the longest beginning that is known.
Since the same pieces would have been read otherwise, in forwards of the same width over the same
cache, the result is the same to the last bit, in any precision.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

PROMPT_CACHE = 2**28  # bytes: the beginnings of a conversation or two

Layer = tuple[Tensor, Tensor] | None
"""Keys and values ``[heads, T, width]`` of a layer; None if it shares another's."""


@dataclass(frozen=True)
class Piece:
    """What reading a piece of a prompt has yielded.

    Args:
        layers: keys and values of each layer.
        hidden_TD: hidden state after each token.
    """

    layers: Sequence[Layer]
    hidden_TD: Tensor

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        states = [state for layer in self.layers if layer is not None for state in layer]
        return sum(int(tensor.nbytes) for tensor in (*states, self.hidden_TD))


def model_state(model: nn.Module) -> bytes:
    """Return a digest that changes when weights are trained, moved or cast, or adapters switched.

    Whatever writes to a weight raises its version, so nothing needs to be read.
    """
    state: list[object] = [
        (_address(weight), 0 if weight.is_inference() else weight._version, weight.dtype)
        for weight in model.parameters()
        if not weight.is_meta
    ]
    if "peft" in sys.modules:
        for module in model.modules():
            active = getattr(module, "active_adapters", None)
            if isinstance(active, (list, tuple)):
                state.append((tuple(active), getattr(module, "disable_adapters", None)))
    return hashlib.sha256(repr(state).encode()).digest()


def _address(weight: Tensor) -> object:
    """Return where a weight is; quantized ones may have no single place."""
    try:
        return weight.data_ptr(), str(weight.device)
    except (RuntimeError, NotImplementedError):
        return id(weight)


class PromptCache:
    """Least-recently-used pieces of prompts, bounded by bytes. Safe to share between threads.

    Args:
        max_bytes: most bytes of all pieces.
        piece: tokens of a piece, but for a last one of half as many.
    """

    def __init__(self, max_bytes: int, piece: int) -> None:
        self.max_bytes = max_bytes
        self.piece = piece
        self.nbytes = 0
        self._pieces: OrderedDict[bytes, Piece] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._pieces)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._pieces.clear()
            self.nbytes = 0

    def ends(self, length: int) -> list[int]:
        """Return where the pieces of a prompt end, none of them at the very end of the prompt.

        The state behind the last token is what decoding begins with, so that is always read.

        Args:
            length: tokens of the prompt.
        """
        ends = list(range(self.piece, length, self.piece))
        half = len(ends) * self.piece + self.piece // 2
        return [*ends, half] if half < length else ends

    def names(self, prompt: Sequence[int], state: bytes = b"") -> list[bytes]:
        """Return a name for each piece of a prompt.

        Args:
            prompt: token ids.
            state: of the model that reads them.
        """
        names, digest = [], hashlib.sha256(state)
        for start, end in pairwise([0, *self.ends(len(prompt))]):
            digest.update(array("q", prompt[start:end]).tobytes())
            names.append(digest.digest())
        return names

    def beginning(self, names: Sequence[bytes]) -> list[Piece]:
        """Return the longest run of known pieces from the beginning on."""
        found = []
        with self._lock:
            for name in names:
                piece = self._pieces.get(name)
                if piece is None:
                    break
                found.append(piece)
            # What a piece goes on from is dropped after it.
            for name in reversed(names[: len(found)]):
                self._pieces.move_to_end(name)
        return found

    def put(self, names: Sequence[bytes], pieces: Sequence[Piece]) -> None:
        """Keep the pieces of a prompt, dropping the least recently used when space runs out."""
        with self._lock:
            for name, piece in reversed(list(zip(names, pieces, strict=True))):
                dropped = self._pieces.pop(name, None)
                self._pieces[name] = piece
                self.nbytes += piece.nbytes - (dropped.nbytes if dropped else 0)
            while self.nbytes > self.max_bytes:
                _, dropped = self._pieces.popitem(last=False)
                self.nbytes -= dropped.nbytes
