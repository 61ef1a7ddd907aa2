"""``ChatNest``: messages in, a message out, with standard citations in its content blocks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import model_validator
from typing_extensions import Self

from nest_engine import InputError, NestOutput, UnsupportedModelError, __version__
from nest_engine.generation.tool_calls import (
    Turn,
    for_turn,
    opening,
    read_tool_choice,
    turn_of,
)
from nest_engine.models.chat_template import ChatTemplate
from nest_integrations.langchain.answers import PROVIDER
from nest_integrations.langchain.content import TurnStream, generation_of
from nest_integrations.langchain.documents import documents_of_turn
from nest_integrations.langchain.events import afire_citations, fire_citations
from nest_integrations.langchain.messages import (
    chat_template_of,
    last_question,
    template_messages,
)
from nest_integrations.langchain.model import (
    MODEL_CONFIG,
    Call,
    NestModel,
    number_of_answers,
    passages_argument,
)
from nest_integrations.langchain.search import Found


class ChatNest(NestModel, BaseChatModel):
    """A chat model whose copied spans have exact sources.

        chat = ChatNest.from_model_id("HuggingFaceTB/SmolLM2-360M-Instruct", retriever=vectorstore)
        chat.invoke("Who discovered helium?").content_blocks

    Passages come from ``passages=`` of the call, else from the last human message and what tools
    have found since (``document`` and ``search_result`` blocks, and the artifacts of
    ``create_retriever_tool(..., response_format="content_and_artifact")``), else from a search for
    ``query=`` or the last human message. The other fields are described in ``NestModel``.

    Args:
        chat_template: a template in place of the tokenizer's own.
        tokenizer: the tokenizer whose chat template formats the messages; the engine's by default.
    """

    model_config = MODEL_CONFIG

    chat_template: str | None = None

    @model_validator(mode="after")
    def _add_nest_version(self) -> Self:
        self._add_version("nest-engine", __version__)
        return self

    @model_validator(mode="after")
    def _check_chat_template(self) -> Self:
        self._template()  # refuses a model without one
        return self

    @model_validator(mode="after")
    def _describe(self) -> Self:
        if self.profile is None:
            self.__dict__["profile"] = self._profile()
        return self

    def _profile(self) -> dict[str, Any]:
        """Return what agents and middleware ask of a model: its context, and what it can do."""
        context = self.engine.language_model.context_length
        can_call = "tools" in str(self._template().text)
        known = {
            "name": self.model_name,
            "text_inputs": True,
            "text_outputs": True,
            "image_inputs": False,
            "audio_inputs": False,
            "video_inputs": False,
            "pdf_inputs": True,
            "tool_calling": can_call,
            "tool_choice": can_call,
            "structured_output": False,
        }
        return known | ({} if context is None else {"max_input_tokens": context})

    @property
    def _llm_type(self) -> str:
        return f"{PROVIDER}-chat"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return super()._identifying_params | {"chat_template": self._template().text}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return cast(LangSmithParams, self._ls_params("chat", stop, kwargs))

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: Any = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return this model with tools that it may call.

        Args:
            tools: tools in any form that LangChain knows.
            tool_choice: ``auto``, ``none``, ``any``, or the name of a tool. A choice is enforced by
                beginning the model's turn with ``<tool_call>``.
            kwargs: arguments of every call.

        Returns:
            the bound model.

        Raises:
            UnsupportedModelError: if the chat template has no place for tools.
            ConfigError: if ``tool_choice`` names no tool.
        """
        if "tools" not in str(self._template().text):
            raise UnsupportedModelError(
                f"the chat template of {self.model_name} has no place for tools; use a model that "
                "was trained to call tools, or give a chat_template= that writes them"
            )
        formatted = (
            [] if tool_choice == "none" else [convert_to_openai_tool(tool) for tool in tools]
        )
        choice = None if tool_choice == "none" else read_tool_choice(tool_choice, formatted)
        return self.bind(tools=formatted, tool_choice=choice, **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call, turn = self._call(messages, stop, kwargs)
        [(outputs, found)] = self._answer(call, run_manager)
        result = self._result(outputs, found, turn)
        fire_citations(_citations(result), run_manager)
        return result

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call, turn = self._call(messages, stop, kwargs)
        [(outputs, found)] = await self._aanswer(call, run_manager)
        result = self._result(outputs, found, turn)
        await afire_citations(_citations(result), run_manager)
        return result

    # `stream` and `astream` report the tokens themselves and pass no run manager; the event methods
    # below get one.

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        call, turn = self._stream_call(messages, stop, kwargs)
        stream = TurnStream(turn, self.model_name)
        for piece, found in self._pieces(call, run_manager):
            if chunk := stream.chunk(piece, found):
                fire_citations(stream.fresh_citations, run_manager)
                yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        call, turn = self._stream_call(messages, stop, kwargs)
        stream = TurnStream(turn, self.model_name)
        async for piece, found in self._apieces(call, run_manager):
            if chunk := stream.chunk(piece, found):
                await afire_citations(stream.fresh_citations, run_manager)
                yield chunk

    def _stream_chat_model_events(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[dict[str, Any]]:
        call, turn = self._stream_call(messages, stop, kwargs)
        stream = TurnStream(turn, self.model_name, _message_id(run_manager))
        for piece, found in self._pieces(call, run_manager):
            events = stream.events(piece, found)
            # Before the events: whoever has the last event may not ask for more.
            fire_citations(stream.fresh_citations, run_manager)
            yield from events

    async def _astream_chat_model_events(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[dict[str, Any]]:
        call, turn = self._stream_call(messages, stop, kwargs)
        stream = TurnStream(turn, self.model_name, _message_id(run_manager))
        async for piece, found in self._apieces(call, run_manager):
            events = stream.events(piece, found)
            await afire_citations(stream.fresh_citations, run_manager)
            for event in events:
                yield event

    def _call(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, settings: dict[str, Any]
    ) -> tuple[Call, Turn]:
        tools = settings.pop("tools", None) or []
        turn = turn_of(
            tools,
            opening(tools, settings.pop("tool_choice", None)),
            is_parallel=settings.pop("parallel_tool_calls", None) is not False,
        )
        turns = template_messages(messages)
        passages = passages_argument(settings, 1)
        question = last_question(messages)
        query = settings.pop("query", None)
        if query is not None and not isinstance(query, str):
            raise InputError(f"query must be a text, got {type(query).__name__}")
        found = documents_of_turn(messages, query or question)
        n = number_of_answers(settings, self.n)
        config = for_turn(self._call_config(stop, settings), turn)
        written = self._template().write(turns, tools=tools, variables=config.chat_template_kwargs)
        prompt = written + turn.opening
        if passages is None and found is not None:
            passages = [found]
        asked = query or question
        return Call([prompt], [asked or prompt], [asked], passages, config, n), turn

    def _template(self) -> ChatTemplate:
        return chat_template_of(self.engine, self.tokenizer, self.chat_template)

    def _stream_call(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, settings: dict[str, Any]
    ) -> tuple[Call, Turn]:
        call, turn = self._call(messages, stop, settings)
        self._require_one_answer(call.n)
        return call, turn

    def _result(self, outputs: Sequence[NestOutput], found: Found, turn: Turn) -> ChatResult:
        return ChatResult(
            generations=[generation_of(output, found, turn, self.model_name) for output in outputs]
        )


def _citations(result: ChatResult) -> list[Any]:
    return [
        citation
        for generation in result.generations
        for citation in generation.message.response_metadata["citations"]
    ]


def _message_id(
    run_manager: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None,
) -> str | None:
    return f"lc_run--{run_manager.run_id}" if run_manager is not None else None
