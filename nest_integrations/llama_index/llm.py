"""NEST as a LlamaIndex LLM."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import (
    AsyncGenerator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from contextvars import Context, copy_context
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.generic_utils import (
    messages_to_prompt as generic_messages_to_prompt,
)
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.bridge.pydantic import Field, PrivateAttr, field_serializer
from llama_index.core.callbacks import CallbackManager
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW
from llama_index.core.indices.base import BaseIndex
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.llms.llm import default_completion_to_prompt
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.types import BaseOutputParser, PydanticProgramMode
from llama_index_instrumentation import get_dispatcher
from pydantic import InstanceOf

from nest_engine import (
    ConfigError,
    LanguageModel,
    NestChunk,
    NestConfig,
    NestEngine,
    NestOutput,
    Passage,
    PassageRetriever,
)
from nest_engine.citations.formats import json_ready
from nest_engine.generation.tool_calls import Turn, for_turn
from nest_engine.models.chat_template import ChatTemplate
from nest_engine.retrieval import Embedder
from nest_integrations.llama_index.answer import AnswerLog, PartialAnswer, StreamedAnswer
from nest_integrations.llama_index.blocks import require_readable, sources_of
from nest_integrations.llama_index.embedding import as_embedder, embedder_of_settings
from nest_integrations.llama_index.events import NestCitationEvent
from nest_integrations.llama_index.loading import StoppingLanguageModel, load_engine
from nest_integrations.llama_index.nodes import Quotable, cite_nodes, passages_of
from nest_integrations.llama_index.postprocessor import offered_passages, remember_answer
from nest_integrations.llama_index.responses import NestChatResponse, NestCompletionResponse
from nest_integrations.llama_index.retriever import passage_retriever
from nest_integrations.llama_index.settings import nest_settings
from nest_integrations.llama_index.tools import ToolCalling, take_tools, template_turn
from nest_integrations.llama_index.worker import Cancel, Worker

T = TypeVar("T")
_ALL_TEXT = Turn()

logger = logging.getLogger(__name__)
dispatcher = get_dispatcher(__name__)


@dataclass(frozen=True)
class EngineCall:
    """One call of the engine.

    Args:
        prompt: what the model reads.
        query: what to search for; ``ra`` methods place passages in front of it.
        passages: what may be quoted; None asks the retriever.
        config: settings.
        turn: how to read the answer: what of it is text, and what are tool calls.
        context: the caller's span and tags, which have changed by the time a stream ends.
    """

    prompt: str
    query: str
    passages: tuple[Passage, ...] | None
    config: NestConfig
    turn: Turn = _ALL_TEXT
    context: Context = field(default_factory=copy_context)


@dataclass(frozen=True)
class _Given:
    """What a call gives: passages and query or None, and its settings."""

    passages: tuple[Passage, ...] | None
    query: str | None
    config: NestConfig

    @classmethod
    def read(cls, kwargs: dict[str, Any], default: NestConfig) -> _Given:
        """Read a call's arguments, on top of the default settings."""
        passages, query = kwargs.pop("passages", None), kwargs.pop("query", None)
        return cls(
            None if passages is None else passages_of(passages),
            query,
            default.replace(**nest_settings(kwargs)),
        )


class NestLLM(CustomLLM, ToolCalling):
    """A language model that copies from passages verbatim and cites what it copied.

    Takes the arguments of ``HuggingFaceLLM``. The passages that may be quoted are the first of
    these: ``passages=`` of a call; those bound by :meth:`with_passages` or a ``NestSynthesizer``;
    the ``CitableBlock`` and ``DocumentBlock`` of the user's last message and of the tools' after
    it; those that a ``NestNodePostprocessor`` has seen and the prompt holds; those that the
    retriever finds. With none of these the model answers alone, like any other LLM.

    Calls take settings of ``NestConfig`` by name, and ``max_tokens``, ``passages`` (nodes or
    passages) and ``query``. Where the model's chat template has a place for tools, chats take
    ``tools`` in OpenAI's format, ``tool_choice`` and ``parallel_tool_calls`` too.

    Args:
        model_name: hub id or folder; only a label when ``model`` or ``engine`` is given.
        tokenizer_name: where the tokenizer is, if not with the model.
        model: a model of transformers, or a ``nest_engine.LanguageModel``.
        tokenizer: its fast tokenizer.
        engine: an engine, instead of a model; several LLMs may share one.
        retriever: first-stage search: any LlamaIndex retriever or index, or a
            ``nest_engine.PassageRetriever``.
        embed_model: an embedding model of LlamaIndex, or an embedder of the engine, that tells
            which sentence answers; by default the engine's or the retriever's, else that of
            ``Settings`` where one has been set. False compares letters.
        config: default settings; the engine's when None.
        context_window: tokens of prompt and answer together; the model's when None.
        max_new_tokens: most tokens of an answer; the value of ``config`` when None.
        device_map: placement of a model that this class loads.
        model_kwargs: further arguments for loading the model.
        tokenizer_kwargs: further arguments for loading the tokenizer.
        generate_kwargs: further default settings, under the names of ``NestConfig`` or
            transformers.
        stopping_ids: tokens that end an answer, beside the model's own.
        is_chat_model: whether prompts are chat messages; None: if the tokenizer has a chat
            template.
        system_prompt: system message, or text in front of prompts.
        query_wrapper_prompt: template with ``{query_str}`` around prompts of ``complete``.
        messages_to_prompt: writes messages into a prompt; the chat template by default.
        completion_to_prompt: writes a prompt of ``complete`` into what the model reads.
        callback_manager: LlamaIndex's legacy callbacks.
        pydantic_program_mode: how ``structured_predict`` asks for structure.
        output_parser: parses answers of ``predict``.

    Raises:
        ConfigError: if a setting is unknown or not valid, or there is no model.
    """

    model_name: str = Field(description="Hub id or folder of the model.")
    tokenizer_name: str | None = Field(
        default=None, description="Where the tokenizer is, if not with the model."
    )
    context_window: int = Field(description="Tokens of prompt and answer together.", gt=0)
    max_new_tokens: int = Field(description="Most tokens of an answer.", gt=0)
    is_chat_model: bool = Field(description="Whether prompts are chat messages.")
    device_map: str | dict[str, Any] | None = Field(
        default="auto", description="Placement of a loaded model."
    )
    model_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="Arguments for loading the model."
    )
    tokenizer_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="Arguments for loading the tokenizer."
    )
    stopping_ids: list[int] = Field(
        default_factory=list, description="Further tokens that end an answer."
    )
    config: InstanceOf[NestConfig] = Field(description="Default settings of NEST.")

    _engine: NestEngine = PrivateAttr()
    _worker: Worker = PrivateAttr(default_factory=Worker)
    _passages: tuple[Passage, ...] | None = PrivateAttr(default=None)
    _query: str | None = PrivateAttr(default=None)
    _log: AnswerLog | None = PrivateAttr(default=None)

    def __init__(
        self,
        model_name: str | None = None,
        *,
        tokenizer_name: str | None = None,
        model: Any = None,
        tokenizer: Any = None,
        engine: NestEngine | None = None,
        retriever: PassageRetriever | BaseRetriever | BaseIndex[Any] | None = None,
        embed_model: BaseEmbedding | Embedder | Literal[False] | None = None,
        config: NestConfig | dict[str, Any] | None = None,
        context_window: int | None = None,
        max_new_tokens: int | None = None,
        device_map: str | dict[str, Any] | None = "auto",
        model_kwargs: dict[str, Any] | None = None,
        tokenizer_kwargs: dict[str, Any] | None = None,
        generate_kwargs: dict[str, Any] | None = None,
        stopping_ids: Sequence[int] | None = None,
        is_chat_model: bool | None = None,
        system_prompt: str | None = None,
        query_wrapper_prompt: str | BasePromptTemplate | None = None,
        messages_to_prompt: Callable[[Sequence[ChatMessage]], str] | None = None,
        completion_to_prompt: Callable[[str], str] | None = None,
        callback_manager: CallbackManager | None = None,
        pydantic_program_mode: PydanticProgramMode = PydanticProgramMode.DEFAULT,
        output_parser: BaseOutputParser | None = None,
    ) -> None:
        if engine is None:
            engine = load_engine(
                model_name,
                tokenizer_name,
                model,
                tokenizer,
                device_map,
                model_kwargs or {},
                tokenizer_kwargs or {},
            )
        elif model is not None or tokenizer is not None:
            raise ConfigError(
                f"engine= brings the model {_name_of(engine)!r} and its tokenizer; do not give "
                f"others"
            )
        engine = copy.copy(engine)  # the caller's own keeps its retriever and its stopping tokens
        if retriever is not None:
            engine.retriever = passage_retriever(retriever)
        if embed_model is not None:
            engine.embedder = as_embedder(embed_model) if embed_model else False
        if stopping_ids:
            engine.language_model = StoppingLanguageModel(engine.language_model, stopping_ids)
        if isinstance(config, dict):
            config = NestConfig.from_dict(config)
        config = (config or engine.config).replace(**nest_settings(generate_kwargs or {}))
        if max_new_tokens is not None:
            config = config.replace(max_new_tokens=max_new_tokens)
        if config.max_new_tokens is None:
            raise ConfigError(
                "max_new_tokens=None is not valid: LlamaIndex plans its prompts by the longest "
                "answer; give a number"
            )
        if isinstance(query_wrapper_prompt, str):
            query_wrapper_prompt = PromptTemplate(query_wrapper_prompt)
        template = _template_writer(engine.language_model)
        super().__init__(
            model_name=model_name or _name_of(engine),
            tokenizer_name=tokenizer_name,
            context_window=_context_window(context_window, engine.language_model.context_length),
            max_new_tokens=config.max_new_tokens,
            device_map=device_map,
            model_kwargs=model_kwargs or {},
            tokenizer_kwargs=tokenizer_kwargs or {},
            stopping_ids=list(stopping_ids or []),
            is_chat_model=template is not None if is_chat_model is None else is_chat_model,
            config=config,
            system_prompt=system_prompt,
            query_wrapper_prompt=query_wrapper_prompt,
            messages_to_prompt=messages_to_prompt or template or _plain_prompt,
            completion_to_prompt=completion_to_prompt or default_completion_to_prompt,
            callback_manager=callback_manager or CallbackManager([]),
            pydantic_program_mode=pydantic_program_mode,
            output_parser=output_parser,
        )
        self._engine = engine

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which the LLM is serialized."""
        return "NestLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex needs to know about the model."""
        return LLMMetadata(
            context_window=self.context_window,
            num_output=self.max_new_tokens,
            is_chat_model=self.is_chat_model,
            is_function_calling_model=isinstance(self.messages_to_prompt, _TemplateWriter)
            and self.messages_to_prompt.takes_tools,
            model_name=self.model_name,
        )

    @property
    def engine(self) -> NestEngine:
        """The engine that decodes."""
        return self._engine

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of a text; as ``Settings.tokenizer``, LlamaIndex counts with it."""
        return list(self._engine.language_model.tokenizer.encode_prompt(text).token_ids)

    def with_passages(self, passages: Iterable[Quotable], query: str | None = None) -> NestLLM:
        """Return a copy, on the same engine, that quotes only from the given nodes or passages.

        Args:
            passages: what may be quoted.
            query: the question that they are about.
        """
        bound = self.model_copy()
        bound._passages, bound._query = passages_of(passages), query
        return bound

    def with_log(self, log: AnswerLog) -> NestLLM:
        """Return a copy, on the same engine, that also logs its answers and errors."""
        logged = self.model_copy()
        logged._log = log
        return logged

    @llm_completion_callback()
    def complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> NestCompletionResponse:
        """Continue a prompt; ``formatted`` prompts are read as they are."""
        call = self._to_complete(prompt, formatted, kwargs)
        return PartialAnswer.complete(
            self._report(self._generate(call), call), call.turn
        ).as_completion()

    @llm_completion_callback()
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> NestCompletionResponse:
        """Continue a prompt in the model's thread; cancelling the task ends decoding."""
        call = self._to_complete(prompt, formatted, kwargs)
        output = await self._worker.run(partial(self._generate, call))
        return PartialAnswer.complete(self._report(output, call), call.turn).as_completion()

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """Continue a prompt piece by piece; closing the generator ends decoding."""
        return self._stream(
            self._to_complete(prompt, formatted, kwargs), PartialAnswer.as_completion
        )

    @llm_completion_callback()
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """Stream the continuation of a prompt from the model's thread; closing ends decoding."""
        return await self._astream(
            self._to_complete(prompt, formatted, kwargs), PartialAnswer.as_completion
        )

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> NestChatResponse:
        """Answer messages."""
        call = self._to_chat(messages, kwargs)
        return PartialAnswer.complete(self._report(self._generate(call), call), call.turn).as_chat()

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> NestChatResponse:
        """Answer messages in the model's thread; cancelling the task ends decoding."""
        # In a thread: documents are read, which may be files or pages of the web.
        call = await asyncio.to_thread(self._to_chat, messages, kwargs)
        output = await self._worker.run(partial(self._generate, call))
        return PartialAnswer.complete(self._report(output, call), call.turn).as_chat()

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer messages piece by piece; closing the generator ends decoding."""
        return self._stream(self._to_chat(messages, kwargs), PartialAnswer.as_chat)

    @llm_chat_callback()
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Stream the answer to messages from the model's thread; closing ends decoding."""
        call = await asyncio.to_thread(self._to_chat, messages, kwargs)
        return await self._astream(call, PartialAnswer.as_chat)

    def _to_complete(self, prompt: str, formatted: bool, kwargs: dict[str, Any]) -> EngineCall:
        given = _Given.read(kwargs, self.config.replace(max_new_tokens=self.max_new_tokens))
        read = prompt if formatted else self._completion_prompt(prompt, given.config)
        return self._call(read, prompt, given)

    def _to_chat(self, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> EngineCall:
        require_readable(messages)
        questions = [
            message.content
            for message in messages
            if message.role == MessageRole.USER and message.content
        ]
        takes_tools = self.metadata.is_function_calling_model
        tools, turn = take_tools(kwargs) if takes_tools else ([], _ALL_TEXT)
        given = _Given.read(kwargs, self.config.replace(max_new_tokens=self.max_new_tokens))
        prompt = self._chat_prompt(messages, given.config, tools) + turn.opening
        query = questions[-1] if questions else prompt
        if given.passages is None and self._passages is None:
            given = replace(given, passages=sources_of(messages, given.query or query))
        given = replace(given, config=for_turn(given.config, turn))
        return self._call(prompt, query, given, turn)

    def _call(self, prompt: str, query: str, given: _Given, turn: Turn = _ALL_TEXT) -> EngineCall:
        passages = self._passages if given.passages is None else given.passages
        return EngineCall(
            prompt=prompt,
            query=given.query or self._query or query,
            passages=offered_passages(prompt) if passages is None else passages,
            config=given.config,
            turn=turn,
        )

    def _chat_prompt(
        self,
        messages: Sequence[ChatMessage],
        config: NestConfig,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        if isinstance(self.messages_to_prompt, _TemplateWriter):
            return self.messages_to_prompt(messages, config.chat_template_kwargs, tools)
        return self.messages_to_prompt(messages)  # type: ignore[misc]

    def _completion_prompt(self, prompt: str, config: NestConfig) -> str:
        if self.is_chat_model and self.completion_to_prompt is default_completion_to_prompt:
            question = (
                self.query_wrapper_prompt.format(query_str=prompt)
                if self.query_wrapper_prompt
                else prompt
            )
            return self._chat_prompt(
                self._extend_messages([ChatMessage(role=MessageRole.USER, content=question)]),
                config,
            )
        return self.completion_to_prompt(self._extend_prompt(prompt))  # type: ignore[misc]

    def _generate(self, call: EngineCall, cancel: Cancel | None = None) -> NestOutput:
        return cite_nodes(self._ask(self._answering_engine().generate, call, cancel))

    def _chunks(self, call: EngineCall, cancel: Cancel | None = None) -> Iterator[NestChunk]:
        return self._ask(self._answering_engine().stream, call, cancel)

    def _answering_engine(self) -> NestEngine:
        """Return the engine; without an embedder of its own, with the one ``Settings`` have now."""
        if self._engine.embedder is False or self._engine.sentence_embedder is not None:
            return self._engine
        engine = copy.copy(self._engine)
        engine.embedder = embedder_of_settings()
        return engine

    def _ask(self, answer: Callable[..., T], call: EngineCall, cancel: Cancel | None) -> T:
        try:
            return answer(
                call.prompt,
                passages=call.passages,
                query=call.query,
                config=call.config,
                cancel=cancel,
            )
        except Exception as error:
            if self._log:
                self._log.errors.append(error)
            raise

    def _stream(
        self, call: EngineCall, respond: Callable[[PartialAnswer], T]
    ) -> Generator[T, None, None]:
        chunks = self._chunks(call)  # searches at once, so that its errors are raised here

        def responses() -> Generator[T, None, None]:
            answer = StreamedAnswer(call.turn)
            try:
                for chunk in chunks:
                    yield respond(answer.append(chunk))
            finally:
                self._report(answer.output, call)

        return responses()

    async def _astream(
        self, call: EngineCall, respond: Callable[[PartialAnswer], T]
    ) -> AsyncGenerator[T, None]:
        chunks = await self._worker.iterate(partial(self._chunks, call))

        async def responses() -> AsyncGenerator[T, None]:
            answer = StreamedAnswer(call.turn)
            try:
                async with aclosing(chunks):
                    async for chunk in chunks:
                        yield respond(answer.append(chunk))
            finally:
                self._report(answer.output, call)

        return responses()

    def _report(self, output: NestOutput, call: EngineCall) -> NestOutput:
        """Log an answer and dispatch its event."""
        if self._log:
            self._log.answers.append(output)
        call.context.run(lambda: dispatcher.event(NestCitationEvent(output=output)))
        if output.citations:
            call.context.run(remember_answer, call.prompt, output.text)
        return output

    def __getstate__(self) -> dict[str, Any]:
        # The inherited one would leave the engine out, and the copy would fail when it is asked.
        raise TypeError(
            "a NestLLM holds a model and is not pickled: send to_json(), and make one of it with "
            "NestLLM.from_json(text, engine=engine) or from_json(text)"
        )

    @field_serializer("config")
    def _plain_config(self, config: NestConfig) -> dict[str, Any]:
        return config.to_dict()

    @field_serializer("model_kwargs", "tokenizer_kwargs")
    def _plain_kwargs(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        names = {
            name: str(v).removeprefix("torch.")
            for name, v in kwargs.items()
            if isinstance(v, torch.dtype)
        }
        return json_ready(kwargs | names)  # type: ignore[no-any-return]


def _context_window(requested: int | None, of_model: int | None) -> int:
    if of_model is None:
        return requested or DEFAULT_CONTEXT_WINDOW
    if requested is not None and requested > of_model:
        logger.warning(
            "context_window=%d was limited to %d, all that the model reads", requested, of_model
        )
    return min(requested or of_model, of_model)


def _plain_prompt(messages: Sequence[ChatMessage]) -> str:
    """Return the prompt for a model without a chat template: roles and texts alone."""
    return generic_messages_to_prompt(
        [ChatMessage(role=message.role, content=message.content or "") for message in messages]
    )


class _TemplateWriter:
    """Writes messages into the model's chat template.

    Args:
        template: the template.
    """

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template

    @property
    def takes_tools(self) -> bool:
        """Whether the template has a place for tools."""
        return "tools" in str(self._template.text)

    def __call__(
        self,
        messages: Sequence[ChatMessage],
        variables: Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """Return the prompt.

        Args:
            messages: the conversation.
            variables: those of the template.
            tools: what the model may call, in OpenAI's format.
        """
        turns = list(map(template_turn, messages))
        return self._template.write(turns, tools=tools, variables=variables)


def _template_writer(language_model: LanguageModel) -> _TemplateWriter | None:
    """Return what applies the model's chat template, if it has one."""
    # The engine's tokenizer formats single questions; conversations need the one of transformers
    # behind it.
    tokenizer: Any = getattr(language_model.tokenizer, "hf_tokenizer", None)
    template = ChatTemplate(tokenizer)
    return _TemplateWriter(template) if template.text else None


def _name_of(engine: NestEngine) -> str:
    model = getattr(engine.language_model, "model", engine.language_model)
    return getattr(model, "name_or_path", None) or type(model).__name__
