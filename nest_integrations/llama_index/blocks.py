"""Sources in the content blocks of chat messages: passages to quote from."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    CitableBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    VideoBlock,
)

from nest_engine import InputError, Passage
from nest_engine.retrieval.blocks import SourceBlocks

_MEDIA = (AudioBlock, ImageBlock, VideoBlock)
_SOURCES = (CitableBlock, DocumentBlock)
_BRING_SOURCES = (MessageRole.USER, MessageRole.TOOL, MessageRole.FUNCTION)
_PDF = "application/pdf"
_TEXTS = (None, "text/plain", "text/markdown")
_UNTITLED = "input_document"  # LlamaIndex's title of documents without one


def require_readable(messages: Sequence[ChatMessage]) -> None:
    """Raise `InputError` if messages hold pictures or sound, or sources where none are read."""
    for message in messages:
        role = message.role.value
        for block in message.blocks:
            if isinstance(block, _SOURCES) and message.role not in _BRING_SOURCES:
                raise InputError(
                    f"NestLLM quotes sources in messages of the user and of tools, and a message "
                    f"of the {role} holds a {type(block).__name__}; move it into one of those"
                )
            for part in block.content if isinstance(block, CitableBlock) else [block]:
                if isinstance(part, _MEDIA):
                    raise InputError(
                        f"NestLLM reads text alone, and a message of the {role} holds a "
                        f"{type(part).__name__}; remove it, or describe it in words"
                    )


def sources_of(messages: Sequence[ChatMessage], query: str) -> tuple[Passage, ...] | None:
    """Return what messages bring to quote from, the last one of the user and those after it.

    Where there is much, those come first that share words with the question: of long documents,
    the model reads the first passages alone.

    Args:
        messages: the conversation.
        query: the question.

    Returns:
        the passages of documents and search results, or None when there are none.

    Raises:
        InputError: if a document cannot be read.
    """
    asked = [n for n, message in enumerate(messages) if message.role == MessageRole.USER]
    found = SourceBlocks()
    for number in range(asked[-1] if asked else 0, len(messages)):
        for block in messages[number].blocks:
            if isinstance(block, (CitableBlock, DocumentBlock)):
                _read(found, block, f"messages.{number}")
    return found.ranked(query) or None


def _read(found: SourceBlocks, block: CitableBlock | DocumentBlock, place: str) -> None:
    for each in _in_format(block):
        try:
            found.read([each], place)
        except InputError as error:
            raise InputError(f"{each['title']!r} in {place} cannot be read: {error}") from error


def _in_format(block: CitableBlock | DocumentBlock) -> Iterator[dict[str, Any]]:
    """Yield a block in the format that `SourceBlocks` reads."""
    if isinstance(block, DocumentBlock):
        yield _document(block, "")
        return
    texts, documents = [], []
    for each in block.content:
        if isinstance(each, DocumentBlock):
            documents.append(_document(each, block.title))
        else:
            texts.append({"type": "text", "text": getattr(each, "text", "")})
    if texts:
        named = {"title": block.title, "source": block.source}
        yield {"type": "search_result", "content": texts, **named}
    yield from documents


def _document(block: DocumentBlock, title: str) -> dict[str, Any]:
    """Return a document, under its own title, or the one given, or the name of its file."""
    file = Path(str(block.path)).name if block.path else ""
    own = block.title if block.title != _UNTITLED else ""
    name = own or title or file
    data = _content(block, name)
    kind = block.document_mimetype or mimetypes.guess_type(str(block.path or block.url or ""))[0]
    kind = kind.partition(";")[0].strip().lower() if kind else None
    if data.startswith(b"%PDF-") or kind == _PDF:
        encoded = base64.b64encode(data).decode()
        source = {"type": "base64", "media_type": _PDF, "data": encoded}
    elif kind in _TEXTS:
        source = {"type": "text", "media_type": "text/plain", "data": _text(data, name)}
    else:
        raise InputError(
            f"the document {name!r} is of type {kind}: NestLLM reads text/plain, text/markdown and "
            f"{_PDF}"
        )
    return {"type": "document", "title": name, "source": source}


def _content(block: DocumentBlock, name: str) -> bytes:
    try:
        content = block.resolve_document().read()
    except (ValueError, OSError) as error:
        raise InputError(f"the document {name!r} cannot be read: {error}") from error
    return content.encode() if isinstance(content, str) else bytes(content)


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"the document {name!r} is not UTF-8: {error}; give its text in UTF-8, or a PDF"
        ) from error
