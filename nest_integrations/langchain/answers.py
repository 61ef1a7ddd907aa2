"""Citations, usage and other metadata of an answer, in LangChain's terms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.content import Citation

from nest_engine import CitedAnswer, NestChunk, NestOutput
from nest_engine.citations import formats

PROVIDER = "nest"


def citations_of(answer: NestOutput | NestChunk | CitedAnswer) -> list[Citation]:
    """Return citations as LangChain's standard ones.

    ``extras`` holds ``source_start`` and ``source_end``, offsets into the document that was
    retrieved; where a splitter has left ``start_index`` in its metadata, also ``original_start``
    and ``original_end``, offsets into the document that was split.
    """
    standard = formats.to_langchain(cast(NestOutput, answer))  # reads .citations only
    for annotation, citation in zip(standard, answer.citations, strict=True):
        start_index = citation.metadata.get("start_index")
        # -1: the splitter did not find the chunk.
        if isinstance(start_index, int) and start_index >= 0:
            annotation["extras"]["original_start"] = start_index + citation.source_start
            annotation["extras"]["original_end"] = start_index + citation.source_end
    return cast("list[Citation]", standard)


def closing_info(output: NestOutput, model_name: str, failure: str | None) -> dict[str, Any]:
    """Return the metadata of a finished answer, without its citations.

    LangChain merges streamed chunks by adding numbers and joining strings, so it goes into the last
    chunk only.
    """
    info = {
        "model_name": model_name,
        "finish_reason": output.finish_reason,
        "stats": formats.json_ready(output.stats.to_dict()),
        "notices": [
            *output.notices,
            *([f"answered without passages: {failure}"] if failure else []),
        ],
    }
    return info | ({"degraded": failure} if failure else {})


def usage_of(outputs: Sequence[NestOutput]) -> UsageMetadata:
    """Return the token counts of one prompt and its answers; the prompt counts once."""
    prompt = max(output.usage["prompt_tokens"] for output in outputs)
    known = outputs[0].stats.cached_prompt_tokens  # the others find what it has read
    completion = sum(output.usage["completion_tokens"] for output in outputs)
    return UsageMetadata(
        input_tokens=prompt,
        output_tokens=completion,
        total_tokens=prompt + completion,
        input_token_details={"cache_read": known},
    )
