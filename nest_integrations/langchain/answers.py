"""What an answer says about itself, in LangChain's terms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.content import Citation

from nest_engine import NestChunk, NestOutput, citation_formats

PROVIDER = "nest"


def citations_of(answer: NestOutput | NestChunk) -> list[Citation]:
    """Return citations as LangChain's standard ones.

    ``extras`` holds ``source_start`` and ``source_end``, offsets into the document that was retrieved; where a
    splitter has left ``start_index`` in its metadata, also ``original_start`` and ``original_end``, offsets into the
    document that was split.
    """
    standard = citation_formats.to_langchain(cast(NestOutput, answer))  # it reads .citations and nothing else
    for annotation, citation in zip(standard, answer.citations, strict=True):
        start_index = citation.metadata.get("start_index")
        if isinstance(start_index, int) and start_index >= 0:  # -1: the splitter did not find the chunk
            annotation["extras"]["original_start"] = start_index + citation.source_start
            annotation["extras"]["original_end"] = start_index + citation.source_end
    return cast("list[Citation]", standard)


def closing_info(output: NestOutput, model_name: str, failure: str | None) -> dict[str, Any]:
    """Return what is known when an answer is finished, citations aside.

    Streamed chunks are merged by adding numbers and joining strings: send it once, with the last.
    """
    info = {
        "model_name": model_name,
        "finish_reason": output.finish_reason,
        "stats": citation_formats.json_ready(output.stats.to_dict()),
        "notices": [*output.notices, *([f"answered without passages: {failure}"] if failure else [])],
    }
    return info | ({"degraded": failure} if failure else {})


def usage_of(outputs: Sequence[NestOutput]) -> UsageMetadata:
    """Return the tokens of one prompt and its answers; the prompt counts once."""
    prompt = max(output.usage["prompt_tokens"] for output in outputs)
    completion = sum(output.usage["completion_tokens"] for output in outputs)
    return UsageMetadata(input_tokens=prompt, output_tokens=completion, total_tokens=prompt + completion)
