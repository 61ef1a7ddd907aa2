"""ZIP archives that hold documents, without those that unpack to more than they should."""

from __future__ import annotations

import zipfile
from typing import BinaryIO

from nest_engine.errors import InputError

_MOST_TEXT = 32 << 20  # bytes of markup: a long book has a few million


def open_archive(stream: BinaryIO) -> zipfile.ZipFile:
    """Open an archive.

    Raises:
        InputError: if it is none, or its markup is too large.
    """
    try:
        archive = zipfile.ZipFile(stream)
    except zipfile.BadZipFile as error:
        raise InputError(f"damaged or not what its name says: {error}") from error
    size = sum(
        each.file_size
        for each in archive.infolist()
        if each.filename.lower().endswith(
            (".xml", ".rels", ".html", ".xhtml", ".htm", ".opf", ".css")
        )
    )
    if size > _MOST_TEXT:
        raise InputError(f"unpacks to {size:,} bytes of markup, more than {_MOST_TEXT:,}; split it")
    return archive
