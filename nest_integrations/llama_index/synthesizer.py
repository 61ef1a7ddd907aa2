"""A response synthesizer whose answers quote the nodes it is given."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing, closing
from typing import Any

from llama_index.core.base.response.schema import (
    RESPONSE_TYPE,
)
from llama_index.core.callbacks import CallbackManager
from llama_index.core.indices.prompt_helper import ChatPromptHelper, PromptHelper
from llama_index.core.llms import LLM
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.response_synthesizers import (
    BaseSynthesizer,
    ResponseMode,
    get_response_synthesizer,
)
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle
from llama_index.core.settings import Settings
from llama_index.core.types import RESPONSE_TEXT_TYPE, TokenAsyncGen, TokenGen

from nest_engine import ConfigError
from nest_integrations.llama_index.answer import AnswerLog
from nest_integrations.llama_index.llm import NestLLM
from nest_integrations.llama_index.nodes import passages_of
from nest_integrations.llama_index.responses import (
    AnyNestResponse,
    NestAsyncStreamingResponse,
    NestResponse,
    NestStreamingResponse,
    as_nest_response,
)

RESPONSE_MODES = (
    ResponseMode.COMPACT,
    ResponseMode.REFINE,
    ResponseMode.TREE_SUMMARIZE,
    ResponseMode.SIMPLE_SUMMARIZE,
)


class NestSynthesizer(BaseSynthesizer):
    """Answer from nodes with one of LlamaIndex's own synthesizers, quoting the nodes.

    There is no second search. Responses are ``NestResponse`` objects, or their streaming variants,
    with citations.

    Args:
        llm: a ``NestLLM``; the one of ``Settings`` when None.
        response_mode: ``compact``, ``refine``, ``tree_summarize`` or ``simple_summarize``.
        streaming: whether responses are streamed.
        text_qa_template: as for ``get_response_synthesizer``.
        refine_template: as for ``get_response_synthesizer``.
        summary_template: as for ``get_response_synthesizer``.
        callback_manager: LlamaIndex's legacy callbacks.
        prompt_helper: packs nodes into prompts; one that counts with the model's own tokenizer when
            None.
        use_async: let ``tree_summarize`` ask for its parts concurrently.
        documents: the documents that the nodes were cut from, if available: places in them are then
            checked against their text.

    Raises:
        ConfigError: if ``llm`` is not a ``NestLLM``, or the mode has no single answer that could be
            cited.
    """

    def __init__(
        self,
        llm: LLM | None = None,
        response_mode: ResponseMode | str = ResponseMode.COMPACT,
        *,
        streaming: bool = False,
        text_qa_template: BasePromptTemplate | None = None,
        refine_template: BasePromptTemplate | None = None,
        summary_template: BasePromptTemplate | None = None,
        callback_manager: CallbackManager | None = None,
        prompt_helper: PromptHelper | None = None,
        use_async: bool = False,
        documents: Sequence[BaseNode] = (),
    ) -> None:
        llm = llm or Settings.llm
        if not isinstance(llm, NestLLM):
            raise ConfigError(
                f"NestSynthesizer needs a NestLLM, got {type(llm).__name__}: "
                f"NestSynthesizer(NestLLM(...))"
            )
        if response_mode not in RESPONSE_MODES:
            name = getattr(response_mode, "value", response_mode)
            modes = ", ".join(repr(mode.value) for mode in RESPONSE_MODES)
            raise ConfigError(
                f"response_mode={name!r} gives no single answer of the model to cite; use one of "
                f"{modes}"
            )
        # A synthesizer passes its callbacks to its model; a model with callbacks keeps its own.
        of_model = llm.callback_manager if llm.callback_manager.handlers else None
        super().__init__(
            llm=llm,
            callback_manager=callback_manager or of_model,
            prompt_helper=prompt_helper
            or PromptHelper.from_llm_metadata(llm.metadata, tokenizer=llm.tokenize),
            chat_prompt_helper=ChatPromptHelper.from_llm_metadata(
                llm.metadata, tokenizer=llm.tokenize
            ),
            streaming=streaming,
        )
        self._nest_llm = llm
        self._response_mode = ResponseMode(response_mode)
        self._use_async = use_async
        self._documents = {
            node.node_id: node.get_content(metadata_mode=MetadataMode.NONE) for node in documents
        }
        given = {
            "text_qa_template": text_qa_template,
            "refine_template": refine_template,
            "summary_template": summary_template,
        }
        self._templates = {
            name: template for name, template in given.items() if template is not None
        }

    def synthesize(
        self,
        query: str | QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **response_kwargs: Any,
    ) -> RESPONSE_TYPE:
        """Answer a query from nodes."""
        response = self._synthesis(query, nodes).synthesize(
            query, nodes, additional_source_nodes, **response_kwargs
        )
        return as_nest_response(response)

    async def asynthesize(
        self,
        query: str | QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        **response_kwargs: Any,
    ) -> RESPONSE_TYPE:
        """Answer a query from nodes, decoding in the model's thread."""
        synthesis = self._synthesis(query, nodes)
        response = await synthesis.asynthesize(
            query, nodes, additional_source_nodes, **response_kwargs
        )
        return as_nest_response(response)

    def get_response(
        self, query_str: str, text_chunks: Sequence[str], **response_kwargs: Any
    ) -> RESPONSE_TEXT_TYPE:
        """Answer a query from texts; they are not nodes, so nothing can be quoted."""
        return self._wrapped(self._nest_llm).get_response(query_str, text_chunks, **response_kwargs)

    async def aget_response(
        self, query_str: str, text_chunks: Sequence[str], **response_kwargs: Any
    ) -> RESPONSE_TEXT_TYPE:
        """Answer a query from texts; they are not nodes, so nothing can be quoted."""
        return await self._wrapped(self._nest_llm).aget_response(
            query_str, text_chunks, **response_kwargs
        )

    def _get_prompts(self) -> PromptDictType:
        return self._wrapped(self._nest_llm)._get_prompts()

    def _update_prompts(self, prompts: PromptDictType) -> None:
        self._templates.update(prompts)

    def _synthesis(self, query: str | QueryBundle, nodes: Sequence[NodeWithScore]) -> _Synthesis:
        log = AnswerLog()
        question = query if isinstance(query, str) else query.query_str
        llm = self._nest_llm.with_passages(passages_of(nodes, self._documents), question).with_log(
            log
        )
        return _Synthesis(self._wrapped(llm), llm, log, self._callback_manager, self._streaming)

    def _wrapped(self, llm: NestLLM) -> BaseSynthesizer:
        """Return LlamaIndex's synthesizer for a model."""
        synthesizer = get_response_synthesizer(
            llm=llm,
            response_mode=self._response_mode,
            callback_manager=self._callback_manager,
            prompt_helper=self._prompt_helper,
            chat_prompt_helper=self._chat_prompt_helper,
            streaming=self._streaming,
            use_async=self._use_async,
        )
        synthesizer.update_prompts(self._templates)
        return synthesizer


class _Synthesis(BaseSynthesizer):
    """LlamaIndex's synthesizer for one answer, on a bound model whose answers are logged.

    The inherited ``synthesize`` turns nodes into texts and sends the Synthesize events.

    Args:
        wrapped: LlamaIndex's synthesizer.
        llm: its model, which may quote the nodes.
        log: the answers of the model.
        callback_manager: LlamaIndex's legacy callbacks.
        streaming: whether the answer is streamed.
    """

    def __init__(
        self,
        wrapped: BaseSynthesizer,
        llm: NestLLM,
        log: AnswerLog,
        callback_manager: CallbackManager,
        streaming: bool,
    ) -> None:
        super().__init__(
            llm=llm,
            callback_manager=callback_manager,
            prompt_helper=wrapped._prompt_helper,
            chat_prompt_helper=wrapped._chat_prompt_helper,
            streaming=streaming,
        )
        self._wrapped = wrapped
        self._log = log

    def get_response(
        self, query_str: str, text_chunks: Sequence[str], **response_kwargs: Any
    ) -> RESPONSE_TEXT_TYPE:
        text = self._wrapped.get_response(query_str, text_chunks, **response_kwargs)
        self._raise_swallowed()
        return text

    async def aget_response(
        self, query_str: str, text_chunks: Sequence[str], **response_kwargs: Any
    ) -> RESPONSE_TEXT_TYPE:
        text = await self._wrapped.aget_response(query_str, text_chunks, **response_kwargs)
        self._raise_swallowed()
        return text

    def _get_prompts(self) -> PromptDictType:
        return self._wrapped._get_prompts()

    def _update_prompts(self, prompts: PromptDictType) -> None:
        self._wrapped._update_prompts(prompts)

    def _prepare_response_output(
        self, response_str: RESPONSE_TEXT_TYPE | None, source_nodes: list[NodeWithScore]
    ) -> RESPONSE_TYPE:
        response = as_nest_response(super()._prepare_response_output(response_str, source_nodes))
        if isinstance(response, NestResponse):
            self._cite(response, response.response or "")
        elif isinstance(response, NestStreamingResponse):
            response.response_gen = self._citing(response, response.response_gen)
        elif isinstance(response, NestAsyncStreamingResponse):
            response.response_gen = self._async_citing(response, response.response_gen)
        return response

    def _citing(self, response: NestStreamingResponse, tokens: TokenGen) -> TokenGen:
        text = ""
        with closing(tokens):
            for token in tokens:
                text += token
                yield token
        self._cite(response, text)

    async def _async_citing(
        self, response: NestAsyncStreamingResponse, tokens: TokenAsyncGen
    ) -> TokenAsyncGen:
        text = ""
        async with aclosing(tokens):
            async for token in tokens:
                text += token
                yield token
        self._cite(response, text)

    def _cite(self, response: AnyNestResponse, text: str) -> None:
        """Give a response the citations of the answer it consists of."""
        for output in reversed(self._log.answers):
            if output.text == text:
                response.output = output
                response.citations += output.citations  # type: ignore[arg-type]
                return

    def _raise_swallowed(self) -> None:
        """Raise what ``Refine`` swallows, such as a prompt that is too long."""
        if self._log.errors:
            raise self._log.errors[0]
