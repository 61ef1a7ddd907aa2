"""Cache passage keys in memory: they depend only on the model and the passage."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from nest_engine.datastore.passage_keys import PassageKeys
from nest_engine.records import Passage

if TYPE_CHECKING:
    import torch

    from nest_engine.datastore.key_store import KeyStore


class KeyCache:
    """Least-recently-used store of passage keys, bounded by bytes. Safe to share between threads.

    Keys are stored under their model's fingerprint, so engines of several models can share a cache.

    Args:
        max_bytes: maximum size of the keys in bytes; 0 keeps nothing.
        store: keys on disk, used where memory has none. They are memory-mapped, so they are not
            held here as well.
    """

    def __init__(self, max_bytes: int = 2**30, *, store: KeyStore | None = None) -> None:
        self.max_bytes = max_bytes
        self.store = store
        self.nbytes = 0
        self._entries: OrderedDict[tuple[str, str, str], PassageKeys] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(
        self, model: str, passage: Passage, device: torch.device | str = "cpu"
    ) -> PassageKeys | None:
        """Return the keys of a passage, or None when they are not held.

        Args:
            model: fingerprint of the model.
            passage: the passage.
            device: device for keys that are read from disk.
        """
        name = (model, passage.title, passage.text)
        with self._lock:
            keys = self._entries.get(name)
            if keys is not None:
                self._entries.move_to_end(name)
                return keys
        return self.store.get(model, passage, device) if self.store is not None else None

    def put(self, model: str, passage: Passage, keys: PassageKeys) -> None:
        """Hold the keys of a passage, dropping the least recently used when space runs out."""
        # A passage without keys would never be dropped again.
        if not 0 < keys.nbytes <= self.max_bytes:
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
