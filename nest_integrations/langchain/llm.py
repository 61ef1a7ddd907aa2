"""``NestLLM``: text in, text out, citations through callbacks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.base import LangSmithParams, LanguageModelInput
from langchain_core.language_models.llms import BaseLLM
from langchain_core.messages.content import Citation
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import get_config_list
from pydantic import Field, model_validator
from typing_extensions import Self

from nest_engine import InputError, NestChunk, NestOutput, __version__
from nest_integrations.langchain.answers import PROVIDER, citations_of, closing_info, usage_of
from nest_integrations.langchain.events import afire_citations, fire_citations
from nest_integrations.langchain.identity import name_of
from nest_integrations.langchain.model import (
    MODEL_CONFIG,
    Call,
    NestModel,
    number_of_answers,
    passages_argument,
)
from nest_integrations.langchain.search import Found

Query = Callable[[str], str]
"""Returns what to search for, given a prompt."""


class NestLLM(NestModel, BaseLLM):
    """A text-completion model whose copied spans have exact sources.

        llm = NestLLM.from_model_id("HuggingFaceTB/SmolLM2-360M", retriever=vectorstore)
        chain = prompt | llm | StrOutputParser()

    Citations are in ``generation_info["citations"]`` at ``on_llm_end``: collect them with
    ``CitationCallback``. A call takes every setting of ``NestConfig``, ``passages=`` (documents to
    quote, in place of a search), ``query=`` (what to search for) and ``n=``. The other fields are
    described in ``NestModel``.

    Args:
        query: what to search for, computed from the prompt; by default the whole prompt.
    """

    model_config = MODEL_CONFIG

    query: Query | None = Field(default=None, exclude=True, repr=False)

    @model_validator(mode="after")
    def _add_nest_version(self) -> Self:
        self._add_version("nest-engine", __version__)
        return self

    @property
    def _llm_type(self) -> str:
        return PROVIDER

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return super()._identifying_params | {"query": name_of(self.query) if self.query else None}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return cast(LangSmithParams, self._ls_params("llm", stop, kwargs))

    def generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        callbacks: Any = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Answer prompts; see ``BaseLLM.generate``."""
        model = self._without_stale_cache(kwargs)
        return super(NestLLM, model).generate(prompts, stop, callbacks, **kwargs)

    async def agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        callbacks: Any = None,
        **kwargs: Any,
    ) -> LLMResult:
        """Answer prompts; see ``BaseLLM.agenerate``."""
        model = self._without_stale_cache(kwargs)
        return await super(NestLLM, model).agenerate(prompts, stop, callbacks, **kwargs)

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """Answer prompts together; see ``BaseLLM.batch``.

        With ``return_exceptions``, a prompt that fails fails alone: if one fails them all, they are
        answered one by one.
        """
        answers = super().batch(inputs, config, return_exceptions=return_exceptions, **kwargs)
        alone = _each_alone(inputs, config, kwargs) if _have_all_failed(answers) else []
        for number, (given, own, settings) in enumerate(alone):
            answers[number : number + 1] = super().batch(
                given, own, return_exceptions=True, **settings
            )
        return answers

    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """Answer prompts together; see :meth:`batch`."""
        answers = await super().abatch(
            inputs, config, return_exceptions=return_exceptions, **kwargs
        )
        alone = _each_alone(inputs, config, kwargs) if _have_all_failed(answers) else []
        for number, (given, own, settings) in enumerate(alone):
            answers[number : number + 1] = await super().abatch(
                given, own, return_exceptions=True, **settings
            )
        return answers

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        answers = self._answer(self._call(prompts, stop, kwargs), run_manager)
        if len(prompts) == 1:  # in a batch, only the first run is known here
            fire_citations(_citations(answers), run_manager)
        return self._result(answers)

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        answers = await self._aanswer(self._call(prompts, stop, kwargs), run_manager)
        if len(prompts) == 1:
            await afire_citations(_citations(answers), run_manager)
        return self._result(answers)

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        for piece, found in self._pieces(self._stream_call(prompt, stop, kwargs), run_manager):
            chunk = self._chunk(piece, found)
            if run_manager is not None:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            fire_citations(citations_of(piece), run_manager)
            yield chunk

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        async for piece, found in self._apieces(
            self._stream_call(prompt, stop, kwargs), run_manager
        ):
            chunk = self._chunk(piece, found)
            if run_manager is not None:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            await afire_citations(citations_of(piece), run_manager)
            yield chunk

    def _without_stale_cache(self, settings: dict[str, Any]) -> NestLLM:
        """Return this model, without its cache if a call has settings: the cache ignores them."""
        has_own = settings.keys() - _RUN_SETTINGS
        return self.model_copy(update={"cache": False}) if has_own else self

    def _call(
        self, prompts: Sequence[str], stop: list[str] | None, settings: dict[str, Any]
    ) -> Call:
        passages = passages_argument(settings, len(prompts))
        query = settings.pop("query", self.query)
        n = number_of_answers(settings, self.n)
        config = self._call_config(stop, settings)
        return Call(prompts, _queries(query, prompts), [None] * len(prompts), passages, config, n)

    def _stream_call(self, prompt: str, stop: list[str] | None, settings: dict[str, Any]) -> Call:
        call = self._call([prompt], stop, settings)
        self._require_one_answer(call.n)
        return call

    def _chunk(self, piece: NestChunk, found: Found) -> GenerationChunk:
        info = {"model_provider": PROVIDER, "citations": citations_of(piece)}
        if piece.output is not None:
            info |= self._closing_info(piece.output, found)
        return GenerationChunk(text=piece.text, generation_info=info)

    def _result(self, answers: list[tuple[list[NestOutput], Found]]) -> LLMResult:
        generations = [
            [self._generation(output, found) for output in outputs] for outputs, found in answers
        ]
        usage = [usage_of(outputs) for outputs, _ in answers]
        total = {
            "prompt_tokens": sum(each["input_tokens"] for each in usage),
            "completion_tokens": sum(each["output_tokens"] for each in usage),
            "total_tokens": sum(each["total_tokens"] for each in usage),
        }
        return LLMResult(
            generations=generations,
            llm_output={"token_usage": total, "model_name": self.model_name},
        )

    def _generation(self, output: NestOutput, found: Found) -> Generation:
        info = {"model_provider": PROVIDER, "citations": citations_of(output)} | self._closing_info(
            output, found
        )
        return Generation(text=output.text, generation_info=info)

    def _closing_info(self, output: NestOutput, found: Found) -> dict[str, Any]:
        return closing_info(output, self.model_name, found.failure) | {
            "usage": dict(usage_of([output]))
        }


_RUN_SETTINGS = {"tags", "metadata", "run_name", "run_id"}


def _have_all_failed(answers: Sequence[object]) -> bool:
    return len(answers) > 1 and all(isinstance(answer, Exception) for answer in answers)


def _each_alone(
    inputs: Sequence[LanguageModelInput],
    config: RunnableConfig | list[RunnableConfig] | None,
    settings: Mapping[str, Any],
) -> list[tuple[list[LanguageModelInput], list[RunnableConfig], dict[str, Any]]]:
    """Return the arguments of a batch for each of its inputs; none if its lists do not fit it."""
    lists = {
        name: given
        for name in ("passages", "query")
        if isinstance(given := settings.get(name), (list, tuple))
        and any(isinstance(item, (str, list, tuple)) for item in given)
    }
    if any(len(given) != len(inputs) for given in lists.values()):
        return []
    return [
        ([each], [own], {**settings, **{name: [given[number]] for name, given in lists.items()}})
        for number, (each, own) in enumerate(
            zip(inputs, get_config_list(config, len(inputs)), strict=True)
        )
    ]


def _queries(query: object, prompts: Sequence[str]) -> list[str]:
    """Return what to search for, one text for each prompt.

    Args:
        query: one text for all prompts, a text for each, or a function of the prompt; None searches
            for the prompts themselves.
        prompts: the prompts.

    Raises:
        InputError: if it is anything else.
    """
    if query is None:
        return list(prompts)
    if isinstance(query, str):
        return [query] * len(prompts)
    if callable(query):
        return [query(prompt) for prompt in prompts]
    if not isinstance(query, (list, tuple)) or len(query) != len(prompts):
        given = (
            f"{len(query)} queries" if isinstance(query, (list, tuple)) else type(query).__name__
        )
        raise InputError(
            f"query must be a text, a function, or one text for each of {len(prompts)} prompts; "
            f"got {given}"
        )
    return list(query)


def _citations(answers: list[tuple[list[NestOutput], Found]]) -> list[Citation]:
    return [
        citation
        for outputs, _ in answers
        for output in outputs
        for citation in citations_of(output)
    ]
