"""LangChain documents to passages and back; ids, scores and metadata survive."""

from __future__ import annotations

import hashlib
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage

from nest_engine import InputError, Passage
from nest_engine.retrieval.blocks import SourceBlocks
from nest_engine.retrieval.section import section_of

_PDF = "application/pdf"
_TEXTS = ("text/plain", "text/markdown")
_DOCUMENT_FIELDS = {"id", "metadata", "page_content"}
_PASSAGE_FIELDS = {each.name for each in fields(Passage)}
_SCORE_KEYS = ("score", "relevance_score", "_relevance_score")


def to_passage(document: Document) -> Passage:
    """Convert a document to a passage.

    The id is ``Document.id``, else ``metadata["id"]``, else a digest of content and source. Title,
    uri, licence and score come from the metadata keys in common use; all metadata is kept. What the
    splitters by headings leave in it ("Header 1") becomes the passage's ``section``.

    Args:
        document: the document.

    Returns:
        the passage; its text is the document's content, character for character.
    """
    metadata = document.metadata
    source = _first_text(metadata, "source", "url", "uri")
    return Passage(
        document.page_content,
        title=_first_text(metadata, "title") or "",
        id=_identity(document, source),
        uri=source,
        score=_score(metadata),
        license=_first_text(metadata, "license"),
        metadata=_section(metadata) | metadata,
    )


def to_document(passage: Passage) -> Document:
    """Convert a passage to a document, with title, source, licence and score in its metadata."""
    named = {
        "title": passage.title or None,
        "source": passage.uri,
        "license": passage.license,
        "score": passage.score,
    }
    return Document(
        id=passage.id,
        page_content=passage.text,
        metadata=dict(passage.metadata)
        | {name: value for name, value in named.items() if value is not None},
    )


def as_passages(documents: object) -> list[Passage]:
    """Convert the ``passages`` argument of a call.

    Raises:
        InputError: if it is not a sequence of documents or passages.
    """
    # A document is iterable, too: over its fields.
    is_one = isinstance(documents, (str, bytes, Mapping, Document))
    if is_one or not isinstance(documents, Iterable):
        raise InputError(f"passages must be a list of documents, got {type(documents).__name__}")
    return [_as_passage(document) for document in documents]


def passages_of_each(given: object, num_prompts: int) -> list[list[Passage]]:
    """Return the passages of each prompt.

    Args:
        given: one list for all prompts, or a list of lists, one for each.
        num_prompts: number of prompts.

    Raises:
        InputError: if there are not as many lists as prompts.
    """
    if not isinstance(given, Sequence) or not any(
        isinstance(item, (list, tuple)) for item in given
    ):
        return [as_passages(given)] * num_prompts
    if len(given) != num_prompts:
        raise InputError(
            f"{num_prompts} prompts but {len(given)} lists of passages; give one list for each "
            f"prompt"
        )
    return [as_passages(documents) for documents in given]


def documents_of_turn(
    messages: Sequence[BaseMessage], query: str | None = None
) -> list[Passage] | None:
    """Return what the last human message brings, and tools have found since, or None.

    ``create_retriever_tool(..., response_format="content_and_artifact")`` leaves documents in
    ``ToolMessage.artifact``; messages of both kinds may hold ``document``, ``search_result``,
    ``text-plain`` and PDF ``file`` blocks.

    Args:
        messages: the conversation.
        query: what is asked: of long sources, what shares words with it comes first.

    Raises:
        InputError: if a block cannot be read.
    """
    found: list[Passage] = []
    blocks = SourceBlocks()
    first = max(
        (i for i, message in enumerate(messages) if isinstance(message, HumanMessage)), default=0
    )
    for number, message in enumerate(messages[first:], first):
        if isinstance(message, ToolMessage):
            found += _documents_in(message.artifact)
        if isinstance(message.content, list):
            given = [as_source_block(block) for block in message.content]
            blocks.read([block for block in given if block], f"messages.{number}.content")
    return [*found, *blocks.ranked(query)] or None


def as_source_block(block: object) -> dict[str, Any] | None:
    """Return a content block that holds a source in the form that the engine reads, or None."""
    if not isinstance(block, dict):
        return None
    kind, title = block.get("type"), block.get("title")
    if kind in ("document", "search_result"):
        return block
    if kind == "text-plain" and block.get("text"):
        return {
            "type": "document",
            "title": title,
            "source": {"type": "text", "data": block["text"]},
        }
    if kind != "file":
        return None
    # Files of LangChain 0.3 have their content under other names.
    data, media = block.get("base64") or block.get("data"), block.get("mime_type") or ""
    if block.get("source_type") == "text" and block.get("text"):
        source = {"type": "text", "data": block["text"]}
    elif data and media in (_PDF, *_TEXTS):
        source = {"type": "base64", "media_type": media, "data": data}
    else:
        return None
    return {"type": "document", "title": title, "source": source}


def _documents_in(artifact: object) -> list[Passage]:
    items = artifact if isinstance(artifact, (list, tuple)) else [artifact]
    restored = map(_restored, items)
    return [_as_passage(item) for item in restored if isinstance(item, (Document, Passage))]


def _restored(item: object) -> object:
    """Return a document that a checkpoint or JSON has turned into a mapping as a document again."""
    if not isinstance(item, Mapping):
        return item
    if isinstance(item.get("page_content"), str):
        return Document(**{name: item[name] for name in _DOCUMENT_FIELDS & item.keys()})
    is_passage = item.keys() == _PASSAGE_FIELDS and isinstance(item["text"], str)
    return Passage(**item) if is_passage else item


def _as_passage(document: object) -> Passage:
    if isinstance(document, Passage):
        return document
    if isinstance(document, Document):
        return to_passage(document)
    raise InputError(
        f"passages must be Document or Passage objects, got {type(document).__name__}: use "
        f"Document(page_content=...)"
    )


def _section(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the headings that a document stands below, as a passage names them, if any."""
    return section_of({level: metadata.get(f"Header {level}") for level in range(1, 7)})


def _identity(document: Document, source: str | None) -> str:
    # Qdrant gives its own as _id, Milvus as pk.
    candidates = (document.id, *(document.metadata.get(name) for name in ("id", "_id", "pk")))
    given = next((str(candidate) for candidate in candidates if candidate not in (None, "")), None)
    if given is not None:
        return given
    return hashlib.sha256(
        f"{source or ''}\0{document.page_content}".encode("utf-8", "replace")
    ).hexdigest()[:16]


def _first_text(metadata: Mapping[str, Any], *keys: str) -> str | None:
    values = (metadata.get(key) for key in keys)
    return next((str(value) for value in values if value), None)


def _score(metadata: Mapping[str, Any]) -> float | None:
    values = (metadata.get(key) for key in _SCORE_KEYS)
    numeric = (float(v) for v in values if isinstance(v, numbers.Real) and not isinstance(v, bool))
    return next((score for score in numeric if math.isfinite(score)), None)
