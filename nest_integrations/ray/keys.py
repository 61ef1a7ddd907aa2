"""Passage keys computed by many workers, in the same store that one process would write."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray

from nest_engine import IndexMismatchError, KeyStore, Passage
from nest_engine._validation import require_count
from nest_engine.datastore.key_store import KeyFormat, require_key_format
from nest_engine.datastore.passage_keys import PassageKeys, encode_passages
from nest_integrations.ray.loading import LoadEngine, loaded, require_loader

_MAX_BATCHES = 2  # of a worker: the one it reads, and the next
_RESTARTS = 3  # of a worker that has died; its batches are read again


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
    """Compute the keys of passages on several workers, and write them to this process's disk.

    The folder is the same that ``KeyStore.build`` would have written. A killed build resumes, and
    an index that has grown costs its new passages only.

    Args:
        folder: where the keys go, created if missing; ``INDEX/keys`` for an index of
            ``nest index build``.
        load_engine: returns the engine whose model computes the keys; called once in each worker.
        passages: the passages.
        num_workers: number of workers; each holds the model. Those without room in the cluster do
            not start.
        key_format: ``fp16`` or ``int8``.
        progress: called with the number of passages done and their total.
        ray_actor_options: what each worker needs, such as ``{"num_gpus": 1}``; one CPU when left
            out.

    Returns:
        the opened store.

    Raises:
        ConfigError: if an argument is not valid.
        IndexMismatchError: if the workers have loaded different models.
        InputError: if there are no passages, a key does not fit the format, or the disk is too
            small.
        PassageIndexError: if another process is building here.
        ray.exceptions.RayError: if a worker cannot load its engine, loads something else, or dies
            more than three times.
    """
    require_loader(load_engine)
    require_count("num_workers", num_workers)
    require_key_format(key_format)
    options = {"num_cpus": 1, "max_restarts": _RESTARTS, "max_task_retries": _RESTARTS} | dict(
        ray_actor_options or {}
    )
    worker: Any = ray.remote(_Reader).options(**options)
    readers: list[Any] = [worker.remote(load_engine) for _ in range(num_workers)]
    try:
        starting = {reader.fingerprint.remote(): reader for reader in readers}
        first, _ = ray.wait(list(starting))
        fingerprint: str = ray.get(first[0])

        def encode(batches: Iterator[Sequence[Passage]]) -> Iterator[Sequence[PassageKeys]]:
            return (_of_one_model(fingerprint, *read) for read in _distribute(starting, batches))

        return KeyStore.write(
            folder, fingerprint, encode, passages, key_format=key_format, progress=progress
        )
    finally:
        for reader in readers:
            ray.kill(reader)


class _Reader:
    """A worker that holds a model and computes keys with it.

    Args:
        load_engine: loads it.
    """

    def __init__(self, load_engine: LoadEngine) -> None:
        self._model = loaded(load_engine).language_model

    def fingerprint(self) -> str:
        """Return the fingerprint of the model."""
        return self._model.fingerprint

    def keys(self, passages: Sequence[Passage]) -> tuple[str, list[PassageKeys]]:
        """Return the model's fingerprint and the keys of passages, in main memory."""
        keys = encode_passages(self._model, passages)
        return self._model.fingerprint, [replace(key, keys_TD=key.keys_TD.cpu()) for key in keys]


def _distribute(
    starting: dict[Any, Any], batches: Iterator[Sequence[Passage]]
) -> Iterator[tuple[str, list[PassageKeys]]]:
    """Let workers read batches as soon as they have started; yield the results in order.

    Args:
        starting: workers by the future that resolves once they have started; one has. A worker
            without room in the cluster may never start.
        batches: what to read.
    """
    started: dict[Any, int] = {}  # number of batches of each
    reading: deque[tuple[Any, Any]] = deque()

    def check_started() -> None:
        ready, _ = (
            ray.wait(list(starting), num_returns=len(starting), timeout=0)
            if starting
            else ([], None)
        )
        for answer in ready:
            started[starting.pop(answer)] = 0

    def finished() -> tuple[str, list[PassageKeys]]:
        result, worker = reading.popleft()
        read: tuple[str, list[PassageKeys]] = ray.get(result)
        started[worker] -= 1
        return read

    for batch in batches:
        check_started()
        while min(started.values()) == _MAX_BATCHES:
            yield finished()
            check_started()
        worker = min(started, key=started.__getitem__)
        reading.append((worker.keys.remote(batch), worker))
        started[worker] += 1
    while reading:
        yield finished()


def _of_one_model(
    expected: str, fingerprint: str, keys: Sequence[PassageKeys]
) -> Sequence[PassageKeys]:
    if fingerprint != expected:
        raise IndexMismatchError(
            f"the workers have loaded models with fingerprints {expected[:12]} and "
            f"{fingerprint[:12]}: let load_engine "
            "load the same weights everywhere"
        )
    return keys
