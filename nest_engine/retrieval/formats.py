"""Read the documents in a file, by its type; HTML with Beautiful Soup, PDF with pypdf.

Each function takes an open file and yields its documents, and what it had to leave out. Text,
Markdown and JSON lines are decoded as UTF-8 and otherwise unchanged; only a byte order mark at the
start, which says how to decode, is not part of the text. Bytes that do not decode are an error:
nothing is replaced.
"""

from __future__ import annotations

import codecs
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NoReturn

from nest_engine._optional import require
from nest_engine.errors import InputError
from nest_engine.retrieval.document import Document, Skipped
from nest_engine.retrieval.web_page import declared_encoding, parse_markup, visible_text

_MAX_TITLE = 300


@dataclass(frozen=True)
class SourceFile:
    """A file to read.

    Args:
        path: path of the file.
        source: its path relative to the folder that is read.
        size: its size in bytes.
        max_bytes: maximum size of a document in bytes.
    """

    path: Path
    source: str
    size: int
    max_bytes: int

    def document(self, text: str, title: str = "", **details: Any) -> Document:
        """Make a document from this file; its title defaults to the name of the file.

        Raises:
            InputError: if there is no text, or it contains lone surrogates.
        """
        if not text.strip():
            raise InputError("holds no text")
        fields = {"id": self.source, "uri": str(self.path)} | details
        title = " ".join(title[:_MAX_TITLE].split()) or self.path.stem
        try:
            json.dumps([text, title, self.source, fields], ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"name or content holds a lone surrogate {error.object[error.start]!r}, which is "
                f"not text"
            ) from error
        return Document(text, title, source=self.source, **fields)


def parse_text(stream: BinaryIO, file: SourceFile) -> Iterator[Document]:
    """Read plain text."""
    yield file.document(_decode(stream.read()))


_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(\S[^\r\n]*)", re.MULTILINE)


def parse_markdown(stream: BinaryIO, file: SourceFile) -> Iterator[Document]:
    """Read Markdown source, with the first heading as the title."""
    text = _decode(stream.read())
    heading = _HEADING.search(text)
    yield file.document(text, re.sub(r"\s+#+\s*$", "", heading[1][:_MAX_TITLE]) if heading else "")


def parse_html(stream: BinaryIO, file: SourceFile) -> Iterator[Document]:
    """Read the visible text of a web page; see `nest_engine.retrieval.web_page`."""
    data = stream.read()
    soup = parse_markup(_decode(data, declared_encoding(data) or "utf-8"))
    yield file.document(visible_text(soup), soup.title.get_text() if soup.title else "")


def parse_pdf(stream: BinaryIO, file: SourceFile) -> Iterator[Document | Skipped]:
    """Read the text of all pages, separated by form feeds; a page that fails is skipped."""
    # What pypdf would log is in the reasons of skipped files.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    reader = require("pypdf", "pypdf").PdfReader(stream)
    pages: list[str] = []
    for number, page in enumerate(reader.pages, start=1):
        try:
            pages.append(_without_surrogates(page.extract_text()))
        # pypdf lets any error of a damaged page through; the other pages may be fine.
        except Exception as error:
            yield Skipped(f"{file.source}, page {number}", f"cannot be read: {error}")
            pages.append("")
    starts = [0]
    for text in pages[:-1]:
        starts.append(starts[-1] + len(text) + 1)
    title = _without_surrogates(str((reader.metadata and reader.metadata.title) or ""))
    yield file.document("\f".join(pages), title, page_starts=tuple(starts))


def parse_jsonl(stream: BinaryIO, file: SourceFile) -> Iterator[Document | Skipped]:
    """Read one document per line.

    Its fields are ``text`` and optionally ``title``, ``id``, ``uri``, ``license`` and ``metadata``.
    Other fields are kept in the metadata, together with ``line``. Any other line is skipped.
    """
    number = 0
    while line := stream.readline(file.max_bytes + 1):
        number += 1
        try:
            if len(line) > file.max_bytes:
                _finish_line(stream, line)
                raise InputError(_too_large(file.max_bytes))
            if line.strip():
                yield _document_of(_decode(line), file, number)
        except InputError as error:
            yield Skipped(f"{file.source}, line {number}", str(error))


Parse = Callable[[BinaryIO, SourceFile], Iterator[Document | Skipped]]
PARSERS: Mapping[str, Parse] = MappingProxyType(
    {
        ".txt": parse_text,
        ".md": parse_markdown,
        ".html": parse_html,
        ".htm": parse_html,
        ".pdf": parse_pdf,
        ".jsonl": parse_jsonl,
    }
)


def parse(stream: BinaryIO, file: SourceFile) -> Iterator[Document | Skipped]:
    """Read an open file of any known type.

    Raises:
        InputError: if it is too large; only ``.jsonl``, where every line is a document, may exceed
            the limit.
    """
    suffix = file.path.suffix.lower()
    if suffix != ".jsonl" and os.fstat(stream.fileno()).st_size > file.max_bytes:
        raise InputError(_too_large(file.max_bytes))
    return PARSERS[suffix](stream, file)


def _document_of(line: str, file: SourceFile, number: int) -> Document:
    try:
        record = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"malformed JSON: {error}") from error
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        raise InputError(
            'expected an object with a string "text", such as {"title": "...", "text": "..."}'
        )
    given = {key: value for key, value in record.items() if value is not None}
    text, title, metadata = (
        given.pop("text"),
        str(given.pop("title", "")),
        given.pop("metadata", {}),
    )
    details = {key: given.pop(key) for key in ("uri", "license") if key in given}
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in details.values()
    ):
        raise InputError('"metadata" must be an object, "uri" and "license" strings')
    details["id"] = str(given.pop("id", f"{file.source}:{number}"))
    return file.document(text, title, metadata=metadata | given | {"line": number}, **details)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


# As on the web: Latin-1 means Windows-1252, and UTF-16 declared in readable bytes is not UTF-16. A
# byte order mark is dropped.
_MEANT = {"iso8859-1": "cp1252", "ascii": "cp1252"} | dict.fromkeys(
    ("utf-8", "utf-16", "utf-16-le", "utf-16-be"), "utf-8-sig"
)


def _decode(data: bytes, encoding: str = "utf-8") -> str:
    """Decode strictly."""
    try:
        name = codecs.lookup(encoding).name
        return data.decode(_MEANT.get(name, name))
    except LookupError as error:
        raise InputError(
            f"unknown character encoding {encoding!r}; convert the file to UTF-8"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"not valid {encoding}: byte 0x{data[error.start]:02x} at offset {error.start}; "
            f"convert the file to UTF-8"
        ) from error


def _without_surrogates(text: str) -> str:
    """Join the surrogate pairs that pypdf leaves in extracted text; replace lone surrogates."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _finish_line(stream: BinaryIO, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = stream.readline(1 << 20)


def _too_large(max_bytes: int) -> str:
    return f"larger than {max_bytes:,} bytes; split it, or raise max_bytes"
