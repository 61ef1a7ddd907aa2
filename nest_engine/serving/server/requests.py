"""What clients send: OpenAI's fields as far as they apply here, and a ``nest`` object.

Unknown fields are refused by name, unless they are null. A few fields that clients send by default
are accepted as long as they ask for nothing: no penalties, nothing stored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    create_model,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from nest_engine.config import NestConfig
from nest_engine.errors import InputError
from nest_engine.generation.tool_calls import (
    Turn,
    opening,
    read_arguments,
    read_tool_choice,
    turn_of,
)
from nest_engine.interfaces import Message
from nest_engine.records import Passage

# Settings that OpenAI has a field for.
_OPENAI_NAMES = {"max_new_tokens", "temperature", "top_p", "seed", "stop"}
# Settings that other servers of this API have a field for.
_SHARED_NAMES = {"chat_template_kwargs"}
_TEXT_NAMES = ("text", "snippet", "contents", "content", "body", "page_content")
_PARTS = ("text", "input_text", "output_text", "refusal")
_THOUGHTS = ("thinking", "redacted_thinking", "reasoning")  # of earlier answers; not read

# Most tokens of an answer; -1 is how some clients say that there is no limit.
MostTokens = Annotated[
    Annotated[int, Field(ge=1)] | None,
    BeforeValidator(lambda given: None if given == -1 else given),
]


class Sent(BaseModel):
    """What a client sends: unknown fields are refused, but for nulls, which say nothing."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if value is not None}


class SentPassage(Sent):
    """A stretch of source text that may be quoted; see ``nest_engine.Passage``."""

    text: str
    title: str = ""
    id: str = ""
    uri: str | None = None
    score: float | None = None
    license: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class _NestOptions(Sent):
    """What may be quoted, and the settings of ``nest_engine.NestConfig`` unknown to OpenAI."""

    passages: list[SentPassage] | None = Field(
        default=None,
        description="What may be quoted. Without it, the server searches its own documents.",
    )
    query: str | None = Field(
        default=None, description="What to search for. Default: the last user message."
    )

    def given_passages(self) -> tuple[Passage, ...] | None:
        """Return the passages of the request; None lets the server search.

        Raises:
            InputError: if a passage is not valid.
        """
        return (
            None
            if self.passages is None
            else tuple(
                Passage(**passage.model_dump()) for passage in self.passages if passage.text.strip()
            )
        )

    def settings(self) -> dict[str, Any]:
        """Return the settings that were given."""
        return self.model_dump(exclude_none=True, exclude={"passages", "query"})


_hints = get_type_hints(NestConfig)
_settings: dict[str, Any] = {
    field.name: (_hints[field.name] | None, None)
    for field in fields(NestConfig)
    if field.name not in _OPENAI_NAMES | _SHARED_NAMES | {"tuned"}
}
NestOptions = create_model(
    "NestOptions", __base__=_NestOptions, __doc__=_NestOptions.__doc__, **_settings
)


class TextPart(Sent):
    """A part of a message; text is all that the model reads."""

    type: Literal["text", "input_text", "output_text", "refusal"]
    text: str = ""
    refusal: str | None = None
    cache_control: dict[str, Any] | None = None
    # From an earlier answer, which the client sends back.
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class SentFunction(Sent):
    """A function of a tool call, with its arguments as JSON."""

    name: str
    arguments: str | dict[str, Any] | None = None


class SentCall(Sent):
    """A tool call of an earlier answer, which the client sends back."""

    id: str | None = None
    type: Literal["function"] = "function"
    index: int | None = None
    function: SentFunction

    def read(self) -> dict[str, Any]:
        """Return the call as templates know it: its arguments are no text."""
        arguments = read_arguments(self.function.arguments)
        function = {"name": self.function.name, "arguments": arguments}
        return {"type": "function", "id": self.id, "function": function}


class SentMessage(Sent):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_calls: list[SentCall] | None = None
    tool_call_id: str | None = None
    cache_control: dict[str, Any] | None = None
    # From an earlier answer, which the client sends back.
    type: Literal["message"] = "message"
    id: str | None = None
    status: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    phase: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[Any] | None = None
    nest: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_functions(cls, given: Any) -> Any:
        """Return a message of the time before there were tools as one with tools."""
        if not isinstance(given, dict):
            return given
        given = dict(given)
        if given.get("role") == "function":
            given["role"] = "tool"
        if call := given.pop("function_call", None):
            given["tool_calls"] = [{"function": call}]
        return given

    @field_validator("content", mode="before")
    @classmethod
    def _read_parts(cls, given: Any) -> Any:
        if not isinstance(given, list):
            return given
        parts = [
            {"type": "text", "text": each} if isinstance(each, str) else each for each in given
        ]
        kinds = [part.get("type") if isinstance(part, dict) else None for part in parts]
        for kind in kinds:
            if isinstance(kind, str) and kind not in _PARTS + _THOUGHTS:
                raise ValueError(f"a part of type {kind!r} is not supported here: send text")
        return [part for part, kind in zip(parts, kinds, strict=True) if kind not in _THOUGHTS]

    def read(self) -> Message:
        """Return the turn as the model's template knows it."""
        text = (
            self.content
            if isinstance(self.content, str)
            else "\n".join(part.text or part.refusal or "" for part in self.content or ())
        )
        text = text or self.refusal or ""
        more: dict[str, Any] = {}
        if self.tool_calls:
            more["tool_calls"] = [call.read() for call in self.tool_calls]
        if self.role == "tool":
            more |= {"tool_call_id": self.tool_call_id, "name": self.name}
        return Message(self.role, text, more)


class SentFunctionTool(BaseModel):
    """A function that the model may call."""

    model_config = ConfigDict(extra="allow")

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class SentTool(Sent):
    """A tool that the model may call, in the format of Chat Completions."""

    type: Literal["function"]
    function: SentFunctionTool


class Asked(Sent):
    """What both APIs share."""

    model: str
    stream: bool | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1, description="0 and -1 set no limit.")
    seed: int | None = Field(
        default=None, ge=-1, lt=2**63, description="-1 draws one, as no seed does."
    )
    stop: str | list[str] | None = None  # "" stops nowhere
    # As other servers of models that reason have them.
    chat_template_kwargs: dict[str, Any] | None = Field(
        default=None,
        description='Variables of the chat template, such as {"enable_thinking": false}.',
    )
    include_reasoning: bool = Field(
        default=True, description="Whether the answer comes with the model's reasoning."
    )
    nest: NestOptions | None = None  # type: ignore[valid-type]

    # About the client; ignored.
    user: str | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    # Accepted as long as they ask for nothing.
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    parallel_tool_calls: bool | None = None
    top_logprobs: Literal[0] | None = None
    verbosity: str | None = None
    # Likewise, of vLLM, llama.cpp, SGLang and their clients.
    add_generation_prompt: Literal[True] | None = None
    cache_prompt: bool | None = None
    continue_final_message: Literal[False] | None = None
    ignore_eos: Literal[False] | None = None
    include_stop_str_in_output: Literal[False] | None = None
    length_penalty: Literal[1] | None = None
    min_p: Literal[0] | None = None
    min_tokens: Literal[0] | None = None
    repeat_penalty: Literal[1] | None = None
    repetition_penalty: Literal[1] | None = None
    skip_special_tokens: Literal[True] | None = None
    spaces_between_special_tokens: bool | None = None
    use_beam_search: Literal[False] | None = None

    @property
    def options(self) -> _NestOptions:
        """The ``nest`` object, empty when there is none."""
        return self.nest or NestOptions()

    def conversation(self) -> list[Message]:
        """Return the messages."""
        raise NotImplementedError

    def most_tokens(self) -> int | None:
        """Return the most tokens that an answer may have."""
        raise NotImplementedError

    def num_choices(self) -> int:
        """Return the number of answers."""
        return 1

    def tool_definitions(self) -> list[dict[str, Any]]:
        """Return the tools that the model may call, in the format of Chat Completions."""
        return []

    def opening(self) -> str:
        """Return the beginning of the answer that makes the model call a tool; mostly nothing."""
        return ""

    def calls_in_parallel(self) -> bool:
        """Return whether an answer may hold several tool calls."""
        return self.parallel_tool_calls is not False

    def turn(self) -> Turn:
        """Return how to read the model's turn."""
        return turn_of(
            self.tool_definitions(), self.opening(), is_parallel=self.calls_in_parallel()
        )

    def given_passages(self) -> tuple[Passage, ...] | None:
        """Return the passages of the request; None lets the server search.

        Raises:
            InputError: if a passage is not valid.
        """
        return self.options.given_passages()

    def config(self, default: NestConfig, most_tokens: int) -> NestConfig:
        """Return the settings of the request, on top of the server's.

        Args:
            default: the server's.
            most_tokens: what it lets an answer have at most.

        Raises:
            ConfigError: if one is not valid.
        """
        asked = self.most_tokens()
        if self.seed == -1:
            default = default.replace(seed=None)
        named = self.named_settings()
        if asked is not None:
            named["max_new_tokens"] = min(asked, most_tokens)
        given = {name: value for name, value in named.items() if value is not None}
        return default.replace(**given | self.options.settings())

    def named_settings(self) -> dict[str, Any]:
        """Return the settings that the API has a field for, by our names."""
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": max(self.top_k or 0, 0) or None,
            "seed": None if self.seed == -1 else self.seed,
            "stop": self.stop or None,
            "chat_template_kwargs": self.chat_template_kwargs,
        }

    def notices(self, most_tokens: int) -> list[str]:
        """Return what the client should know about its request.

        Args:
            most_tokens: what the server lets an answer have at most.
        """
        asked = self.most_tokens() or 0
        if asked <= most_tokens:
            return []
        return [f"{asked:,} tokens were asked for; this server gives an answer {most_tokens:,}"]

    def query(self) -> str | None:
        """Return what to search for: the query of the client, or the last message of the user."""
        said = (each.text.strip() for each in reversed(self.conversation()) if each.role == "user")
        return self.options.query or next(filter(None, said), None)


class StreamOptions(Sent):
    """What else a stream carries."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class TextFormat(Sent):
    """How the answer is written: as text."""

    model_config = ConfigDict(extra="ignore")

    type: str

    @field_validator("type")
    @classmethod
    def _require_text(cls, given: str) -> str:
        if given != "text":
            raise ValueError(
                f"{given!r} is not supported here: answers are text; leave it out, and ask for "
                "JSON in the prompt"
            )
        return given


class ChatRequest(Asked):
    """A request for Chat Completions."""

    messages: list[SentMessage] = Field(min_length=1)
    n: int | None = Field(default=None, ge=1)
    max_tokens: MostTokens = None
    max_completion_tokens: MostTokens = None
    stream_options: StreamOptions | None = None
    tools: list[SentTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    documents: list[str | dict[str, Any]] | None = Field(
        default=None,
        description="What may be quoted, as Cohere's and vLLM's clients send it; like "
        "nest.passages.",
    )
    reasoning_effort: str | None = None

    # Accepted as long as they ask for nothing.
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    logit_bias: dict[str, float] | None = Field(default=None, max_length=0)
    logprobs: Literal[False] | None = None
    response_format: TextFormat | None = None
    modalities: list[Literal["text"]] | None = None

    @model_validator(mode="before")
    @classmethod
    def _require_tools(cls, given: Any) -> Any:
        """Refuse functions: whoever sends them reads no tool calls."""
        if not isinstance(given, dict):
            return given
        given = dict(given)
        if given.pop("functions", None):
            raise ValueError("functions is not supported here; send tools")
        if isinstance(given.pop("function_call", None), dict):
            raise ValueError("function_call is not supported here; send tools and tool_choice")
        return given

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.max_tokens is not None and self.max_completion_tokens not in (
            None,
            self.max_tokens,
        ):
            raise ValueError(
                f"max_tokens={self.max_tokens} and "
                f"max_completion_tokens={self.max_completion_tokens} contradict each "
                "other; give one"
            )
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only for streams; add stream=true or leave it out")
        if not self.tools and self.tool_choice not in (None, "none", "auto"):
            raise ValueError(
                f"tool_choice={self.tool_choice!r} asks for a tool, and there are none"
            )
        if self.documents is not None and self.options.passages is not None:
            raise ValueError("documents and nest.passages are two names of the same; give one")
        return self

    def tool_definitions(self) -> list[dict[str, Any]]:
        """Return the tools that the model may call."""
        if self.tool_choice == "none":
            return []
        return [tool.model_dump(exclude_none=True) for tool in self.tools or ()]

    def opening(self) -> str:
        """Return the beginning of the answer that makes the model call the chosen tool.

        Raises:
            ConfigError: if there is no such tool.
        """
        tools = self.tool_definitions()
        return opening(tools, read_tool_choice(self.tool_choice, tools)) if tools else ""

    def given_passages(self) -> tuple[Passage, ...] | None:
        """Return ``nest.passages`` or ``documents``; None lets the server search.

        Raises:
            InputError: if a passage is not valid.
        """
        if self.documents is None:
            return self.options.given_passages()
        passages = map(passage_of_document, self.documents)
        return tuple(passage for passage in passages if passage.text.strip())

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def conversation(self) -> list[Message]:
        """Return the messages."""
        return [message.read() for message in self.messages]

    def most_tokens(self) -> int | None:
        """Return the most tokens that an answer may have."""
        return self.max_completion_tokens or self.max_tokens

    def num_choices(self) -> int:
        """Return the number of answers."""
        return self.n or 1


class TextOptions(Sent):
    """How the answer is written: as text."""

    format: TextFormat | None = None
    verbosity: str | None = None


class SentReasoning(BaseModel):
    """What a model said to itself in an earlier answer, which the client sends back; not read."""

    model_config = ConfigDict(extra="allow")

    type: Literal["reasoning"]


class ResponsesRequest(Asked):
    """A request for Responses."""

    input: str | list[SentMessage | SentReasoning] = Field(min_length=1)
    instructions: str | None = None
    max_output_tokens: MostTokens = None

    # Accepted as long as they ask for nothing.
    text: TextOptions | None = None
    include: list[Any] | None = Field(default=None, max_length=0)
    truncation: Literal["disabled"] | None = None
    background: Literal[False] | None = None
    previous_response_id: None = None
    stream_options: StreamOptions | None = None
    tools: list[Any] | None = Field(default=None, max_length=0)
    tool_choice: Literal["none", "auto"] | None = None
    reasoning: dict[str, Any] | None = None

    @field_validator("input", mode="before")
    @classmethod
    def _require_messages(cls, given: Any) -> Any:
        for number, item in enumerate(given if isinstance(given, list) else ()):
            kind = item.get("type") if isinstance(item, dict) else None
            if isinstance(kind, str) and kind not in ("message", "reasoning"):
                raise ValueError(
                    f"item {number} of type {kind!r} is not supported here: send messages"
                )
        return given

    def conversation(self) -> list[Message]:
        """Return the messages, the instructions in front."""
        instructions = [Message("system", self.instructions)] if self.instructions else []
        if isinstance(self.input, str):
            return [*instructions, Message("user", self.input)]
        said = (item for item in self.input if isinstance(item, SentMessage))
        return [*instructions, *(message.read() for message in said)]

    def most_tokens(self) -> int | None:
        """Return the most tokens that an answer may have."""
        return self.max_output_tokens


class CompletionsRequest(Asked):
    """A request for Completions: the prompt is continued as it is."""

    prompt: str | list[str] = Field(description="A text, or several.", min_length=1)
    n: int | None = Field(default=None, ge=1)
    max_tokens: MostTokens = None
    stream_options: StreamOptions | None = None

    # Accepted as long as they ask for nothing.
    best_of: Literal[1] | None = None
    echo: Literal[False] | None = None
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    logit_bias: dict[str, float] | None = Field(default=None, max_length=0)
    suffix: Literal[""] | None = None

    @field_validator("prompt", mode="before")
    @classmethod
    def _require_texts(cls, given: Any) -> Any:
        if given == "" or (isinstance(given, list) and "" in given):
            raise ValueError("the prompt is empty; send a text to continue")
        return require_no_tokens(given, "send the text")

    def most_tokens(self) -> int | None:
        """Return the most tokens that an answer may have."""
        return self.max_tokens

    def num_choices(self) -> int:
        """Return the number of answers."""
        return self.n or 1

    def conversation(self) -> list[Message]:
        """Return the prompts, as if a user had said them."""
        return [Message("user", text) for text in self.texts]

    @property
    def texts(self) -> list[str]:
        """The prompts; each has as many answers as ``n`` asks for."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class EmbeddingsRequest(Sent):
    """A request for the vectors of texts."""

    model: str
    input: str | list[str] = Field(min_length=1)
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None

    @field_validator("input", mode="before")
    @classmethod
    def _require_texts(cls, given: Any) -> Any:
        return require_no_tokens(
            given, "send the text (langchain_openai: check_embedding_ctx_length=False)"
        )


def require_no_tokens(given: Any, instead: str) -> Any:
    """Return a text or several as they came, for pydantic.

    Raises:
        ValueError: if they are token ids, which belong to another tokenizer.
    """
    first = given[0] if isinstance(given, list) and given else None
    if isinstance(first, (int, list)):
        raise ValueError(f"token ids are not supported here; {instead}")
    return given


def passage_of_document(document: str | dict[str, Any]) -> Passage:
    """Return a document of Cohere's or vLLM's clients as a passage.

    Args:
        document: a text; ``{"id", "data": {"text" or "snippet", "title", ...}}``, or the fields
            alone; or LangChain's ``{"page_content", "metadata"}``.

    Raises:
        InputError: if it has no text.
    """
    if isinstance(document, str):
        return Passage(document)
    data = document.get("data", document)
    if not isinstance(data, (str, dict)):
        raise InputError(f"a document's data must be an object, got {type(data).__name__}")
    fields: dict[str, Any] = {"text": data} if isinstance(data, str) else dict(data)
    if "page_content" in fields and isinstance(fields.get("metadata"), dict):
        fields |= fields.pop("metadata")
        fields["url"] = fields.get("url") or fields.pop("source", None)
    named = [name for name in _TEXT_NAMES if name in fields]
    name = next((name for name in named if fields[name]), named[0] if named else "")
    text = fields.pop(name, None)
    if not isinstance(text, str):
        raise InputError(
            f"a document has no text: give one of {', '.join(_TEXT_NAMES)}, such as "
            '{"title": "...", "text": "..."}'
        )
    uri = fields.pop("url", None) or fields.pop("uri", None)
    return Passage(
        text,
        title=str(fields.pop("title", "") or ""),
        id=str(document.get("id") or fields.pop("id", "") or ""),
        uri=str(uri) if uri else None,
        metadata={name: value for name, value in fields.items() if name != "id"},
    )


_MOST_PROBLEMS = 20  # that are looked at
# What pydantic puts among the names of fields: which of several types it has tried.
_TRIED = re.compile(r"(?:list|dict|tuple|union|function-\w+)\[.*\]|Sent\w+|str", re.DOTALL)


def problems(errors: list[Mapping[str, Any]]) -> tuple[str, str | None]:
    """Return a message for pydantic's errors, and the first field concerned."""
    # What is no message of a response is reasoning, of which nothing is asked.
    told = [error for error in errors if SentReasoning.__name__ not in error["loc"]]
    found = [(_place(error), error) for error in (told or errors)[:_MOST_PROBLEMS]]
    # Where a value may be of several types, what is wrong inside of one says more.
    found = [
        (place, error)
        for place, error in found
        if not any(other[: len(place)] == place and other != place for other, _ in found)
    ] or found
    messages = []
    for names, error in found[:3]:
        place = ".".join(names)
        if error["type"] == "extra_forbidden" or (
            error["type"] == "too_long" and error["ctx"].get("max_length") == 0
        ):
            messages.append(f"{place} is not supported here; leave it out")
        elif error["type"] == "none_required":
            messages.append(f"{place}: only null is supported here")
        elif error["type"] == "literal_error":
            messages.append(f"{place}: only {error['ctx']['expected']} is supported here")
        elif error["type"] == "value_error":
            messages.append(
                f"{place}: {error['ctx']['error']}" if place else str(error["ctx"]["error"])
            )
        elif error["type"] == "json_invalid":
            messages.append(f"the request is not JSON: {error['ctx']['error']}")
        else:
            messages.append(f"{place}: {error['msg']}" if place else str(error["msg"]))
    return "; ".join(dict.fromkeys(messages)), ".".join(found[0][0]) or None


def _place(error: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the fields that lead to what is wrong."""
    return tuple(
        str(name) for name in error["loc"] if isinstance(name, int) or not _TRIED.fullmatch(name)
    )
