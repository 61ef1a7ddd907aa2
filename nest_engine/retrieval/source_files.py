"""Find the files to read at the paths that a user gives."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from nest_engine.errors import InputError
from nest_engine.retrieval.document import Skipped
from nest_engine.retrieval.formats import PARSERS, SourceFile

StrPath = str | os.PathLike[str]
Paths = StrPath | Sequence[StrPath]


def find_files(paths: Paths, max_bytes: int) -> tuple[list[SourceFile], list[Skipped]]:
    """List the readable files at the given paths, each once, with the contents of folders.

    ``SourceFile.source`` is relative to the folder if a single folder is given, and otherwise the
    path as given, so that it is unique.

    Args:
        paths: files and folders.
        max_bytes: carried into the result.

    Returns:
        The files, in the order of the paths and by name within a folder; and what was left out:
        other types, hidden files, links that lead out of their folder.

    Raises:
        InputError: if a path does not exist, or none is given.
    """
    given = [Path(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
    if not given:
        raise InputError("no path to read; give at least one file or folder")
    root = given[0] if len(given) == 1 and given[0].is_dir() else None
    files: dict[Path, SourceFile] = {}
    skipped: list[Skipped] = []
    for path, reason in _found(given):
        source = path.relative_to(root).as_posix() if root else path.as_posix()
        try:
            if reason := reason or _unreadable(path):
                skipped.append(Skipped(source, reason))
            else:
                files.setdefault(
                    path.resolve(), SourceFile(path, source, path.stat().st_size, max_bytes)
                )
        except OSError as error:
            skipped.append(Skipped(source, error.strerror or str(error)))
    return list(files.values()), skipped


def _found(given: Sequence[Path]) -> Iterator[tuple[Path, str | None]]:
    """Yield paths, each with None or the reason for not opening it."""
    for path in given:
        if not path.exists():
            raise InputError(f"{path} does not exist; give a file or folder to read")
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path, None


def _walk(root: Path) -> Iterator[tuple[Path, str | None]]:
    inside = root.resolve()
    failed: list[OSError] = []
    for folder, folders, names in os.walk(root, onerror=failed.append):
        for name in sorted(folders + names):
            path = Path(folder, name)
            if name.startswith("."):
                yield path, "hidden"
            elif path.is_symlink() and _leads_out(path, inside):
                yield path, f"symbolic link that leads out of {root}, or in a circle"
            elif name in names:
                yield path, None
            elif is_index(path):
                yield path, "a passage index, not a document"
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and not is_index(Path(folder, name))
        )
    yield from ((Path(error.filename), error.strerror) for error in failed)


def is_index(path: Path) -> bool:
    """Return whether a folder is a passage index, judging by its contents."""
    return (path / "CURRENT").is_file() and any(path.glob("generation-*/manifest.json"))


def _leads_out(link: Path, folder: Path) -> bool:
    try:
        return not link.resolve().is_relative_to(folder)
    # Python up to 3.12 raises RuntimeError for a circle, later versions do not.
    except (OSError, RuntimeError):
        return True


def _unreadable(path: Path) -> str | None:
    """Return why a file cannot be read, as far as can be told without opening it."""
    if path.suffix.lower() not in PARSERS:
        return f"files of type {path.suffix!r} are not supported; known types: {', '.join(PARSERS)}"
    return None if path.is_file() else "not a regular file, or a link to nothing"
