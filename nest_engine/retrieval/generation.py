"""Versions of an index directory: a reader sees the old or the new one, never a mixture.

::

    INDEX/
        CURRENT                one line: name of the generation in use, SHA-256 of its manifest
        generation-1f0c.../    a complete index, never changed once CURRENT names it
            manifest.json      settings; size and SHA-256 of every other file
            ...
        .lock                  held while an index is built

A build writes a new generation, flushes it to disk, and only then replaces ``CURRENT``, which is
atomic. A build killed at any moment leaves the previous generation in use; the next build removes
what it wrote.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from nest_engine._file_lock import hold
from nest_engine.errors import CorruptIndexError, PassageIndexError
from nest_engine.retrieval.manifest import FileRecord, Manifest, sha256_of

T = TypeVar("T")
_POINTER, _MANIFEST, _LOCK = "CURRENT", "manifest.json", ".lock"
_NAME = re.compile(r"generation-[0-9a-f]{16}")
_POINTER_LINE = re.compile(rf"({_NAME.pattern}) ([0-9a-f]{{64}})\n")


@dataclass(frozen=True)
class Generation:
    """One complete version of an index.

    Args:
        directory: folder of its files.
        manifest: description of its files.
    """

    directory: Path
    manifest: Manifest

    def check(self, *, contents: bool) -> None:
        """Compare the files with the manifest.

        Args:
            contents: compare their contents too, not only their names and sizes.

        Raises:
            CorruptIndexError: if a file is missing, differs or is not listed.
        """
        unlisted = {path.name for path in self.directory.iterdir()} - {
            _MANIFEST,
            *self.manifest.files,
        }
        if unlisted:
            raise CorruptIndexError(
                f"{self.directory / min(unlisted)} is not in the manifest; rebuild the index"
            )
        for name, record in self.manifest.files.items():
            record.check(self.directory / name, contents=contents)


def with_current(root: Path, use: Callable[[Generation], T]) -> T:
    """Apply a function to the generation in use, and again if a build replaces it meanwhile.

    Raises:
        PassageIndexError: if there is no index.
        CorruptIndexError: if the pointer, the manifest or, as ``use`` finds, another file is
            damaged.
    """
    while True:
        pointer = _read_pointer(root)
        try:
            return use(_load(root, *pointer))
        except (CorruptIndexError, FileNotFoundError):
            if _read_pointer(root) == pointer:
                raise


def _load(root: Path, name: str, expected_sha256: str) -> Generation:
    path = root / name / _MANIFEST
    if path.parent.is_symlink() or path.is_symlink():
        raise CorruptIndexError(f"{path} is reached through a symbolic link; rebuild the index")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorruptIndexError(f"{path} cannot be read ({error}); rebuild the index") from error
    if (found := sha256(data).hexdigest()) != expected_sha256:
        raise CorruptIndexError(
            f"{path} has SHA-256 {found}, expected {expected_sha256}; rebuild the index"
        )
    return Generation(path.parent, Manifest.from_json(data, path))


@contextmanager
def building(root: Path) -> Iterator[Path]:
    """Provide a fresh directory for the files of a generation, and clean up in any case.

    Args:
        root: directory of the index; created if needed.

    Raises:
        PassageIndexError: if ``root`` holds something else, another build is running, or writing
            fails.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        _refuse_foreign(root)
        with hold(root / _LOCK, f"the index {root}"):
            try:
                directory = root / f"generation-{secrets.token_hex(8)}"
                directory.mkdir()
                yield directory
            finally:
                _remove_unused(root)
    except OSError as error:
        raise PassageIndexError(
            f"the index {root} cannot be written ({error}); an index that was there before, if "
            f"any, is still in use"
        ) from error


def flush(directory: Path) -> dict[str, FileRecord]:
    """Force all files of a new generation to disk and measure them."""
    paths = sorted(directory.iterdir())
    for path in paths:
        _fsync(path)
    return {path.name: FileRecord.of(path) for path in paths}


def publish(directory: Path, manifest: Manifest) -> None:
    """Switch to a generation whose files are flushed."""
    root, path = directory.parent, directory / _MANIFEST
    path.write_bytes(manifest.to_json())
    _fsync(path)
    _fsync(directory)
    pointer = directory / _POINTER  # near its final place, on the same file system
    pointer.write_text(f"{directory.name} {sha256_of(path)}\n", encoding="ascii", newline="\n")
    _fsync(pointer)
    os.replace(pointer, root / _POINTER)
    _fsync(root)


def _fsync(path: Path) -> None:
    if path.is_dir():
        if os.name != "posix":
            return  # only POSIX can open a directory
        descriptor = os.open(path, os.O_RDONLY)
    else:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_pointer(root: Path) -> tuple[str, str]:
    path = root / _POINTER
    try:
        line = path.read_bytes()[:200].decode("ascii", "replace")
    except FileNotFoundError as error:
        raise PassageIndexError(
            f"there is no passage index at {root}; build one with: nest index build DIR --out "
            f"{root}"
        ) from error
    except OSError as error:
        raise PassageIndexError(f"the passage index {root} cannot be read: {error}") from error
    match = _POINTER_LINE.fullmatch(line)
    if not match or path.is_symlink():
        raise CorruptIndexError(
            f"{path} holds {line[:100]!r}, which names no generation; rebuild the index"
        )
    return match[1], match[2]


def _remove_unused(root: Path) -> None:
    """Remove every generation not in use: the previous one, and what killed builds left."""
    try:
        current, _ = _read_pointer(root)
    except CorruptIndexError:
        return  # unknown what is in use
    except PassageIndexError:
        current = ""
    for path in root.iterdir():
        if _NAME.fullmatch(path.name) and path.name != current:
            # Some systems forbid this while a reader has the files open.
            shutil.rmtree(path, ignore_errors=True)


def _refuse_foreign(root: Path) -> None:
    """Refuse directories that hold something else, such as the documents themselves."""
    if (root / _POINTER).exists():
        return
    foreign = [
        path.name
        for path in root.iterdir()
        if path.name != _LOCK and not _NAME.fullmatch(path.name)
    ]
    if foreign:
        raise PassageIndexError(
            f"{root} holds other files, such as {min(foreign)!r}; give the index a directory of "
            f"its own"
        )
