"""Citations in the formats that other APIs use: pure conversions of an answer.

Every format but ours carries only one of the two spans: Anthropic the source's, the others the
answer's. Offsets are half-open and count Unicode code points; Gemini counts UTF-8 bytes, and
``utf16_offset`` serves clients in JavaScript. All results are JSON-ready.

Citations of one answer never overlap, because a token has at most one source: ``split_answer`` and
the block formats rely on it.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from nest_engine.records import Citation, CitedText, Passage

# Schemes that a browser executes instead of fetching. A source may choose its own uri, so these
# never become links.
_ACTIVE_SCHEMES = ("javascript:", "vbscript:", "data:")


def to_dicts(output: CitedText) -> list[dict[str, Any]]:
    """Return the citations with all their fields; what JSON cannot hold becomes ``str``."""
    return [json_ready(citation.to_dict()) for citation in output.citations]


def to_anthropic(output: CitedText) -> list[dict[str, Any]]:
    """Return the answer as Anthropic content blocks.

    Each quotation is a text block with one ``char_location``. ``document_index`` indexes
    ``output.passages``, as the API counts the documents of a request; a source missing there is
    counted after them. The texts of the blocks concatenate to the answer.
    """
    quoted = {citation.source_key: citation for citation in output.citations}
    indices = {key: _index(output, citation) for key, citation in quoted.items()}
    others = [key for key, index in indices.items() if index is None]
    blocks = []
    for text, citation in split_answer(output):
        block: dict[str, Any] = {"type": "text", "text": text}
        if citation is not None:
            location = {
                "type": "char_location",
                "cited_text": citation.cited_text,
                "document_index": len(output.passages) + others.index(citation.source_key)
                if (index := indices[citation.source_key]) is None
                else index,
                "document_title": citation.title or None,
                "start_char_index": citation.source_start,
                "end_char_index": citation.source_end,
                "file_id": None,
            }
            block["citations"] = [location]
        blocks.append(block)
    return blocks


def to_cohere(output: CitedText) -> list[dict[str, Any]]:
    """Return the citations in the format of Cohere's API v2.

    ``document`` holds the source's text, title and url.
    """
    return [
        {
            "start": citation.answer_start,
            "end": citation.answer_end,
            "text": citation.text_in_answer,
            "sources": [
                {
                    "type": "document",
                    "id": citation.passage_id,
                    "document": _cohere_document(output, citation),
                }
            ],
            "content_index": 0,
            "type": "TEXT_CONTENT",
        }
        for citation in output.citations
    ]


def to_openai_annotations(
    output: CitedText, *, chat_completions: bool = False
) -> list[dict[str, Any]]:
    """Return the citations as OpenAI ``url_citation`` annotations.

    The format requires a URL: a source without a usable uri gets ``urn:nest:passage:<id>``.

    Args:
        output: the answer.
        chat_completions: nest the fields as Chat Completions does, instead of the flat form of
            Responses.
    """
    return [
        to_openai_annotation(citation, chat_completions=chat_completions)
        for citation in output.citations
    ]


def to_openai_annotation(citation: Citation, *, chat_completions: bool = False) -> dict[str, Any]:
    """Return one citation as an annotation, for streams, which send each one as it becomes final.

    Args:
        citation: the citation.
        chat_completions: as for :func:`to_openai_annotations`.
    """
    annotation = {
        "start_index": citation.answer_start,
        "end_index": citation.answer_end,
        "url": link_of(citation) or f"urn:nest:passage:{quote(citation.passage_id, safe='')}",
        "title": title_of(citation),
    }
    if chat_completions:
        return {"type": "url_citation", "url_citation": annotation}
    return {"type": "url_citation"} | annotation


def to_gemini(output: CitedText) -> dict[str, list[dict[str, Any]]]:
    """Return the citations as Gemini's ``groundingChunks`` and ``groundingSupports``.

    Offsets are in UTF-8 bytes. The chunks are the sources used, in the order of first use; the
    answer is one part, so ``partIndex`` is 0.
    """
    sources = {citation.source_key: citation for citation in output.citations}
    numbers = {source_id: number for number, source_id in enumerate(sources)}
    supports = [
        {
            "segment": {
                "partIndex": 0,
                "startIndex": utf8_offset(output.text, citation.answer_start),
                "endIndex": utf8_offset(output.text, citation.answer_end),
                "text": citation.text_in_answer,
            },
            "groundingChunkIndices": [numbers[citation.source_key]],
        }
        for citation in output.citations
    ]
    chunks = [{"retrievedContext": _gemini_context(output, source)} for source in sources.values()]
    return {"groundingChunks": chunks, "groundingSupports": supports}


def to_langchain(output: CitedText) -> list[dict[str, Any]]:
    """Return the citations as LangChain's standard ``Citation`` dicts.

    Fields that the standard lacks are in ``extras``. There is never a key ``index``: LangChain
    merges streamed list items that share one. The title is never empty, because front ends drop
    citations that have neither url nor title.
    """
    return [_langchain_citation(citation) for citation in output.citations]


def split_answer(output: CitedText) -> Iterator[tuple[str, Citation | None]]:
    """Yield the pieces of the answer, in order: ``(text, citation)``, or ``(text, None)``."""
    position = 0
    for citation in output.citations:
        if position < citation.answer_start:
            yield output.text[position : citation.answer_start], None
        yield output.text[citation.answer_start : citation.answer_end], citation
        position = citation.answer_end
    if position < len(output.text):
        yield output.text[position:], None


def passage_of(output: CitedText, citation: Citation) -> Passage | None:
    """Return the passage that a citation quotes; None if the output lacks it with that text."""
    index = _index(output, citation)
    return None if index is None else output.passages[index]


def _index(output: CitedText, citation: Citation) -> int | None:
    """Return which passage a citation quotes; None if the output lacks it with that text."""
    found = [
        index
        for index, passage in enumerate(output.passages)
        if passage.id == citation.passage_id
        and passage.text[citation.source_start : citation.source_end] == citation.cited_text
    ]
    same = (i for i in found if output.passages[i].sha256 == citation.passage_sha256)
    return next(same, found[0] if found else None)


def title_of(citation: Citation) -> str:
    """Return a name for the source, never empty: its title, else its uri, else its id."""
    return citation.title.strip() or citation.uri or f"Passage {citation.passage_id}"


def link_of(citation: Citation) -> str | None:
    """Return the source's uri unless it is empty or would run code when followed."""
    # Browsers skip control characters and spaces before a scheme and within it.
    visible = "".join(c for c in citation.uri or "" if c > " ").lower()
    return citation.uri if visible and not visible.startswith(_ACTIVE_SCHEMES) else None


def utf8_offset(text: str, index: int) -> int:
    """Return the offset in UTF-8 bytes of a code point offset (Gemini)."""
    return len(text[:index].encode("utf-8", "surrogatepass"))


def utf16_offset(text: str, index: int) -> int:
    """Return the offset in UTF-16 code units of a code point offset (JavaScript, Java, C#)."""
    return len(text[:index].encode("utf-16-le", "surrogatepass")) // 2


def json_ready(value: Any) -> Any:
    """Return a copy with JSON types only; anything else (a date, NaN, a path) becomes ``str``."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(item) for item in value]
    return str(value)


def _source_text(output: CitedText, citation: Citation) -> str:
    passage = passage_of(output, citation)
    return passage.text if passage else citation.cited_text


def _cohere_document(output: CitedText, citation: Citation) -> dict[str, str]:
    url = link_of(citation)
    document = {
        "id": citation.passage_id,
        "title": title_of(citation),
        "text": _source_text(output, citation),
    }
    return document | ({"url": url} if url else {})


def _gemini_context(output: CitedText, citation: Citation) -> dict[str, str]:
    uri = link_of(citation)
    context = {"title": title_of(citation), "text": _source_text(output, citation)}
    return context | ({"uri": uri} if uri else {})


def _langchain_citation(citation: Citation) -> dict[str, Any]:
    url = link_of(citation)
    extras = {
        "document_id": citation.passage_id,
        "source_start": citation.source_start,
        "source_end": citation.source_end,
        "passage_sha256": citation.passage_sha256 or None,
        "score": citation.score,
        "license": citation.license,
        "page": citation.metadata.get("page"),
        "match": None if citation.match == "exact" else citation.match,
        "also_in": [place.to_dict() for place in citation.also_in] or None,
    }
    block = {
        "type": "citation",
        "title": title_of(citation),
        "start_index": citation.answer_start,
        "end_index": citation.answer_end,
        "cited_text": citation.cited_text,
        "extras": json_ready({name: value for name, value in extras.items() if value is not None}),
    }
    return block | ({"url": url} if url else {})
