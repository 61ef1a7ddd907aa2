"""Anthropic's Messages API: documents and search results in, exact citations out.

Citations have the form that the API gives to their source: ``char_location`` in a plain text,
``page_location`` in a PDF, ``content_block_location`` in a document of blocks,
``search_result_location`` in a search result. Each stands at a text block of its own, whose text is
what is quoted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from nest_engine.citations.formats import split_answer
from nest_engine.errors import InputError
from nest_engine.generation.tool_calls import ToolCall, opening
from nest_engine.interfaces import Message
from nest_engine.output import NestChunk, NestOutput
from nest_engine.records import Citation, Passage
from nest_engine.retrieval.blocks import IS_CITED, LOCATION, SourceBlocks, as_object, required_text
from nest_engine.serving.server import replies
from nest_engine.serving.server.events import event
from nest_engine.serving.server.requests import Asked, Sent

_STOP_REASONS = {"length": "max_tokens", "stop": "stop_sequence", "eos": "end_turn"}


class SentTurn(Sent):
    """One turn of a conversation: a text, or blocks."""

    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]] = ""


class SentTool(BaseModel):
    """A tool that the model may call."""

    model_config = ConfigDict(extra="allow")

    name: str
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None

    @field_validator("type")
    @classmethod
    def _require_custom(cls, given: str | None) -> str | None:
        if given not in (None, "custom"):
            raise ValueError(
                f"a tool of type {given!r} runs on Anthropic's servers, and not here; leave it out"
            )
        return given


class _MessagesBase(Asked):
    """What asking and counting share."""

    messages: list[SentTurn] = Field(min_length=1)
    system: str | list[dict[str, Any]] | None = None
    tools: list[SentTool] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None

    # About the client's service; ignored.
    cache_control: dict[str, Any] | None = None
    container: Any = None
    context_management: Any = None
    inference_geo: str | None = None
    mcp_servers: list[Any] | None = Field(default=None, max_length=0)
    metadata: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    service_tier: str | None = None  # type: ignore[assignment]

    @cached_property
    def sources(self) -> SourceBlocks:
        """Return what the messages bring to quote from.

        Raises:
            InputError: if a block cannot be read.
        """
        found = SourceBlocks()
        for number, turn in enumerate(self.messages):
            if not isinstance(turn.content, str):
                found.read(turn.content, f"messages.{number}.content")
        return found

    def given_passages(self) -> tuple[Passage, ...] | None:
        """Return the passages of documents and search results; None lets the server search.

        Raises:
            InputError: if the request brings passages in another way as well.
        """
        given = self.options.given_passages()
        if self.sources.is_given:
            if given is not None:
                raise InputError(
                    "nest.passages cannot be sent beside document or search_result blocks: give "
                    "one of them"
                )
            return self.sources.ranked(self.query())
        if given is None:
            return None
        # Where a citation stands is for the blocks of the messages to say.
        return tuple(
            replace(each, metadata={k: v for k, v in each.metadata.items() if k != LOCATION})
            for each in given
        )

    def conversation(self) -> list[Message]:
        """Return the messages as the model's template knows them; documents are passages.

        Raises:
            InputError: if a block is no text, or a document.
        """
        system = self.system if isinstance(self.system, str) else _text(self.system or (), "system")
        turns = [Message("system", system)] if system else []
        for number, turn in enumerate(self.messages):
            if isinstance(turn.content, str):
                turns.append(Message(turn.role, turn.content))
            else:
                turns += _turns(turn.role, turn.content, f"messages.{number}.content")
        return turns

    def tool_definitions(self) -> list[dict[str, Any]]:
        """Return the tools in the format of Chat Completions."""
        if (self.tool_choice or {}).get("type") == "none":
            return []
        return [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description or "",
                    "parameters": tool.input_schema or {},
                },
            }
            for tool in self.tools or ()
        ]

    def calls_in_parallel(self) -> bool:
        """Return whether an answer may hold several tool calls."""
        return not (self.tool_choice or {}).get("disable_parallel_tool_use")

    def opening(self) -> str:
        """Return the beginning of the answer that makes the model call the chosen tool.

        Raises:
            InputError: if there is no such tool.
        """
        tools, choice = self.tool_definitions(), self.tool_choice or {}
        names = [tool.name for tool in self.tools or ()]
        if choice.get("type") in ("any", "tool") and not names:
            raise InputError(f"tool_choice={choice!r} asks for a tool, and there are none")
        if choice.get("type") == "any":
            return opening(tools, "any")
        if choice.get("type") != "tool":
            return ""
        if choice.get("name") not in names:
            raise InputError(
                f"tool_choice names {choice.get('name')!r}; give one of {', '.join(names)}"
            )
        return opening(tools, choice["name"])


class MessagesRequest(_MessagesBase):
    """A request for Messages."""

    max_tokens: int = Field(ge=1)
    stop_sequences: list[str] | None = None

    def most_tokens(self) -> int | None:
        """Return the most tokens that an answer may have."""
        return self.max_tokens

    def named_settings(self) -> dict[str, Any]:
        """Return the settings that the API has a field for, by our names."""
        return super().named_settings() | {"stop": self.stop_sequences}


class CountRequest(_MessagesBase):
    """A request for the number of tokens that messages take."""

    def most_tokens(self) -> int | None:
        """Return nothing: no answer is asked for."""
        return None


class CountedTokens(BaseModel):
    """Tokens of a prompt, without passages that are placed in it."""

    input_tokens: int


class MessageUsage(BaseModel):
    """Tokens read and written."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0


class AnsweredMessage(BaseModel):
    """The answer to a request for Messages."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[dict[str, Any]]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"] | None = None
    stop_sequence: str | None = None
    usage: MessageUsage
    nest: replies.Remarks | None = None


class MessagesFormat:
    """Write the answer to one request.

    Args:
        asked: the request.
        head: what every piece repeats.
        method: how the answer is decoded.
        notices: what the client should know about its request.
    """

    def __init__(
        self, asked: MessagesRequest, head: replies.Head, method: str, notices: Sequence[str] = ()
    ) -> None:
        self._asked = asked
        self._head = head
        self._method = method
        self._notices = notices
        self._turn = asked.turn()
        self._shows_reasoning = (asked.thinking or {}).get("type") in ("enabled", "adaptive")
        self._found: dict[str, int] = {}  # what the server found and was cited, by number
        sources = asked.sources
        # Whoever brings documents says whether they are to be cited; those of the server are.
        self._cites = sources.are_cited or not sources.is_given

    def whole(self, outputs: Sequence[NestOutput]) -> dict[str, Any]:
        """Return the finished answer."""
        [output] = outputs
        end, calls = self._turn.split(output.text)
        content: list[dict[str, Any]] = []
        if output.reasoning and self._shows_reasoning:
            content.append({"type": "thinking", "thinking": output.reasoning, "signature": ""})
        content += self._text_blocks(output, end)
        content += [_tool_use(call) for call in calls]
        return replies.dumped(
            AnsweredMessage,
            self._frame(output)
            | {"content": content, "nest": replies.remarks(output, self._method, self._notices)}
            | self._ending(output, calls),
        )

    async def stream(self, chunks: AsyncIterator[tuple[int, NestChunk]]) -> AsyncIterator[str]:
        """Yield the answer as server-sent events while it is decoded.

        Text is shown as soon as it is known whether it is a quotation: a block is one, or none.
        """
        begun = replies.dumped(AnsweredMessage, self._frame(None) | {"content": []})
        yield _named("message_start", message=begun)
        blocks = _Blocks()
        text, shown, waiting = "", 0, list[Citation]()
        async for _, chunk in chunks:
            if chunk.reasoning and self._shows_reasoning:
                for line in blocks.add("thinking", chunk.reasoning):
                    yield line
            text += chunk.text
            waiting += filter(_is_shown, chunk.citations) if self._cites else ()
            end = min(chunk.settled, self._turn.shown(text)) if self._cites else len(text)
            calls: list[ToolCall] = []
            if chunk.output is not None:
                end, calls = self._turn.split(text)
            for citation in [each for each in waiting if each.answer_end <= end]:
                waiting.remove(citation)
                for line in blocks.add("text", text[shown : citation.answer_start]):
                    yield line
                for line in blocks.cited(
                    text[citation.answer_start : citation.answer_end], self._location(citation)
                ):
                    yield line
                shown = citation.answer_end
            if end > shown:
                for line in blocks.add("text", text[shown:end]):
                    yield line
                shown = end
            if chunk.output is not None:
                for line in [*blocks.close(), *self._end(blocks, chunk.output, calls)]:
                    yield line

    def _end(self, blocks: _Blocks, output: NestOutput, calls: Sequence[ToolCall]) -> Iterator[str]:
        for call in calls:
            yield from blocks.called(call)
        ending = self._ending(output, calls)
        usage = self._frame(output)["usage"]
        remarks = replies.remarks(output, self._method, self._notices)
        yield _named("message_delta", delta=ending, usage=usage, nest=remarks)
        yield _named("message_stop")

    def _text_blocks(self, output: NestOutput, end: int) -> Iterator[dict[str, Any]]:
        if not self._cites:
            if end:
                yield {"type": "text", "text": output.text[:end]}
            return
        position = 0
        shown_ones = tuple(filter(_is_shown, output.citations))
        for text, citation in split_answer(replace(output, citations=shown_ones)):
            shown = text[: max(0, end - position)]
            position += len(text)
            if shown:
                is_whole = citation is not None and position <= end
                cited = {"citations": [self._location(citation)]} if is_whole and citation else {}
                yield {"type": "text", "text": shown, **cited}

    def _location(self, citation: Citation) -> dict[str, Any]:
        """Return a citation in the form of its source; the server's own is a search result."""
        number = self._found.setdefault(citation.passage_id, len(self._found))
        return _location(citation, number)

    def _frame(self, output: NestOutput | None) -> dict[str, Any]:
        usage = output.usage if output else {"prompt_tokens": 0, "completion_tokens": 0}
        known = output.stats.cached_prompt_tokens if output else 0
        return {
            "id": self._head.id,
            "model": self._head.model,
            "usage": {
                "input_tokens": usage["prompt_tokens"] - known,  # those known count apart here
                "cache_read_input_tokens": known,
                "output_tokens": usage["completion_tokens"],
            },
        }

    def _ending(self, output: NestOutput, calls: Sequence[ToolCall]) -> dict[str, Any]:
        reason = "tool_use" if calls else _STOP_REASONS.get(output.finish_reason, "end_turn")
        is_theirs = output.stop_string in (self._asked.stop_sequences or [])
        if reason == "stop_sequence" and not is_theirs:
            reason = "end_turn"  # the server's own
        known = output.stop_string if reason == "stop_sequence" else None
        return {"stop_reason": reason, "stop_sequence": known}


class _Blocks:
    """The blocks of a streamed answer."""

    def __init__(self) -> None:
        self._index = -1
        self._open: str | None = None

    def add(self, kind: Literal["text", "thinking"], text: str) -> Iterator[str]:
        """Go on with a block of a kind, or begin one."""
        if not text:
            return
        if self._open != kind:
            yield from self.close()
            more = {"signature": ""} if kind == "thinking" else {}
            yield self._begin(kind, {"type": kind, kind: "", **more})
        yield self._delta({"type": f"{kind}_delta", kind: text})

    def cited(self, text: str, location: Mapping[str, Any]) -> Iterator[str]:
        """Write a quotation: a block with its citation."""
        yield from self.close()
        yield self._begin("text", {"type": "text", "text": "", "citations": []})
        yield self._delta({"type": "text_delta", "text": text})
        yield self._delta({"type": "citations_delta", "citation": dict(location)})
        yield from self.close()

    def called(self, call: ToolCall) -> Iterator[str]:
        """Write a tool call."""
        yield from self.close()
        yield self._begin("tool_use", _tool_use(call) | {"input": {}})
        written = replies.compact_json(call.arguments)
        yield self._delta({"type": "input_json_delta", "partial_json": written})
        yield from self.close()

    def close(self) -> Iterator[str]:
        """End the block that is open, if there is one."""
        if self._open is not None:
            self._open = None
            yield _named("content_block_stop", index=self._index)

    def _begin(self, kind: str, block: dict[str, Any]) -> str:
        self._open = kind
        self._index += 1
        return _named("content_block_start", index=self._index, content_block=block)

    def _delta(self, delta: dict[str, Any]) -> str:
        return _named("content_block_delta", index=self._index, delta=delta)


def _named(kind: str, **fields: Any) -> str:
    return event({"type": kind, **fields}, kind)


def _tool_use(call: ToolCall) -> dict[str, Any]:
    number = call.id.removeprefix("call_")
    return {
        "type": "tool_use",
        "id": f"toolu_{number}",
        "name": call.name,
        "input": call.arguments,
    }


def _is_shown(citation: Citation) -> bool:
    """Return whether the client wants the source to be cited; those of the server are."""
    location = citation.metadata.get(LOCATION)
    return location is None or bool(location[IS_CITED])


def _location(citation: Citation, number: int) -> dict[str, Any]:
    """Return a citation in the form of its source.

    Args:
        citation: the citation.
        number: of the source among the server's own, if it is one.
    """
    known: dict[str, Any] = dict(citation.metadata.get(LOCATION) or {}) or {
        "type": "search_result_location",
        "search_result_index": number,
        "source": citation.uri or citation.passage_id,
        "title": citation.title or None,
        "start_block_index": 0,
        "end_block_index": 1,
    }
    known.pop(IS_CITED, None)
    location = {**known, "cited_text": citation.cited_text}
    if known["type"] == "char_location":
        offset = int(citation.metadata["start_index"])
        location["start_char_index"] = offset + citation.source_start
        location["end_char_index"] = offset + citation.source_end
    elif known["type"] == "page_location":
        page = citation.metadata["page"]
        location |= {"start_page_number": page, "end_page_number": page + 1}
    return location


def _turns(role: str, blocks: Sequence[Mapping[str, Any]], place: str) -> list[Message]:
    """Return the messages that the blocks of a turn are: tool results are turns of their own."""
    said: list[Mapping[str, Any]] = []
    calls: list[dict[str, Any]] = []
    results: list[Message] = []
    for number, block in enumerate(blocks):
        here = f"{place}.{number}"
        block = as_object(block, here)
        kind = block.get("type")
        if kind == "tool_use":
            function = {"name": block.get("name"), "arguments": block.get("input") or {}}
            calls.append({"type": "function", "id": block.get("id"), "function": function})
        elif kind == "tool_result":
            content = block.get("content") or ""
            if not isinstance(content, (str, list)):
                raise InputError(f"{here}.content must be a text or a list of blocks")
            text = content if isinstance(content, str) else _text(content, f"{here}.content")
            results.append(Message("tool", text, {"tool_call_id": block.get("tool_use_id")}))
        else:
            said.append(block)
    # An answer comes back in pieces, by what was cited.
    text = _text(said, place, between="" if role == "assistant" else "\n")
    if not (text or calls):
        return results
    return [*results, Message(role, text, {"tool_calls": calls} if calls else {})]


def _text(blocks: Sequence[Mapping[str, Any]], place: str, between: str = "\n") -> str:
    """Return the text of blocks; documents and search results are passages, thinking is over."""
    texts = []
    for number, block in enumerate(blocks):
        kind = as_object(block, f"{place}.{number}").get("type")
        if kind == "text":
            texts.append(required_text(block.get("text"), f"{place}.{number}.text"))
        elif kind not in ("document", "search_result", "thinking", "redacted_thinking"):
            raise InputError(
                f"{place}.{number} of type {kind!r} is not supported here: this model reads text, "
                "documents and search results"
            )
    return between.join(texts)
