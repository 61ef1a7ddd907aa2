"""Documents and search results in the content blocks of messages, in Anthropic's format.

LangChain and LlamaIndex pass the same blocks on.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nest_engine.errors import InputError
from nest_engine.records import Passage
from nest_engine.retrieval.bm25 import BM25Retriever
from nest_engine.retrieval.document import Document, in_pages
from nest_engine.retrieval.formats.pdf import PdfFile
from nest_engine.retrieval.splitting import split_document

IS_CITED = "is_cited"  # in a location: whether the source is to be cited
_READ_IN_ORDER, _MOST_PASSAGES = 3, 64
_LONGEST_BLOCK = 4_000  # characters; what is longer is cut as a document is
LOCATION = "anthropic_location"  # in a passage's metadata: the form of its citations


@dataclass
class SourceBlocks:
    """What the blocks of a request bring to quote from.

    Args:
        passages: stretches of documents and search results, with the form of their citations.
        num_documents: documents so far.
        num_results: search results so far.
        are_cited: whether any of them is to be cited.
    """

    passages: list[Passage] = field(default_factory=list)
    num_documents: int = 0
    num_results: int = 0
    are_cited: bool = False

    @property
    def is_given(self) -> bool:
        """Whether there are documents or search results, though they may hold no text."""
        return self.num_documents + self.num_results > 0

    def ranked(self, query: str | None) -> tuple[Passage, ...]:
        """Return the passages, those that share words with the question first.

        Of long documents the model reads the first passages alone; as many as are cut off here are
        never quoted. Few stay in the order in which they were given.

        Args:
            query: what is asked; None leaves the order as it is.
        """
        if query is None or len(self.passages) <= _READ_IN_ORDER:
            return tuple(self.passages[:_MOST_PASSAGES])
        [found] = BM25Retriever(self.passages).retrieve([query], len(self.passages))
        known = {passage.id for passage in found}
        rest = (passage for passage in self.passages if passage.id not in known)
        return (*found, *rest)[:_MOST_PASSAGES]

    def read(self, blocks: Sequence[Mapping[str, Any]], place: str) -> None:
        """Read the documents and search results among blocks, those of tool results too.

        Raises:
            InputError: if one of them cannot be read.
        """
        for number, block in enumerate(blocks):
            here = f"{place}.{number}"
            block = as_object(block, here)
            kind = block.get("type")
            if kind == "document":
                self._document(block, here)
            elif kind == "search_result":
                self._search_result(block, here)
            elif kind == "tool_result" and isinstance(block.get("content"), list):
                self.read(block["content"], f"{here}.content")

    def _document(self, block: Mapping[str, Any], place: str) -> None:
        index, self.num_documents = self.num_documents, self.num_documents + 1
        title = str(block.get("title") or "")
        is_cited = _is_cited(block, place)
        self.are_cited |= is_cited
        location = {"document_index": index, "document_title": title or None, "file_id": None}
        location[IS_CITED] = is_cited
        # A title is what the model reads in front of a passage, and does not quote.
        if context := str(block.get("context") or "").removesuffix("."):
            title = f"{title}. {context}" if title else context
        source = as_object(block.get("source") or {}, f"{place}.source")
        kind = source.get("type")
        if kind == "text":
            text = required_text(source.get("data"), f"{place}.source.data")
            self._split(Document(text, title, f"document-{index}", "", ""), "char", location)
        elif kind == "content":
            content = source.get("content")
            blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
            self._blocks(blocks, "content_block", title, location, f"{place}.source.content")
        elif kind == "base64" and source.get("media_type") == "application/pdf":
            data = _decoded(source, f"{place}.source")
            try:
                self._pdf(data, title, location)
            except InputError as error:
                raise InputError(f"{place}.source: {error}") from error
        elif kind == "base64" and source.get("media_type") in ("text/plain", "text/markdown"):
            text = _decoded(source, f"{place}.source").decode("utf-8-sig", "replace")
            self._split(Document(text, title, f"document-{index}", "", ""), "char", location)
        else:
            raise InputError(
                f"{place}.source of type {kind!r} is not supported here: give text, content, or a "
                "PDF or text in base64"
            )

    def _search_result(self, block: Mapping[str, Any], place: str) -> None:
        index, self.num_results = self.num_results, self.num_results + 1
        is_cited = _is_cited(block, place)
        self.are_cited |= is_cited
        title, source = str(block.get("title") or ""), str(block.get("source") or "")
        location = {"search_result_index": index, "source": source, "title": title or None}
        location[IS_CITED] = is_cited
        self._blocks(
            block.get("content"), "search_result", title, location, f"{place}.content", uri=source
        )

    def _blocks(
        self,
        blocks: Any,
        form: str,
        title: str,
        location: Mapping[str, Any],
        place: str,
        uri: str | None = None,
    ) -> None:
        """Read blocks of text, each a passage, or several where it is long."""
        if not isinstance(blocks, list):
            raise InputError(f"{place} must be a list of text blocks")
        for number, block in enumerate(blocks):
            here = f"{place}.{number}"
            text = required_text(as_object(block, here).get("text"), f"{here}.text")
            if text.strip():
                where = {"start_block_index": number, "end_block_index": number + 1}
                pieces: Iterable[Passage] = [Passage(text, title)]
                if len(text) > _LONGEST_BLOCK:
                    pieces = split_document(Document(text, title, uri or "", "", ""))
                for piece in pieces:
                    self._add(replace(piece, uri=uri), form, {**location, **where})

    def _split(self, document: Document, form: str, location: Mapping[str, Any]) -> None:
        for passage in split_document(document):
            self._add(passage, form, location)

    def _pdf(self, data: bytes, title: str, location: Mapping[str, Any]) -> None:
        with PdfFile(io.BytesIO(data)) as pdf:
            text, starts = in_pages([pdf.page(number).text for number in range(len(pdf))])
        name = f"document-{location['document_index']}"
        document = Document(text, title, name, "", "", page_starts=starts)
        self._split(document, "page", location)

    def _add(self, passage: Passage, form: str, location: Mapping[str, Any]) -> None:
        place = {"type": f"{form}_location", **location}
        self.passages.append(
            Passage(
                passage.text,
                passage.title,
                f"{len(self.passages)}",
                passage.uri,
                metadata={**passage.metadata, LOCATION: place},
            )
        )


def _decoded(source: Mapping[str, Any], place: str) -> bytes:
    try:
        return base64.b64decode(str(source.get("data")), validate=True)
    except ValueError as error:
        raise InputError(f"{place}.data is not base64: {error}") from error


def as_object(value: Any, place: str) -> Mapping[str, Any]:
    """Return a value if it is an object.

    Raises:
        InputError: if it is not; the message names the place.
    """
    if not isinstance(value, Mapping):
        raise InputError(f"{place} must be an object, got {type(value).__name__}")
    return value


def _is_cited(block: Mapping[str, Any], place: str) -> bool:
    return bool(as_object(block.get("citations") or {}, f"{place}.citations").get("enabled"))


def required_text(value: Any, place: str) -> str:
    """Return a value if it is a text.

    Raises:
        InputError: if it is not; the message names the place.
    """
    if not isinstance(value, str):
        raise InputError(f"{place} must be a text, got {type(value).__name__}")
    return value
