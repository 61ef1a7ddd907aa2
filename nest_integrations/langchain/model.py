"""What ``NestLLM`` and ``ChatNest`` share: engine, settings, passage source and decoding."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.vectorstores import VectorStore
from pydantic import ConfigDict, Field, SecretStr, model_validator
from typing_extensions import Self

from nest_engine import (
    ConfigError,
    NestChunk,
    NestConfig,
    NestEngine,
    NestOutput,
    Passage,
    __version__,
)
from nest_engine._validation import require_count
from nest_integrations.langchain.documents import passages_of_each
from nest_integrations.langchain.embedding import as_embedder, embedder_behind
from nest_integrations.langchain.identity import name_of
from nest_integrations.langchain.retrievers import DEFAULT_K, as_retriever
from nest_integrations.langchain.search import Found, OnError, Search
from nest_integrations.langchain.settings import NestSettings, from_pipeline_kwargs
from nest_integrations.langchain.workers import Cancel, cancel_after, in_thread, iterate_in_thread

Model = TypeVar("Model", bound="NestModel")

# Set on each model class: LangChain's base classes come later in the method resolution order and
# would allow unknown fields again.
_DEFAULT_NUMBER = NestConfig().num_passages
MODEL_CONFIG = ConfigDict(arbitrary_types_allowed=True, extra="forbid")


@dataclass(frozen=True)
class Call:
    """One call of a model, before the search.

    Args:
        prompts: what the model continues, one for each answer.
        queries: what to search for, one for each prompt.
        questions: what is asked in each prompt, in the caller's words where those were given; or
            None.
        passages: passages given by the caller, one list for each prompt, or None to search.
        config: settings.
        n: answers to each prompt.
    """

    prompts: Sequence[str]
    queries: Sequence[str]
    questions: Sequence[str | None]
    passages: Sequence[Sequence[Passage]] | None
    config: NestConfig
    n: int


class NestModel(NestSettings, arbitrary_types_allowed=True):
    """Fields and decoding shared by ``NestLLM`` and ``ChatNest``.

    Give an ``engine``, or a ``model`` of transformers with its ``tokenizer``; or use
    :meth:`from_model_id`.

    Args:
        engine: the engine; may be shared between models and threads.
        tokenizer: the tokenizer of ``model``.
        retriever: any vector store or retriever, of LangChain or of the engine; the engine's own by
            default.
        embeddings: embeddings of LangChain, or an embedder of the engine, that tell which sentence
            answers; by default those of the vector store that is searched. False compares letters.
        config: settings, in place of the engine's; every field of ``NestConfig`` may also be given
            by itself, here and with each call. ``stop`` adds to the stop strings configured before
            it; everything else replaces.
        deadline: most seconds that the search for passages may take.
        on_error: when the search fails: ``raise``, or ``degrade`` to an answer without passages
            that says so.
        max_retries: further attempts of a search that failed.
        timeout: most seconds that an answer may take to decode; then ``TimeoutError``.
        batch_size: most prompts that are decoded together.
        n: answers to each prompt; more than one needs a temperature.
        model_name: name for traces and usage reports.
        revision: the model's revision.
        source_id: names the passage source in cache keys; without it, only this very object is
            taken for the same.
        api_key: accepted because LangChain passes it to any model; a local model needs none.
        streaming: for chat models: ``invoke`` streams inside, for callbacks.
    """

    engine: NestEngine = Field(exclude=True, repr=False)
    tokenizer: Any = Field(default=None, exclude=True, repr=False)
    retriever: Any = Field(default=None, exclude=True, repr=False)
    embeddings: Any = Field(default=None, exclude=True, repr=False)
    deadline: float | None = Field(default=None, gt=0)
    on_error: OnError = "raise"
    max_retries: int = Field(default=0, ge=0)
    timeout: float | None = Field(default=None, gt=0)
    batch_size: int = Field(default=16, ge=1)
    n: int = Field(default=1, ge=1)
    model_name: str = ""
    revision: str | None = None
    source_id: str | None = None
    api_key: SecretStr | None = Field(default=None, exclude=True, repr=False)
    streaming: bool = False

    @model_validator(mode="before")
    @classmethod
    def _build_engine(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or "model" not in values:
            return values
        values = dict(values)
        model = values.pop("model")
        if "engine" in values:
            raise ConfigError(
                "engine and model exclude each other: an engine holds its model; give one"
            )
        if isinstance(model, str):
            raise ConfigError(
                f"model={model!r} is a name: use {cls.__name__}.from_model_id({model!r})"
            )
        return values | {"engine": NestEngine(model, values.get("tokenizer"))}

    @model_validator(mode="after")
    def _check_nest_settings(self) -> Self:
        self.config_for(self.engine.config, None, {})
        if self.retriever is not None:
            as_retriever(self.retriever)
        if self.embeddings not in (None, False):
            as_embedder(self.embeddings)
        return self

    @model_validator(mode="after")
    def _name_nest_model(self) -> Self:
        if not self.model_name:
            model = getattr(self.engine.language_model, "model", self.engine.language_model)
            name = getattr(model, "name_or_path", "")
            self.model_name = str(name or type(model).__name__)
        return self

    @classmethod
    def from_model_id(
        cls: type[Model],
        model_id: str,
        task: str = "text-generation",
        backend: str = "default",
        device: int | str | None = None,
        device_map: str | dict[str, Any] | None = None,
        model_kwargs: dict[str, Any] | None = None,
        pipeline_kwargs: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Model:
        """Load a model from the hub or a folder.

        The arguments are those of ``HuggingFacePipeline.from_model_id``.

        Args:
            model_id: hub id or local folder.
            task: ``text-generation``; there is no other.
            backend: ``default``; there is no other.
            device: a device of torch, or its number: -1 is the CPU, 0 the first GPU.
            device_map: placement by accelerate, in place of ``device``.
            model_kwargs: what transformers loads with: ``dtype``, ``revision``,
                ``quantization_config``, ``local_files_only``, ``trust_remote_code`` and others;
                also ``key_layer``, and ``backend`` with the options of llama.cpp.
            pipeline_kwargs: settings under the pipeline's names: ``max_new_tokens``, ``do_sample``,
                ``top_p``, ...
            fields: fields of the class, settings included.

        Returns:
            the model.

        Raises:
            ConfigError: if an argument asks for what the engine does not do.
        """
        if task != "text-generation" or backend != "default":
            raise ConfigError(
                f"task={task!r} with backend={backend!r} is not there: NEST is text-generation; "
                "what runs the model is said by model_kwargs={'backend': 'llama.cpp'}"
            )
        placement = {"device": _torch_device(device), "device_map": device_map}
        loading: dict[str, Any] = {
            name: value for name, value in placement.items() if value is not None
        }
        loading |= model_kwargs or {}
        settings = from_pipeline_kwargs(pipeline_kwargs) | fields
        engine = NestEngine.from_pretrained(model_id, **loading)
        named: dict[str, Any] = {
            "model_name": model_id,
            "revision": loading.get("revision"),
            "engine": engine,
        }
        return cls(**(named | settings))

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """Everything that an answer depends on, as the key of caches."""
        config = self.config_for(self.engine.config, None, {})
        return {
            "model_name": self.model_name,
            "revision": self.revision,
            "model": name_of(self.engine.language_model),
            "background": self.engine.background,
            "passages": self._source_identity(),
            "embeddings": name_of(self.embeddings) if self.embeddings else self.embeddings,
            "on_error": self.on_error,
            "n": self.n,
            "nest_version": __version__,
            # nested, because LangChain writes the call's `stop` at this level
            "settings": config.to_dict(),
        }

    def get_token_ids(self, text: str) -> list[int]:
        """Return the tokens of a text, as the model counts them."""
        return list(self.engine.language_model.tokenizer.encode_prompt(text).token_ids)

    def _call_config(self, stop: Sequence[str] | None, settings: Mapping[str, Any]) -> NestConfig:
        return self.config_for(self.engine.config, stop, settings)

    def _require_one_answer(self, n: int) -> None:
        if n != 1:
            raise ConfigError(
                f"n={n} answers cannot be streamed as one text; stream with n=1, or use generate()"
            )

    def _ls_params(
        self, kind: str, stop: Sequence[str] | None, settings: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return what LangSmith shows of a call; called before the call is checked."""
        shown = {
            "ls_provider": "nest",
            "ls_model_type": kind,
            "ls_model_name": settings.get("model", self.model_name),
            "ls_temperature": settings.get("temperature", self.temperature),
            "ls_max_tokens": settings.get("max_tokens", self.max_tokens),
            "ls_stop": [*(self.stop or ()), *(stop or ())] or None,
        }
        return {name: value for name, value in shown.items() if value is not None}

    def _answer(
        self, call: Call, run_manager: CallbackManagerForLLMRun | None
    ) -> list[tuple[list[NestOutput], Found]]:
        """Return the ``n`` answers to each prompt, and what the search has found."""
        found = self._find(call, run_manager)
        return self._decode(call, found, None)

    async def _aanswer(
        self, call: Call, run_manager: AsyncCallbackManagerForLLMRun | None
    ) -> list[tuple[list[NestOutput], Found]]:
        found = await self._afind(call, run_manager)
        return await in_thread(lambda cancel: self._decode(call, found, cancel))

    def _pieces(
        self, call: Call, run_manager: CallbackManagerForLLMRun | None
    ) -> Iterator[tuple[NestChunk, Found]]:
        """Yield the pieces of the only answer, each with what the search has found."""
        [found] = self._find(call, run_manager)
        for piece in self._decode_stream(call, found, None):
            yield piece, found

    async def _apieces(
        self, call: Call, run_manager: AsyncCallbackManagerForLLMRun | None
    ) -> AsyncIterator[tuple[NestChunk, Found]]:
        [found] = await self._afind(call, run_manager)
        async for piece in iterate_in_thread(
            lambda cancel: self._decode_stream(call, found, cancel)
        ):
            yield piece, found

    def _find(self, call: Call, run_manager: CallbackManagerForLLMRun | None) -> list[Found]:
        search = self._search_for(call)
        return _given_passages(call) if search is None else search.run(call.queries, run_manager)

    async def _afind(
        self, call: Call, run_manager: AsyncCallbackManagerForLLMRun | None
    ) -> list[Found]:
        search = self._search_for(call)
        return (
            _given_passages(call)
            if search is None
            else await search.arun(call.queries, run_manager)
        )

    def _search_for(self, call: Call) -> Search | None:
        k = call.config.passages_to_find
        if isinstance(self._source, VectorStore) and call.config.num_passages == _DEFAULT_NUMBER:
            k = min(k, DEFAULT_K)  # as the store itself: nobody has asked for more
        if call.passages is not None or self._source is None or k == 0:
            return None
        return Search(as_retriever(self._source), k, self.deadline, self.on_error, self.max_retries)

    def _decode(
        self, call: Call, found: Sequence[Found], cancel: Cancel | None
    ) -> list[tuple[list[NestOutput], Found]]:
        cancel, engine = cancel_after(self.timeout, cancel), self._answering_engine()
        answers: list[list[NestOutput]] = [[] for _ in call.prompts]
        for config in _configs(call):
            for start in range(0, len(call.prompts), self.batch_size):
                rows = slice(start, start + self.batch_size)
                outputs = engine.generate_batch(
                    call.prompts[rows],
                    passages=[each.passages for each in found[rows]],
                    queries=call.questions[rows],
                    config=config,
                    cancel=cancel,
                )
                for answer, output in zip(answers[rows], outputs, strict=True):
                    answer.append(output)
        return list(zip(answers, found, strict=True))

    def _decode_stream(
        self, call: Call, found: Found, cancel: Cancel | None
    ) -> Iterator[NestChunk]:
        return self._answering_engine().stream(
            call.prompts[0],
            passages=found.passages,
            query=call.questions[0],
            config=call.config,
            cancel=cancel_after(self.timeout, cancel),
        )

    def _answering_engine(self) -> NestEngine:
        """Return the engine with the embedder of what this model searches."""
        engine = copy.copy(self.engine)  # whose own settings others rely on
        engine.retriever = None  # passages are handed over
        if self.embeddings is not None:
            engine.embedder = as_embedder(self.embeddings) if self.embeddings else False
        elif engine.embedder is None:
            engine.embedder = embedder_behind(self._source)
        return engine

    @property
    def _source(self) -> Any:
        return self.engine.retriever if self.retriever is None else self.retriever

    def _source_identity(self) -> str | None:
        return self.source_id or (None if self._source is None else name_of(self._source))


def passages_argument(settings: dict[str, Any], num_prompts: int) -> list[list[Passage]] | None:
    """Remove ``passages`` from the arguments of a call, and return them."""
    given = settings.pop("passages", None)
    return None if given is None else passages_of_each(given, num_prompts)


def number_of_answers(settings: dict[str, Any], default: int) -> int:
    """Remove ``n`` from the arguments of a call, and return it.

    Raises:
        ConfigError: if it is not a whole number of at least 1.
    """
    n = settings.pop("n", default)
    require_count("n", n)
    return int(n)


def _given_passages(call: Call) -> list[Found]:
    return [Found(passages) for passages in call.passages or [()] * len(call.prompts)]


def _configs(call: Call) -> Iterator[NestConfig]:
    """Yield the settings of each of the ``n`` answers; each has a seed of its own."""
    if call.n > 1 and call.config.greedy:
        raise ConfigError(
            f"n={call.n} with temperature=0 gives one and the same answer; set a temperature above "
            "0"
        )
    for number in range(call.n):
        seed = call.config.seed
        yield call.config if seed is None else call.config.replace(seed=seed + number)


def _torch_device(device: int | str | None) -> str | None:
    if not isinstance(device, int):
        return device
    return "cpu" if device < 0 else f"cuda:{device}"
