"""What clients receive: OpenAI's shapes, with our own figures under ``nest``."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, GetJsonSchemaHandler, TypeAdapter

from nest_engine.citations.formats import json_ready, to_openai_annotation, utf16_offset
from nest_engine.citing import CitedAnswer
from nest_engine.output import NestOutput
from nest_engine.records import Citation, plain


class _AsCitation:
    """Describes a dictionary as a citation, by references that hold in the whole description."""

    def __get_pydantic_json_schema__(self, _: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(TypeAdapter(Citation).core_schema)


CitationRecord = Annotated[dict[str, Any], _AsCitation()]
"""All fields of a ``nest_engine.Citation``; its offsets count Unicode code points."""


class UrlCitation(BaseModel):
    """The stretch of the answer that is quoted, and the source it is quoted from.

    Offsets count Unicode code points; those of ``utf16`` code units, as JavaScript, Java and C# do.
    """

    start_index: int
    end_index: int
    utf16_start_index: int
    utf16_end_index: int
    url: str
    title: str


class ChatAnnotation(BaseModel):
    """A citation, as Chat Completions nests it."""

    type: Literal["url_citation"]
    url_citation: UrlCitation
    nest: CitationRecord


class Annotation(UrlCitation):
    """A citation, flat as in Responses."""

    type: Literal["url_citation"]
    nest: CitationRecord


class Remarks(BaseModel):
    """What an answer cost and what a caller should know.

    ``stats`` holds the fields of ``nest_engine.DecodeStats``, ``sentences`` what the citations
    prove of each sentence, as ``nest_engine.records.AnswerSentence`` has it.
    """

    method: str
    stats: dict[str, Any]
    notices: list[str]
    sentences: list[dict[str, Any]]


class ChatMessage(BaseModel):
    """An answer."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    reasoning_content: str | None = None
    refusal: None = None
    annotations: list[ChatAnnotation]
    tool_calls: list[dict[str, Any]] | None = None


class Choice(BaseModel):
    """One of the answers to a request."""

    index: int
    message: ChatMessage
    finish_reason: Literal["stop", "length", "tool_calls"]
    logprobs: None = None
    nest: Remarks


class InputDetails(BaseModel):
    """Tokens at the prompt's beginning that an earlier request had read."""

    cached_tokens: int = 0


class Usage(BaseModel):
    """Tokens read and written."""

    prompt_tokens: int
    prompt_tokens_details: InputDetails = InputDetails()
    completion_tokens: int
    total_tokens: int


class ChatCompletion(BaseModel):
    """The answers to a request for Chat Completions."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class TextChoice(BaseModel):
    """One of the answers to a request for Completions."""

    index: int
    text: str
    finish_reason: Literal["stop", "length"]
    logprobs: None = None
    annotations: list[Annotation]
    nest: Remarks


class Completion(BaseModel):
    """The answers to a request for Completions."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage


class Embedding(BaseModel):
    """The vector of a text: numbers, or their bytes in base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Tokens are not counted: the embedder has its own tokenizer."""

    prompt_tokens: int = 0
    total_tokens: int = 0


class Embeddings(BaseModel):
    """The vectors of texts."""

    object: Literal["list"] = "list"
    model: str
    data: list[Embedding]
    usage: EmbeddingUsage = EmbeddingUsage()


class OutputText(BaseModel):
    """The text of an answer with its citations."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Annotation]
    logprobs: list[Any] = []


class OutputMessage(BaseModel):
    """An answer."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]


class ReasoningText(BaseModel):
    """What the model said to itself."""

    type: Literal["reasoning_text"] = "reasoning_text"
    text: str


class ReasoningItem(BaseModel):
    """The model's reasoning in front of its answer."""

    id: str
    type: Literal["reasoning"] = "reasoning"
    status: Literal["in_progress", "completed", "incomplete"]
    summary: list[Any] = []
    content: list[ReasoningText]


class OutputDetails(BaseModel):
    """Tokens of the model's reasoning are not counted by themselves."""

    reasoning_tokens: int = 0


class ResponseUsage(BaseModel):
    """Tokens read and written."""

    input_tokens: int
    input_tokens_details: InputDetails = InputDetails()
    output_tokens: int
    output_tokens_details: OutputDetails = OutputDetails()
    total_tokens: int


class IncompleteDetails(BaseModel):
    """Why an answer is incomplete."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class Response(BaseModel):
    """The answer to a request for Responses."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["in_progress", "completed", "incomplete"]
    model: str
    output: list[ReasoningItem | OutputMessage]
    error: None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None = None
    max_output_tokens: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool = False
    previous_response_id: None = None
    store: bool = False
    temperature: float
    top_p: float
    tool_choice: Literal["none"] = "none"
    tools: list[Any] = []
    truncation: Literal["disabled"] = "disabled"
    usage: ResponseUsage | None = None
    nest: Remarks | None = None


class Model(BaseModel):
    """A model that can be asked."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["nest-engine"] = "nest-engine"


class Models(BaseModel):
    """The models that can be asked."""

    object: Literal["list"] = "list"
    data: list[Model]


class Health(BaseModel):
    """Whether requests are answered."""

    status: Literal["ok", "closed"]


class ErrorDetails(BaseModel):
    """What was wrong, and with which field."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class Error(BaseModel):
    """An error in OpenAI's shape."""

    error: ErrorDetails


@dataclass(frozen=True)
class Head:
    """What every piece of a reply repeats.

    Args:
        id: of the reply.
        created: seconds since 1970.
        model: name of the model.
    """

    id: str
    created: int
    model: str


def compact_json(value: Any) -> str:
    """Return a value as JSON, as models write it."""
    return json.dumps(value, ensure_ascii=False)


def new_id(prefix: str) -> str:
    """Return an identifier as OpenAI writes them."""
    return f"{prefix}_{uuid.uuid4().hex}"


def finish_reason(output: NestOutput) -> Literal["stop", "length"]:
    """Return why an answer ended, in OpenAI's words."""
    return "length" if output.finish_reason == "length" else "stop"


def chat_annotation(citation: Citation, text: str) -> dict[str, Any]:
    """Return a citation as Chat Completions has it, with all that we know of it."""
    converted = to_openai_annotation(citation, chat_completions=True)
    converted["url_citation"] |= _utf16(citation, text)
    return converted | {"nest": json_ready(citation.to_dict())}


def annotation(citation: Citation, text: str) -> dict[str, Any]:
    """Return a citation as Responses has it, with all that we know of it."""
    utf16 = _utf16(citation, text)
    return to_openai_annotation(citation) | utf16 | {"nest": json_ready(citation.to_dict())}


def _utf16(citation: Citation, text: str) -> dict[str, int]:
    """Return the offsets of a citation in a text for JavaScript."""
    return {
        "utf16_start_index": utf16_offset(text, citation.answer_start),
        "utf16_end_index": utf16_offset(text, citation.answer_end),
    }


def remarks(output: NestOutput, method: str, notices: Sequence[str] = ()) -> dict[str, Any]:
    """Return what an answer cost and what a caller should know.

    Args:
        output: the answer.
        method: how it was decoded.
        notices: what its request says, beside the answer's own notices.
    """
    return {
        "method": method,
        "stats": json_ready(output.stats.to_dict()),
        "notices": [*notices, *output.notices],
        "sentences": sentences(output),
    }


def sentences(answer: NestOutput | CitedAnswer) -> list[dict[str, Any]]:
    """Return what the citations prove of each sentence, with its offsets for JavaScript."""
    return [
        plain(sentence)
        | {
            "utf16_start": utf16_offset(answer.text, sentence.start),
            "utf16_end": utf16_offset(answer.text, sentence.end),
        }
        for sentence in answer.sentences
    ]


def usage(outputs: Sequence[NestOutput], answers_to_each: int) -> dict[str, Any]:
    """Return the tokens of all answers to a request, each prompt counted once.

    Args:
        outputs: the answers, those to one prompt after those to another.
        answers_to_each: how many there are to each prompt.
    """
    firsts = outputs[::answers_to_each]
    read = sum(output.usage["prompt_tokens"] for output in firsts)
    known = sum(output.stats.cached_prompt_tokens for output in firsts)
    written = sum(output.usage["completion_tokens"] for output in outputs)
    return {
        "prompt_tokens": read,
        "prompt_tokens_details": {"cached_tokens": known},
        "completion_tokens": written,
        "total_tokens": read + written,
    }


def dumped(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a reply as plain data, checked against its description."""
    return model.model_validate(values).model_dump(mode="json")
