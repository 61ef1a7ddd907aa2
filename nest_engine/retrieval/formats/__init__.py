"""Read the documents in a file, by its type.

Each function takes an open file and yields its documents, and what it had to leave out. Text,
Markdown, reStructuredText and JSON lines are decoded and otherwise unchanged; only a byte order
mark at the start, which says how to decode, is not part of the text. Of other types the text is
what a reader sees.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NoReturn

import regex

from nest_engine.errors import InputError
from nest_engine.retrieval.document import Document, Skipped, WordBox, in_pages
from nest_engine.retrieval.formats.ebook import read_epub
from nest_engine.retrieval.formats.encoding import declared_encoding, decode, is_wide
from nest_engine.retrieval.formats.markdown import read_markdown
from nest_engine.retrieval.formats.office import read_docx, read_pptx
from nest_engine.retrieval.formats.pdf import Page, PdfFile
from nest_engine.retrieval.formats.restructured_text import quotable_in, title_of
from nest_engine.retrieval.formats.table import read_table
from nest_engine.retrieval.formats.web_page import read_page

_MAX_TITLE = 300
_SEEN = regex.compile(r"[^\s\p{Cc}\p{Default_Ignorable_Code_Point}]")


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
            InputError: if there is no text that is shown, or it contains lone surrogates.
        """
        if not _SEEN.search(text):
            raise InputError("holds no text")
        quotable = details.get("quotable")
        if quotable is not None and not any(_SEEN.search(text, *place) for place in quotable):
            raise InputError("holds no text that is shown: all of it is hidden, or front matter")
        fields = {"id": self.source, "uri": str(self.path)} | details
        title = " ".join(title[:_MAX_TITLE].split()) if _SEEN.search(title) else self.path.stem
        try:
            said = [text, title, self.source, fields["id"], fields["uri"], fields.get("metadata")]
            json.dumps([*said, fields.get("license")], ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"name or content holds a lone surrogate {error.object[error.start]!r}, which is "
                f"not text"
            ) from error
        return Document(text, title, source=self.source, **fields)


def parse_text(stream: BinaryIO, file: SourceFile) -> Iterator[Document]:
    """Read plain text."""
    yield file.document(decode(stream.read()))


def parse_markdown(stream: BinaryIO, file: SourceFile) -> Iterator[Document]:
    """Read Markdown source; see `nest_engine.retrieval.formats.markdown`."""
    text = decode(stream.read())
    title, quotable = read_markdown(text)
    yield file.document(text, title, quotable=tuple(quotable))


def parse_restructured_text(stream: BinaryIO, file: SourceFile) -> Iterator[Document]:
    """Read reStructuredText source, with the title of its first section, but for comments."""
    text = decode(stream.read())
    yield file.document(text, title_of(text), quotable=tuple(quotable_in(text)))


def parse_html(stream: BinaryIO, file: SourceFile) -> Iterator[Document]:
    """Read the visible text of a web page; see `nest_engine.retrieval.formats.web_page`."""
    data = stream.read()
    is_xml = file.path.suffix.lower() == ".xhtml"
    page = read_page(decode(data, declared_encoding(data)), is_xml=is_xml)
    yield file.document(page.text, page.title)


def parse_pdf(stream: BinaryIO, file: SourceFile) -> Iterator[Document | Skipped]:
    """Read the text of all pages, and where its words are; a page that fails is skipped."""
    with PdfFile(stream) as pdf:
        title = pdf.title
        pages: list[Page] = []
        for number in range(len(pdf)):
            try:
                pages.append(pdf.page(number))
            # The library lets any error of a damaged page through; the others may be fine.
            except Exception as error:
                yield Skipped(f"{file.source}, page {number + 1}", f"cannot be read: {error}")
                pages.append(Page("", (), 0, 0))
    text, starts = in_pages([page.text for page in pages])
    words = [
        WordBox(start + word.start, start + word.end, word.box)
        for page, start in zip(pages, starts, strict=True)
        for word in page.words
    ]
    sizes = tuple((page.width, page.height) for page in pages)
    yield file.document(text, title, page_starts=starts, page_sizes=sizes, words=tuple(words))


def parse_docx(stream: BinaryIO, file: SourceFile) -> Iterator[Document]:
    """Read a Word document."""
    title, (text,) = read_docx(stream)
    yield file.document(text, title)


def parse_pptx(stream: BinaryIO, file: SourceFile) -> Iterator[Document]:
    """Read a presentation; its pages are its slides."""
    title, slides = read_pptx(stream)
    text, starts = in_pages(slides)
    yield file.document(text, title, page_starts=starts)


def parse_epub(stream: BinaryIO, file: SourceFile) -> Iterator[Document | Skipped]:
    """Read a book; a page of it that fails is skipped."""
    title, chapters, skipped = read_epub(stream)
    for page, reason in skipped:
        yield Skipped(f"{file.source}, {page}", reason)
    yield file.document("\n\n".join(filter(None, chapters)), title)


def parse_table(stream: BinaryIO, file: SourceFile) -> Iterator[Document]:
    """Read a table: a document for each row, with ``line`` in its metadata."""
    delimiter = "\t" if file.path.suffix.lower() == ".tsv" else None
    line = 0
    for line, text, title in read_table(decode(stream.read()), delimiter):
        yield file.document(text, title, id=f"{file.source}:{line}", metadata={"line": line})
    if not line:
        raise InputError("holds no rows below its header")


def parse_jsonl(stream: BinaryIO, file: SourceFile) -> Iterator[Document | Skipped]:
    """Read one document per line.

    Its fields are ``text`` and optionally ``title``, ``id``, ``uri``, ``license`` and ``metadata``.
    Other fields are kept in the metadata, together with ``line``. Any other line is skipped.
    """
    for number, line in enumerate(_lines(stream, file), start=1):
        try:
            if len(line) > file.max_bytes:
                _finish_line(stream, line)
                raise InputError(_too_large(file.max_bytes))
            if line.strip():
                yield _document_of(decode(line), file, number)
        except InputError as error:
            yield Skipped(f"{file.source}, line {number}", str(error))


Parse = Callable[[BinaryIO, SourceFile], Iterator[Document | Skipped]]
PARSERS: Mapping[str, Parse] = MappingProxyType(
    {
        ".txt": parse_text,
        ".md": parse_markdown,
        ".markdown": parse_markdown,
        ".rst": parse_restructured_text,
        ".html": parse_html,
        ".htm": parse_html,
        ".xhtml": parse_html,
        ".pdf": parse_pdf,
        ".docx": parse_docx,
        ".pptx": parse_pptx,
        ".epub": parse_epub,
        ".csv": parse_table,
        ".tsv": parse_table,
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


def _lines(stream: BinaryIO, file: SourceFile) -> Iterator[bytes]:
    """Yield the lines of a file, and of one that is too long its beginning.

    Raises:
        InputError: while iterating, if a file that must be decoded as a whole is too large.
    """
    is_whole = is_wide(stream.read(4))
    stream.seek(0)
    if is_whole:
        if file.size > file.max_bytes:
            raise InputError(_too_large(file.max_bytes))
        yield from decode(stream.read()).encode().split(b"\n")
    while line := stream.readline(file.max_bytes + 1):
        yield line


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finish_line(stream: BinaryIO, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = stream.readline(1 << 20)


def _too_large(max_bytes: int) -> str:
    return f"larger than {max_bytes:,} bytes; split it, or raise max_bytes"
