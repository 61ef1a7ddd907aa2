"""Passage keys on disk: computed once for an index, memory-mapped by every process that uses them.

A folder holds the keys of one model, in files that only grow while they are built:

    manifest.json   fingerprint of the model, number format, width
    passages.bin    one record for each passage, written after all that it points to
    tokens.bin      id and character offsets of each token
    keys.bin        one row for each key
    scales.bin      int8 only: one factor for each key

A build that was killed resumes after its last complete record.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from nest_engine._file_lock import hold
from nest_engine.datastore.passage_keys import PassageKeys, encode_passages
from nest_engine.errors import (
    ConfigError,
    CorruptIndexError,
    IndexMismatchError,
    InputError,
    PassageIndexError,
)
from nest_engine.interfaces import LanguageModel, TokenizedPassage
from nest_engine.records import Passage

KeyFormat = Literal["fp16", "int8"]
KEY_FORMATS: tuple[KeyFormat, ...] = get_args(KeyFormat)

_VERSION = 1
_MANIFEST = "manifest.json"
_BATCH = 64  # passages encoded together; a kill loses no more
_DISCARD = "remove the folder and build the keys again"
_RECORD = np.dtype(
    [("digest", "V16"), ("token", "<u8"), ("key", "<u8"), ("num_tokens", "<u4"), ("first", "<u4")],
    align=True,
)
_DTYPES: dict[str, type[np.generic]] = {"fp16": np.float16, "int8": np.int8}

Encode = Callable[[Iterator[Sequence[Passage]]], Iterator[Sequence[PassageKeys]]]
"""Maps batches of passages to the keys of each batch, in the same order."""


def require_key_format(key_format: str) -> None:
    """Raise ``ConfigError`` unless keys can be stored in this format."""
    if key_format not in KEY_FORMATS:
        raise ConfigError(
            f"key_format={key_format!r} is not valid: expected {' or '.join(KEY_FORMATS)}"
        )


def keys_folder(index: Path) -> Path:
    """Return the folder in which a passage index keeps its keys."""
    return index / "keys"


class KeyStore:
    """Keys of passages in a folder. Safe to share between threads. Created by `build` or `open`.

    ``fp16`` stores two bytes for each number of a key, ``int8`` one, scaled by the key's largest
    number.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.fingerprint: str = manifest["fingerprint"]
        self.format: KeyFormat = manifest["format"]
        self.width: int = manifest["width"]
        self._records = _read_records(folder)
        self._tokens = _map(folder / "tokens.bin", np.dtype("<i4"), 3)
        self._keys = _map(folder / "keys.bin", np.dtype(_DTYPES[self.format]), self.width)
        self._scales = (
            _map(folder / "scales.bin", np.dtype("<f4"), 1) if self.format == "int8" else None
        )
        num_keys, num_tokens = _ends(self._records)
        held = min(
            len(self._keys), len(self._scales) if self._scales is not None else len(self._keys)
        )
        if num_keys > held or num_tokens > len(self._tokens):
            raise CorruptIndexError(
                f"the keys in {folder} are cut off: {num_keys} are recorded and {held} are there; "
                f"{_DISCARD}"
            )
        self._numbers = {digest: number for number, digest in enumerate(_digests(self._records))}

    def __len__(self) -> int:
        """Return the number of passages whose keys are held."""
        return len(self._records)

    @property
    def nbytes(self) -> int:
        """Size of the folder's files in bytes."""
        return sum(path.stat().st_size for path in self.folder.glob("*.bin"))

    @classmethod
    def build(
        cls,
        folder: str | os.PathLike[str],
        language_model: LanguageModel,
        passages: Sequence[Passage],
        *,
        key_format: KeyFormat = "fp16",
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> KeyStore:
        """Compute the keys of passages and store them in a folder.

        Keys that the folder already holds for the same model and format are not computed again:
        a killed build resumes, and for an index that has grown only the new passages are computed.
        Keys of another model are replaced.

        Args:
            folder: created if needed.
            language_model: computes the keys.
            passages: the passages.
            key_format: ``fp16`` or ``int8``.
            progress: called with the number of passages done and their total.

        Raises:
            ConfigError: if the format is unknown.
            InputError: if there are no passages, a key does not fit the format, or the disk is too
                small.
            PassageIndexError: if another process is building here.
        """

        def encode(batches: Iterator[Sequence[Passage]]) -> Iterator[list[PassageKeys]]:
            return (encode_passages(language_model, batch) for batch in batches)

        return cls.write(
            folder,
            language_model.fingerprint,
            encode,
            passages,
            key_format=key_format,
            progress=progress,
        )

    @classmethod
    def write(
        cls,
        folder: str | os.PathLike[str],
        fingerprint: str,
        encode: Encode,
        passages: Sequence[Passage],
        *,
        key_format: KeyFormat = "fp16",
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> KeyStore:
        """Store keys that are computed elsewhere, for example by several workers.

        Otherwise as :meth:`build`.

        Args:
            folder: as for :meth:`build`.
            fingerprint: fingerprint of the model that computes the keys.
            encode: computes the keys; it may read a few batches ahead of what it returns.
            passages: as for :meth:`build`.
            key_format: as for :meth:`build`.
            progress: as for :meth:`build`.

        Raises:
            ConfigError: if the format is unknown.
            InputError: if there are no passages, a key does not fit the format, or the disk is too
                small.
            PassageIndexError: if another process is building here.
        """
        require_key_format(key_format)
        if not passages:
            raise InputError("there are no passages; give those whose keys shall be kept")
        root = Path(folder)
        root.mkdir(parents=True, exist_ok=True)
        with hold(root / ".lock", f"the keys in {root}"):
            held = _prepare(root, fingerprint, key_format)
            missing = []
            for number, passage in enumerate(passages):
                if (digest := _digest(passage)) not in held:
                    held.add(digest)
                    missing.append(number)
            done = len(passages) - len(missing)
            progress(done, len(passages))
            batches = [missing[start : start + _BATCH] for start in range(0, len(missing), _BATCH)]
            with _Writer(root, key_format) as writer:
                encoded = encode([passages[number] for number in batch] for batch in batches)
                for batch, keys in zip(batches, encoded, strict=True):
                    if not (root / _MANIFEST).exists():
                        _write_manifest(root, fingerprint, key_format, keys[0].keys_TD.shape[1])
                    writer.append([_digest(passages[number]) for number in batch], keys)
                    if batch is batches[0]:
                        writer.require_space(len(missing) - len(batch))
                    done += len(batch)
                    progress(done, len(passages))
        return cls.open(root)

    @classmethod
    def open(
        cls, folder: str | os.PathLike[str], *, language_model: LanguageModel | None = None
    ) -> KeyStore:
        """Open keys that were built before.

        Args:
            folder: folder of the keys.
            language_model: the model that will search them; None skips the comparison.

        Raises:
            PassageIndexError: if there are none.
            IndexMismatchError: if they were computed by another model.
            CorruptIndexError: if a file is damaged.
        """
        root = Path(folder)
        manifest = _read_manifest(root)
        if manifest is None:
            raise PassageIndexError(
                f"there are no keys at {root}; build them: nest index build DIR --out INDEX --keys "
                f"fp16"
            )
        if language_model is not None and manifest["fingerprint"] != language_model.fingerprint:
            raise IndexMismatchError(
                f"the keys in {root} were computed by a model with fingerprint "
                f"{manifest['fingerprint'][:12]}, and "
                f"this one has {language_model.fingerprint[:12]}: build them with this model"
            )
        return cls(root, manifest)

    def get(
        self, model: str, passage: Passage, device: torch.device | str = "cpu"
    ) -> PassageKeys | None:
        """Return the keys of a passage, or None when they are not held.

        Args:
            model: fingerprint of the model.
            passage: the passage.
            device: device for the keys.

        Returns:
            the keys in the store's precision, int8 as float32; the tokens before the text are not
            stored.
        """
        number = self._numbers.get(_digest(passage)) if model == self.fingerprint else None
        if number is None:
            return None
        record = self._records[number]
        tokens_T3 = self._tokens[record["token"] :][: record["num_tokens"]]
        rows = slice(
            int(record["key"]),
            int(record["key"]) + int(record["num_tokens"]) - int(record["first"]),
        )
        keys_TD = torch.from_numpy(np.array(self._keys[rows])).to(device)
        if self._scales is not None:
            keys_TD = keys_TD.float() * torch.from_numpy(np.array(self._scales[rows])).to(device)
        token_ids, starts, ends = (tuple(column.tolist()) for column in tokens_T3.T)
        return PassageKeys(
            TokenizedPassage((), token_ids, starts, ends), int(record["first"]), keys_TD
        )


class _Writer:
    """Append passages: first their tokens and keys; once those are on disk, their records."""

    def __init__(self, folder: Path, key_format: KeyFormat) -> None:
        self._folder = folder
        self._format = key_format
        names = ["tokens", "keys", "passages", *(["scales"] if key_format == "int8" else [])]
        self._files = {name: (folder / f"{name}.bin").open("ab") for name in names}
        self._next_key, self._next_token = _ends(_read_records(folder))
        self._written = self._passages = 0

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *exception: object) -> None:
        for file in self._files.values():
            file.close()

    def append(self, digests: Sequence[bytes], keys: Sequence[PassageKeys]) -> None:
        """Write passages to disk; killed at any moment, it leaves whole records or none."""
        records = np.zeros(len(digests), _RECORD)
        for record, digest, held in zip(records, digests, keys, strict=True):
            tokens, keys_TD = held.tokens, held.keys_TD
            columns = np.array([tokens.token_ids, tokens.starts, tokens.ends], dtype="<i4")
            self._files["tokens"].write(columns.T.tobytes())
            self._write_keys(keys_TD.float().cpu().numpy())
            record["digest"] = np.void(digest)
            record["token"], record["num_tokens"] = self._next_token, len(tokens.token_ids)
            record["key"], record["first"] = self._next_key, held.first
            self._next_token += len(tokens.token_ids)
            self._next_key += len(keys_TD)
            self._written += keys_TD.numel() * np.dtype(_DTYPES[self._format]).itemsize
            self._passages += 1
        for name, file in self._files.items():
            if name != "passages":
                _flush(file)
        self._files["passages"].write(records.tobytes())
        _flush(self._files["passages"])

    def require_space(self, remaining: int) -> None:
        """Raise if the disk cannot hold the remaining passages, judging by those written so far."""
        needed = self._written / self._passages * remaining
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise InputError(
                f"the keys of {remaining} more passages need about {needed / 1e9:.1f} GB and "
                f"{self._folder} has "
                f"{free / 1e9:.1f} GB free: index fewer passages, or use int8"
            )

    def _write_keys(self, keys_TD: NDArray[np.float32]) -> None:
        if self._format == "int8":
            scales_T1 = np.abs(keys_TD).max(-1, keepdims=True, initial=1e-12) / 127
            self._files["scales"].write(scales_T1.astype("<f4").tobytes())
            self._files["keys"].write(np.rint(keys_TD / scales_T1).astype(np.int8).tobytes())
            return
        if keys_TD.size and np.abs(keys_TD).max() > np.finfo(np.float16).max:
            raise InputError("a key of this model exceeds the range of fp16: use int8")
        self._files["keys"].write(keys_TD.astype("<f2").tobytes())


def _digest(passage: Passage) -> bytes:
    return hashlib.blake2b(f"{passage.title}\0{passage.text}".encode(), digest_size=16).digest()


def _digests(records: NDArray[np.void]) -> list[bytes]:
    return [digest.tobytes() for digest in records["digest"]]


def _prepare(folder: Path, fingerprint: str, key_format: str) -> set[bytes]:
    """Prepare a folder for appending and return the digests of the passages that it holds."""
    manifest = _read_manifest(folder)
    if manifest is None or (manifest["fingerprint"], manifest["format"]) != (
        fingerprint,
        key_format,
    ):
        (folder / _MANIFEST).unlink(missing_ok=True)  # first: without it, the rest does not count
        for path in folder.glob("*.bin"):
            path.unlink()
        return set()
    records = _read_records(folder)
    num_keys, num_tokens = _ends(records)
    width = manifest["width"] * np.dtype(_DTYPES[key_format]).itemsize
    sizes = {
        "passages": len(records) * _RECORD.itemsize,
        "tokens": num_tokens * 12,
        "keys": num_keys * width,
    }
    if key_format == "int8":
        sizes["scales"] = num_keys * 4
    for name, size in sizes.items():
        path = folder / f"{name}.bin"
        found = path.stat().st_size if path.exists() else 0
        if found < size:
            raise CorruptIndexError(
                f"{path} has {found} bytes, at least {size} are recorded; {_DISCARD}"
            )
        if found > size:  # what was being written when the last build was killed
            os.truncate(path, size)
    return set(_digests(records))


def _ends(records: NDArray[np.void]) -> tuple[int, int]:
    """Return how many keys and tokens the records point to."""
    if not len(records):
        return 0, 0
    last = records[-1]
    return int(last["key"] + last["num_tokens"] - last["first"]), int(
        last["token"] + last["num_tokens"]
    )


def _read_records(folder: Path) -> NDArray[np.void]:
    path = folder / "passages.bin"
    data = path.read_bytes() if path.exists() else b""
    return np.frombuffer(data[: len(data) // _RECORD.itemsize * _RECORD.itemsize], _RECORD)


def _map(path: Path, dtype: np.dtype[Any], width: int) -> NDArray[Any]:
    """Map the complete rows of a file into memory."""
    try:
        rows = path.stat().st_size // (dtype.itemsize * width)
    except OSError as error:
        raise CorruptIndexError(f"{path} cannot be read ({error}); {_DISCARD}") from error
    if rows == 0:
        return np.empty((0, width), dtype)
    return np.memmap(path, dtype, mode="r", shape=(rows, width))


def _write_manifest(folder: Path, fingerprint: str, key_format: str, width: int) -> None:
    manifest = {
        "version": _VERSION,
        "fingerprint": fingerprint,
        "format": key_format,
        "width": width,
    }
    partial = folder / "manifest.partial"
    partial.write_text(json.dumps(manifest) + "\n", encoding="utf-8")
    partial.replace(folder / _MANIFEST)


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    path = folder / _MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if (
            manifest["version"] != _VERSION
            or manifest["format"] not in KEY_FORMATS
            or manifest["width"] < 1
        ):
            raise ValueError(f"holds {manifest}")
        return {**manifest, "fingerprint": str(manifest["fingerprint"])}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptIndexError(f"{path} is damaged ({error}); {_DISCARD}") from error


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
