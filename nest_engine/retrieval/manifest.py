"""The contents of an index on disk: its settings, and the size and checksum of every file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any

from nest_engine.errors import CorruptIndexError, IndexMismatchError

FORMAT_VERSION = 2  # 2: terms of any language
_CHUNK = 1 << 20


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256, in hexadecimal, of a file."""

    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        """Measure a file."""
        return cls(path.stat().st_size, sha256_of(path))

    def check(self, path: Path, *, contents: bool) -> None:
        """Compare a file with this record.

        Args:
            path: the file; it must be a regular one, not a link.
            contents: compare the checksum too, which reads the whole file (about 1 GB/s); otherwise
                only the size.

        Raises:
            CorruptIndexError: if it is missing or differs.
        """
        try:
            status = path.lstat()
            if not S_ISREG(status.st_mode):
                raise CorruptIndexError(f"{path} is not a regular file; rebuild the index")
            if status.st_size != self.size:
                raise CorruptIndexError(
                    f"{path} has {status.st_size} bytes, expected {self.size}; rebuild the index"
                )
            if contents and (found := sha256_of(path)) != self.sha256:
                raise CorruptIndexError(
                    f"{path} has SHA-256 {found}, expected {self.sha256}; rebuild the index"
                )
        except OSError as error:
            raise CorruptIndexError(
                f"{path} cannot be read ({error}); rebuild the index"
            ) from error


@dataclass(frozen=True)
class Manifest:
    """Description of an index.

    Args:
        created: when it was built, ISO 8601 in UTC.
        num_passages: number of passages.
        sparse: settings of the keyword search.
        dense: ``embedder``, ``fingerprint`` and ``dimension`` of the vectors; None without vectors.
        files: record of every file, by its plain name.
    """

    created: str
    num_passages: int
    sparse: Mapping[str, Any]
    dense: Mapping[str, Any] | None
    files: Mapping[str, FileRecord]

    def to_json(self) -> bytes:
        """Return the text of the manifest file."""
        return json.dumps({"format_version": FORMAT_VERSION} | asdict(self), indent=2).encode(
            "utf-8"
        )

    @classmethod
    def from_json(cls, data: bytes, path: Path) -> Manifest:
        """Parse a manifest file.

        Args:
            data: its content.
            path: its location, for messages.

        Raises:
            CorruptIndexError: if it is malformed or names a file outside the index.
            IndexMismatchError: if it has another format version.
        """
        try:
            fields = json.loads(data)
            version = fields.pop("format_version")
            if version == FORMAT_VERSION:
                if (dense := fields["dense"]) is not None:
                    fields["dense"] = {
                        key: dense[key] for key in ("embedder", "fingerprint", "dimension")
                    }
                fields["files"] = {
                    _plain(name): FileRecord(**record) for name, record in fields["files"].items()
                }
                return cls(**fields)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CorruptIndexError(f"{path} is malformed ({error}); rebuild the index") from error
        raise IndexMismatchError(
            f"{path} has format version {version}, this release reads version {FORMAT_VERSION}; "
            f"rebuild the index"
        )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _plain(name: str) -> str:
    """Refuse a name that could lead out of the index: a path, ``..`` or an absolute name."""
    if name in ("", ".", "..") or any(character in name for character in "/\\:\0"):
        raise ValueError(f"it names the file {name!r}, which is not a plain file name")
    return name
