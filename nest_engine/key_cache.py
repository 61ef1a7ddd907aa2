"""Passage keys depend on the model and the passage alone: compute them once, keep what fits in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from nest_engine.types import Passage, PassageKeys

if TYPE_CHECKING:
    import torch

    from nest_engine.key_store import KeyStore


class KeyCache:
    """Least-recently-used store of passage keys, bounded by bytes. Safe to share between threads.

    Keys are held by the fingerprint of their model, so engines of several models may share a cache.

    Args:
        max_bytes: most bytes of keys to hold; 0 keeps nothing.
        store: keys on disk, read where memory has none. They are mapped into memory, so they are not held here too.
    """

    def __init__(self, max_bytes: int = 2**30, *, store: KeyStore | None = None) -> None:
        self.max_bytes = max_bytes
        self.store = store
        self.nbytes = 0
        self._entries: OrderedDict[tuple[str, str, str], PassageKeys] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, model: str, passage: Passage, device: torch.device | str = "cpu") -> PassageKeys | None:
        """Return the keys of a passage, or None when they are not held.

        Args:
            model: fingerprint of the model.
            passage: the passage.
            device: where keys that are read from disk shall be.
        """
        name = (model, passage.title, passage.text)
        with self._lock:
            keys = self._entries.get(name)
            if keys is not None:
                self._entries.move_to_end(name)
                return keys
        return self.store.get(model, passage, device) if self.store is not None else None

    def put(self, model: str, passage: Passage, keys: PassageKeys) -> None:
        """Hold the keys of a passage, dropping those used longest ago when space runs out."""
        if not 0 < keys.nbytes <= self.max_bytes:  # a passage without keys would never be dropped again
            return
        name = (model, passage.title, passage.text)
        with self._lock:
            replaced = self._entries.pop(name, None)
            self.nbytes -= replaced.nbytes if replaced else 0
            while self.nbytes + keys.nbytes > self.max_bytes:
                _, dropped = self._entries.popitem(last=False)
                self.nbytes -= dropped.nbytes
            self._entries[name] = keys
            self.nbytes += keys.nbytes

    def clear(self) -> None:
        """Forget everything in memory."""
        with self._lock:
            self._entries.clear()
            self.nbytes = 0
