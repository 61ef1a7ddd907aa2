"""Passage keys from many workers, in the store that one process would write."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any

import ray

from nest_engine import IndexMismatchError, KeyStore, Passage
from nest_engine.key_store import KeyFormat, encode_passages, require_key_format
from nest_engine.types import PassageKeys, require_count
from nest_integrations.ray.loading import LoadEngine, loaded, require_loader

_AHEAD = 2  # batches that a worker has: one that it reads, and the next
_RESTARTS = 3  # of a worker that died; what it was reading is read again


def build_keys(
    folder: str | os.PathLike[str],
    load_engine: LoadEngine,
    passages: Sequence[Passage],
    *,
    num_workers: int,
    key_format: KeyFormat = "fp16",
    progress: Callable[[int, int], None] = lambda done, total: None,
    ray_actor_options: Mapping[str, Any] | None = None,
) -> KeyStore:
    """Compute the keys of passages on several workers; this process writes them to its own disk.

    The folder is what ``KeyStore.build`` would have written: the same batches in the same order. A build that was
    killed goes on, and an index that has grown costs its new passages only.

    Args:
        folder: of the keys: ``INDEX/keys`` for an index of ``nest index build``; made if need be.
        load_engine: returns the engine whose model computes the keys; called once in each worker.
        passages: the passages.
        num_workers: number of workers; each holds the model.
        key_format: ``fp16`` or ``int8``.
        progress: told how many passages are done, and of how many.
        ray_actor_options: what each worker needs, such as ``{"num_gpus": 1}``; one CPU when left out.

    Returns:
        the keys, opened.

    Raises:
        ConfigError: if an argument is not valid, or ``load_engine`` returns no engine.
        IndexMismatchError: if the workers have loaded different models.
        InputError: if a key does not fit the format, or the disk is too small.
        PassageIndexError: if another process is building here.
        ray.exceptions.RayError: if a worker cannot load its engine, or dies more than three times.
    """
    require_loader(load_engine)
    require_count("num_workers", num_workers)
    require_key_format(key_format)
    options = {"num_cpus": 1, "max_restarts": _RESTARTS, "max_task_retries": _RESTARTS} | dict(ray_actor_options or {})
    worker: Any = ray.remote(_Reader).options(**options)
    readers: list[Any] = [worker.remote(load_engine) for _ in range(num_workers)]
    try:
        fingerprint: str = ray.get(readers[0].fingerprint.remote())

        def encode(batches: Iterator[Sequence[Passage]]) -> Iterator[Sequence[PassageKeys]]:
            return (_of_one_model(fingerprint, *read) for read in _in_turns(readers, batches))

        return KeyStore.write(folder, fingerprint, encode, passages, key_format=key_format, progress=progress)
    finally:
        for reader in readers:
            ray.kill(reader)


class _Reader:
    """Holds a model, and computes keys with it.

    Args:
        load_engine: loads it.
    """

    def __init__(self, load_engine: LoadEngine) -> None:
        self._model = loaded(load_engine).language_model

    def fingerprint(self) -> str:
        """Return what tells the model from others."""
        return self._model.fingerprint

    def keys(self, passages: Sequence[Passage]) -> tuple[str, list[PassageKeys]]:
        """Return the model's fingerprint and the keys of passages, in main memory."""
        keys = encode_passages(self._model, passages)
        return self._model.fingerprint, [replace(key, keys_TD=key.keys_TD.cpu()) for key in keys]


def _in_turns(readers: Sequence[Any], batches: Iterator[Sequence[Passage]]) -> Iterator[tuple[str, list[PassageKeys]]]:
    """Let workers read batches in turns; return their results in order."""
    turns = cycle(readers)
    reading: deque[Any] = deque()
    for batch in batches:
        reading.append(next(turns).keys.remote(batch))
        if len(reading) == _AHEAD * len(readers):
            yield ray.get(reading.popleft())
    while reading:
        yield ray.get(reading.popleft())


def _of_one_model(expected: str, fingerprint: str, keys: Sequence[PassageKeys]) -> Sequence[PassageKeys]:
    if fingerprint != expected:
        raise IndexMismatchError(
            f"the workers have loaded models with fingerprints {expected[:12]} and {fingerprint[:12]}: let load_engine "
            "load the same weights everywhere"
        )
    return keys
