"""The text of EPUB books: the pages of their spine, each read as a web page."""

from __future__ import annotations

import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO, NamedTuple
from urllib.parse import unquote
from xml.etree import ElementTree

from nest_engine.errors import InputError
from nest_engine.retrieval.formats.archive import open_archive
from nest_engine.retrieval.formats.encoding import declared_encoding, decode
from nest_engine.retrieval.formats.web_page import read_page

_ENCRYPTION = "META-INF/encryption.xml"
_TEXT = re.compile(r"html|x-oeb1-document")
_HIDES = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden|opacity\s*:\s*0(?!\.?[1-9])", re.I)
_MOST_STYLE = 1 << 21  # characters of style sheets, which each page reads anew
_FONT_ONLY = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")


class Book(NamedTuple):
    """What a book says.

    Args:
        title: its title; may be empty.
        chapters: the text of each page of its spine that could be read.
        skipped: the pages that could not, each with the reason.
    """

    title: str
    chapters: list[str]
    skipped: list[tuple[str, str]]


def read_epub(stream: BinaryIO) -> Book:
    """Return the text of a book in reading order.

    Raises:
        InputError: if it is damaged, encrypted or unpacks to too much.
    """
    archive = open_archive(stream)
    try:
        if _is_encrypted(archive):
            raise InputError("its text is encrypted (DRM); it cannot be read")
        root = ElementTree.fromstring(archive.read("META-INF/container.xml"))
        path = next(each.attrib["full-path"] for each in root.iterfind(".//{*}rootfile"))
        package = ElementTree.fromstring(archive.read(path))
        title = " ".join((package.findtext(".//{*}metadata/{*}title") or "").split())
        pages = list(_spine(package, posixpath.dirname(path)))
    except (KeyError, StopIteration, ElementTree.ParseError, zipfile.BadZipFile) as error:
        raise InputError(f"damaged or not what its name says: {error}") from error
    book = Book(title, [], [])
    sheets = _StyleSheets(archive)
    names = {name.casefold(): name for name in archive.namelist()}
    for page in pages:
        is_there = page in archive.NameToInfo
        try:
            data = archive.read(page if is_there else names.get(page.casefold(), page))
            linked = partial(sheets.linked, page)
            text = read_page(decode(data, declared_encoding(data)), is_xml=True, linked=linked).text
        except (KeyError, InputError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            book.skipped.append((page, error.args[0]))
        else:
            book.chapters.append(text)
    return book


class _StyleSheets:
    """The style sheets of a book that hide something.

    Args:
        archive: the book.
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._known: dict[str, str] = {}
        self._left = _MOST_STYLE

    def linked(self, page: str, href: str) -> str:
        """Return the style sheet that a page links to; empty if it hides nothing, or is none."""
        path = unquote(href.partition("#")[0])
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        if path not in self._known:
            try:
                source = self._archive.read(path).decode("utf-8-sig", "replace")
            except (KeyError, RuntimeError, zipfile.BadZipFile, zlib.error):
                source = ""
            self._known[path] = source if _HIDES.search(source) else ""
        source = self._known[path][: self._left]
        self._left -= len(source)
        return source


def _is_encrypted(archive: zipfile.ZipFile) -> bool:
    """Return whether more than fonts is encrypted."""
    if _ENCRYPTION not in archive.namelist():
        return False
    root = ElementTree.fromstring(archive.read(_ENCRYPTION))
    methods = [each.get("Algorithm", "") for each in root.iterfind(".//{*}EncryptionMethod")]
    return any(method not in _FONT_ONLY for method in methods)


def _spine(package: ElementTree.Element, folder: str) -> Iterator[str]:
    """Yield the archive's paths of the pages in reading order, but for the table of contents."""
    items = {each.get("id"): each for each in package.iterfind(".//{*}manifest/{*}item")}
    for reference in package.iterfind(".//{*}spine/{*}itemref"):
        item = items.get(reference.get("idref"))
        if item is None:  # reported as missing
            yield reference.get("idref", "")
            continue
        properties = item.get("properties", "").split()
        if _TEXT.search(item.get("media-type", "")) and "nav" not in properties:
            href = unquote(item.get("href", "").partition("#")[0])
            yield posixpath.normpath(posixpath.join(folder, href))
