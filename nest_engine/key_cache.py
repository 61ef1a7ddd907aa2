"""Passage keys depend on the model and the passage alone: compute them once, keep what fits in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict

from nest_engine.types import Passage, PassageKeys


class KeyCache:
    """Least-recently-used store of passage keys, bounded by bytes. Safe to share between threads.

    Keys are held by the fingerprint of their model, so engines of several models may share a cache.

    Args:
        max_bytes: most bytes of keys to hold; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int = 2**30) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._entries: OrderedDict[tuple[str, str, str], PassageKeys] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, model: str, passage: Passage) -> PassageKeys | None:
        """Return the keys of a passage under a model's fingerprint, or None when they are not held."""
        name = (model, passage.title, passage.text)
        with self._lock:
            keys = self._entries.get(name)
            if keys is not None:
                self._entries.move_to_end(name)
            return keys

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
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self.nbytes = 0
