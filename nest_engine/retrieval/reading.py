"""Read files and folders into passages; what cannot be read is reported, and the rest is kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

from nest_engine.errors import InputError, MissingDependencyError, NestError
from nest_engine.records import Passage
from nest_engine.retrieval.document import Document, Skipped
from nest_engine.retrieval.formats import SourceFile, parse
from nest_engine.retrieval.progress import Progress, ignore
from nest_engine.retrieval.source_files import Paths, find_files
from nest_engine.retrieval.splitting import (
    CountTokens,
    check_max_tokens,
    estimate_tokens,
    split_document,
)

MAX_BYTES = 64 * 1024 * 1024
"""Default maximum size of a document, in bytes of its file."""


@dataclass(frozen=True)
class ReadResult:
    """What was read, and what was not.

    Args:
        passages: the passages in the order of the paths; within a folder by name, files before
            subfolders.
        skipped: files, folders, lines and pages that were left out, each with the reason.
    """

    passages: list[Passage]
    skipped: list[Skipped]


def read_passages(
    paths: Paths,
    *,
    max_tokens: int = 200,
    count_tokens: CountTokens = estimate_tokens,
    max_bytes: int = MAX_BYTES,
    progress: Progress | None = None,
) -> ReadResult:
    """Read ``.txt``, ``.md``, ``.html``, ``.htm``, ``.pdf`` and ``.jsonl`` files into passages.

    Args:
        paths: a file or folder, or several.
        max_tokens: a passage has fewer tokens than this (paper: 200).
        count_tokens: counts the tokens of a text; by default an estimate on the high side.
        max_bytes: skip larger documents.
        progress: called with the number of bytes read.

    Returns:
        The passages, and what could not be read.

    Raises:
        ConfigError: if ``max_tokens`` is below 2.
        InputError: if a path does not exist, or nothing at all could be read.
        MissingDependencyError: if a file needs a library that is not installed.
    """
    check_max_tokens(max_tokens)
    passages: list[Passage] = []
    skipped: list[Skipped] = []
    for item in read_documents(paths, max_bytes=max_bytes, progress=progress):
        if isinstance(item, Skipped):
            skipped.append(item)
        else:
            passages.extend(split_document(item, max_tokens=max_tokens, count_tokens=count_tokens))
    if not passages:
        reasons = (
            "; ".join(f"{path}: {reason}" for path, reason in skipped[:3]) or "the folder is empty"
        )
        named = ", ".join(map(str, [paths] if isinstance(paths, (str, os.PathLike)) else paths))
        raise InputError(f"no readable document in {named} ({len(skipped)} skipped): {reasons}")
    return ReadResult(passages, skipped)


def read_documents(
    paths: Paths, *, max_bytes: int = MAX_BYTES, progress: Progress | None = None
) -> Iterator[Document | Skipped]:
    """Read documents one by one, reporting in between what was left out.

    Args:
        paths: a file or folder, or several.
        max_bytes: skip larger documents.
        progress: called with the number of bytes read.

    Returns:
        An iterator over documents, whose ids are unique, and what was left out. Of several texts
        under one id, the second gets ``~2`` behind it, and so on.

    Raises:
        InputError: if a path does not exist.
        MissingDependencyError: while iterating, if a file needs a library that is not installed.
    """
    files, skipped = find_files(paths, max_bytes)
    return _read_all(files, skipped, progress or ignore)


def _read_all(
    files: list[SourceFile], skipped: list[Skipped], progress: Progress
) -> Iterator[Document | Skipped]:
    yield from skipped
    ids: dict[str, set[bytes]] = {}
    done, total = 0, sum(file.size for file in files)
    for file in files:
        for position, item in _read(file):
            yield item if isinstance(item, Skipped) else _identified(item, ids)
            progress(done + min(position, file.size), total)
        done += file.size
        progress(done, total)


def _identified(document: Document, ids: dict[str, set[bytes]]) -> Document | Skipped:
    """Return a document under an id of its own, unless it has been read before.

    Args:
        document: the document.
        ids: checksums of the texts that came with each id so far, or have it; its own is added.
    """
    checksums = ids.setdefault(document.id, set())
    checksum = hashlib.sha256(document.text.encode()).digest()
    if checksum in checksums:
        return Skipped(
            document.place, f"an earlier document has the id {document.id!r} and the same text"
        )
    checksums.add(checksum)
    number = len(checksums)
    if number == 1:
        return document
    while (name := f"{document.id}~{number}") in ids:
        number += 1
    ids[name] = {checksum}
    return replace(document, id=name)


def _read(file: SourceFile) -> Iterator[tuple[int, Document | Skipped]]:
    """Yield the documents of a file, each with the position up to which the file has been read."""
    is_empty = True
    try:
        with file.path.open("rb") as stream:
            for item in parse(stream, file):
                is_empty = False
                yield stream.tell(), item
        if is_empty:
            raise InputError("holds no text")
    except MissingDependencyError:
        raise
    except NestError as error:
        yield file.size, Skipped(file.source, str(error))
    except OSError as error:
        yield file.size, Skipped(file.source, error.strerror or str(error))
    except Exception as error:  # the parsing libraries let any error of a damaged file through
        yield (
            file.size,
            Skipped(
                file.source, f"damaged or not what its name says: {type(error).__name__}: {error}"
            ),
        )
