"""Nodes to passages, and citations of passages to citations of nodes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from llama_index.core.schema import (
    BaseNode,
    MetadataMode,
    NodeRelationship,
    NodeWithScore,
    TextNode,
)

from nest_engine import Citation, CitedAnswer, InputError, NestOutput, Passage
from nest_engine.retrieval.section import section_of

Output = TypeVar("Output", NestOutput, CitedAnswer)
Quotable = Passage | NodeWithScore | BaseNode
"""What callers may give to be quoted."""


@dataclass(frozen=True)
class NodeCitation(Citation):
    """A span of the answer that stands verbatim in a node.

    ``source_start`` and ``source_end`` count in ``node.get_content(MetadataMode.NONE)``.
    """

    @property
    def node_id(self) -> str:
        """Id of the quoted node."""
        return self.passage_id

    @property
    def document_id(self) -> str | None:
        """Id of the document that the node was cut from."""
        return self.metadata.get("document_id")

    @property
    def document_start(self) -> int | None:
        """First quoted character in the document; None if the node's place in it is uncertain."""
        start: int | None = self.metadata.get("start_index")
        return None if start is None else start + self.source_start

    @property
    def document_end(self) -> int | None:
        """One past the last quoted character in the document, or None."""
        start = self.document_start
        return None if start is None else start + len(self.cited_text)

    @property
    def file_name(self) -> str | None:
        """File that the document was read from."""
        return self.metadata.get("file_name")

    @property
    def page_label(self) -> str | None:
        """Page that the node stands on."""
        return self.metadata.get("page_label")

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict with every field and property."""
        names = (
            "node_id",
            "document_id",
            "document_start",
            "document_end",
            "file_name",
            "page_label",
        )
        return super().to_dict() | {name: getattr(self, name) for name in names}


def passage_of(
    node: NodeWithScore | BaseNode, documents: Mapping[str, str] | None = None
) -> Passage:
    """Convert a node to a passage. Its bare text can be quoted; title or file name is context.

    Args:
        node: the node, with or without a score.
        documents: texts of documents by id. In a listed document, the node's place counts if the
            document has the node's text there; in others, if the place is as long as the text.

    Returns:
        the passage; its id is the node's, and its ``section`` the headings of the node's path.
    """
    score = node.score if isinstance(node, NodeWithScore) else None
    if score is not None and not math.isfinite(score):
        score = None  # JSON has no name for it
    node = node.node if isinstance(node, NodeWithScore) else node
    metadata = node.metadata
    return Passage(
        text=node.get_content(metadata_mode=MetadataMode.NONE),
        title=_first_text(metadata, "title", "file_name") or "",
        id=node.node_id,
        uri=_first_text(metadata, "url", "file_path"),
        score=score,
        license=_first_text(metadata, "license"),
        metadata={
            **_section(metadata.get("header_path")),
            **metadata,
            "document_id": node.ref_doc_id or metadata.get("document_id"),
            "start_index": _start_in_document(node, documents or {}),
        },
    )


def passages_of(
    items: Iterable[Quotable], documents: Mapping[str, str] | None = None
) -> tuple[Passage, ...]:
    """Convert nodes and passages to passages, without those that have no text.

    Raises:
        InputError: if an item is neither.
    """
    passages = tuple(_as_passage(item, documents) for item in items)
    return tuple(passage for passage in passages if passage.text.strip())


def cite_nodes(output: Output) -> Output:
    """Return an answer with its citations as citations of nodes."""
    return replace(
        output, citations=tuple(node_citation(citation) for citation in output.citations)
    )


def node_citation(citation: Citation) -> NodeCitation:
    """Return a citation as one of a node."""
    return NodeCitation(**{field.name: getattr(citation, field.name) for field in fields(Citation)})


def _as_passage(item: Quotable, documents: Mapping[str, str] | None) -> Passage:
    if isinstance(item, Passage):
        return item
    if isinstance(item, (NodeWithScore, BaseNode)):
        return passage_of(item, documents)
    raise InputError(
        f"passages must be nodes, NodeWithScore or Passage objects, got {type(item).__name__}: "
        "use TextNode(text=...) or nest_engine.Passage(...)"
    )


def _section(header_path: object) -> dict[str, str]:
    """Return the headings that a node stands below, as a passage names them, if any."""
    headings = header_path.strip("/").split("/") if isinstance(header_path, str) else []
    return section_of(dict(enumerate(headings, 1)))


def _first_text(metadata: Mapping[str, Any], *names: str) -> str | None:
    """Return what stands under the first name as text; in metadata a path is a ``Path``, too."""
    values = (metadata.get(name) for name in names)
    return next((str(value) for value in values if value), None)


def _start_in_document(node: BaseNode, documents: Mapping[str, str]) -> int | None:
    """Return where a node's text begins in its document, if that is certain.

    Node parsers store the place of a text in its document. Postprocessors may change the text later
    and leave the old place behind. A parser that follows another one counts in that one's nodes,
    although it names the document: such places are found out by comparing with the document, or
    with the text file it was read from.
    """
    if not isinstance(node, TextNode) or node.start_char_idx is None or node.end_char_idx is None:
        return None
    if NodeRelationship.PARENT in node.relationships:
        return None
    text = node.get_content(metadata_mode=MetadataMode.NONE)
    start, end = node.start_char_idx, node.end_char_idx
    document = documents.get(node.ref_doc_id or "") or _file_text(node)
    is_there = end - start == len(text) if document is None else document[start:end] == text
    return start if is_there else None


def _file_text(node: BaseNode) -> str | None:
    """Return the text of a node's text file as LlamaIndex reads it; None if there is none."""
    path = node.metadata.get("file_path")
    if not isinstance(path, str) or not path.endswith((".txt", ".md")):
        return None
    try:
        return _read_text(path, Path(path).stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=64)
def _read_text(path: str, changed: int) -> str:
    return Path(path).read_bytes().decode("utf-8", errors="ignore")
