"""What users call: prompts in, answers with exact citations out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch

from nest_engine.config import NestConfig
from nest_engine.decoder import Stopwatch
from nest_engine.errors import ConfigError, InputError, NestError, RetrievalError
from nest_engine.interfaces import LanguageModel, Message, PassageRetriever
from nest_engine.key_cache import KeyCache
from nest_engine.prompts import BACKGROUND, require_background
from nest_engine.request import Request, prepare
from nest_engine.run import Cancel, Run, answer_all
from nest_engine.scoring import score
from nest_engine.types import NestChunk, NestOutput, Passage, Score, require_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

T = TypeVar("T")


class NestEngine:
    """Generate text whose copied spans have an exact source.

    One engine may be shared between threads: every call decodes in a session of its own.

    Args:
        model: a causal language model of transformers, or anything that implements ``LanguageModel``.
        tokenizer: the model's fast tokenizer; not needed for a ``LanguageModel``.
        retriever: first-stage search, asked when a call brings no passages.
        config: default settings; calls may override them. Default: those stored with the model, else the paper's.
        key_layer: for a transformers model: ``ffn_input`` or ``penultimate``.
        key_cache: where passage keys are kept between calls; engines may share one.
        background: how ``ra`` and ``ra-nest`` write passages into the prompt; holds ``{passages}`` once.
    """

    def __init__(
        self,
        model: PreTrainedModel | LanguageModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        retriever: PassageRetriever | None = None,
        config: NestConfig | None = None,
        key_layer: str | None = None,
        key_cache: KeyCache | None = None,
        background: str = BACKGROUND,
    ) -> None:
        self.language_model = _as_language_model(model, tokenizer, key_layer)
        self.retriever = retriever
        self.config = config or NestConfig(tuned=getattr(self.language_model, "tuned", {}))
        self.key_cache = key_cache if key_cache is not None else KeyCache()
        self.background = require_background(background)

    @classmethod
    def from_pretrained(
        cls,
        model_id: str,
        *,
        retriever: PassageRetriever | None = None,
        config: NestConfig | None = None,
        key_layer: str = "ffn_input",
        key_cache: KeyCache | None = None,
        background: str = BACKGROUND,
        **model_kwargs: Any,
    ) -> NestEngine:
        """Load a model from the hub or a folder.

        Args:
            model_id: hub id or local folder.
            retriever: as for the class.
            config: as for the class.
            key_layer: as for the class.
            key_cache: as for the class.
            background: as for the class.
            model_kwargs: ``revision``, ``dtype``, ``device``, ``device_map``, ``tp_plan``, ``quantization_config``,
                ``attn_implementation``, ``trust_remote_code``, ``static_cache`` and whatever else transformers takes;
                see ``HuggingFaceLanguageModel.from_pretrained``. With ``tp_plan`` the engine's ``language_model`` is a
                ``TensorParallelLanguageModel``: all processes but the first call its ``follow()``.

        Returns:
            the engine.
        """
        from nest_engine.language_model import HuggingFaceLanguageModel
        from nest_engine.tensor_parallel import TensorParallelLanguageModel

        is_split = bool(model_kwargs.get("tp_plan") or model_kwargs.get("distributed_config"))
        kind = TensorParallelLanguageModel if is_split else HuggingFaceLanguageModel
        model = kind.from_pretrained(model_id, key_layer=cast(Any, key_layer), **model_kwargs)
        return cls(model, retriever=retriever, config=config, key_cache=key_cache, background=background)

    def generate(
        self,
        prompt: str,
        *,
        passages: Sequence[Passage] | None = None,
        query: str | None = None,
        config: NestConfig | None = None,
        cancel: Cancel | None = None,
        **settings: Any,
    ) -> NestOutput:
        """Answer one prompt.

        Args:
            prompt: what the model continues, chat template applied.
            passages: what may be quoted; None asks the retriever.
            query: what to search for, the prompt by default. In a chat prompt, also the question that ``ra`` and
                ``ra-nest`` put passages in front of; :meth:`ask` gives it by itself.
            config: settings instead of the engine's.
            cancel: a callable, asked between steps; True ends the answer with ``finish_reason="cancelled"``.
            settings: single settings of ``NestConfig``, on top of ``config``.

        Returns:
            the answer, its citations and what it cost.

        Raises:
            ConfigError: if a setting is unknown or not valid.
            InputError: if the prompt is empty, not text, or longer than the context, or if passages are to be placed
                in a chat prompt and ``query`` does not stand there.
            RetrievalError: if the first-stage search fails.
        """
        return self.generate_batch(
            [prompt], passages=[passages], queries=[query], config=config, cancel=cancel, **settings
        )[0]

    def ask(self, question: str, **arguments: Any) -> NestOutput:
        """Answer a question: put it into the model's prompt format and search for it.

        Short for ``generate(engine.format_question(question), query=question, ...)``.

        Args:
            question: the question.
            arguments: as for :meth:`generate`.

        Returns:
            the answer.

        Raises:
            InputError: if the question is empty; otherwise as for :meth:`generate`.
        """
        require_text("question", question)
        if not question.strip():
            raise InputError("the question is empty")
        return self.generate(self.format_question(question), **({"query": question} | arguments))

    def generate_batch(
        self,
        prompts: Sequence[str],
        *,
        passages: Sequence[Sequence[Passage] | None] | None = None,
        queries: Sequence[str | None] | None = None,
        config: NestConfig | None = None,
        cancel: Cancel | None = None,
        **settings: Any,
    ) -> list[NestOutput]:
        """Answer several prompts together; each advances by its own accepted length.

        Args:
            prompts: as ``prompt`` of :meth:`generate`, one for each answer.
            passages: one sequence for each prompt; None asks the retriever.
            queries: one for each prompt.
            config: as for :meth:`generate`.
            cancel: as for :meth:`generate`.
            settings: as for :meth:`generate`.

        Returns:
            one answer for each prompt, equal to what :meth:`generate` gives.
        """
        if not prompts:
            return []
        requests = self.prepare(prompts, passages, queries, self.configure(config, settings))
        self._require_room(requests)
        return answer_all(Run(self.language_model, self.key_cache), requests, cancel)

    def stream(
        self,
        prompt: str,
        *,
        passages: Sequence[Passage] | None = None,
        query: str | None = None,
        config: NestConfig | None = None,
        cancel: Cancel | None = None,
        **settings: Any,
    ) -> Iterator[NestChunk]:
        """Answer one prompt piece by piece; arguments and errors as for :meth:`generate`.

        Closing the iterator ends decoding.

        Yields:
            text and citations as they become final; the last chunk also carries the whole answer.
        """
        requests = self.prepare([prompt], [passages], [query], self.configure(config, settings))
        self._require_room(requests)
        return self._stream(requests, cancel)

    def score(
        self,
        text: str,
        *,
        prompt: str = "",
        passages: Sequence[Passage] | None = None,
        query: str | None = None,
        config: NestConfig | None = None,
        **settings: Any,
    ) -> Score:
        """Measure how well a text is predicted by p_M, or by the model alone for ``lm``, ``ra`` and ``lossless``.

        Args:
            text: what to predict.
            prompt: what stands before it and is not scored.
            passages: as for :meth:`generate`.
            query: what to search for; the prompt by default, or the text when there is no prompt.
            config: as for :meth:`generate`.
            settings: as for :meth:`generate`.

        Returns:
            negative log-likelihood, perplexity, bits per byte.

        Raises:
            InputError: if there is nothing to predict.
            ContextOverflowError: if prompt and text exceed the context.
        """
        require_text("text", text)
        scored_with = self.configure(config, settings)
        queries = [query if query or passages is not None else prompt or text]
        [request] = self.prepare([prompt], [passages], queries, scored_with)
        return score(self.language_model, self.key_cache, request, text)

    def format_question(self, question: str) -> str:
        """Return the prompt that puts a question to this model: its chat template, or ``Question: ... Answer:``."""
        return self.language_model.tokenizer.format_question(question)

    def format_chat(self, messages: Sequence[Message]) -> str:
        """Return the prompt that lets this model answer a conversation: its chat template, or plain text.

        Raises:
            InputError: if the model's template refuses the conversation.
        """
        return self.language_model.tokenizer.format_chat(messages)

    def as_custom_generate(
        self, passages: Sequence[Passage] | None = None, *, config: NestConfig | None = None, **settings: Any
    ) -> Callable[..., Any]:
        """Return a decoding method for ``model.generate(..., custom_generate=...)``.

        Args:
            passages: what may be quoted; None asks the retriever with the decoded prompt.
            config: as for :meth:`generate`.
            settings: as for :meth:`generate`. Length, sampling and stopping come from ``model.generate``.

        Returns:
            a callable for transformers.

        Raises:
            ConfigError: if a setting belongs to ``model.generate``, or the method can do nothing here.
        """
        from nest_engine.custom_generate import custom_generate

        elsewhere = settings.keys() & {"max_new_tokens", "temperature", "top_k", "top_p", "stop"}
        if elsewhere:
            raise ConfigError(f"{min(elsewhere)} comes from model.generate(...): give it there, not here")
        chosen = self.configure(config, settings)
        if chosen.method == "ra":
            raise ConfigError("method='ra' only writes passages into the prompt, which is fixed here: write them there")
        return custom_generate(self, passages, chosen)

    def find_passages(
        self,
        prompts: Sequence[str],
        passages_B: Sequence[Sequence[Passage] | None],
        queries_B: Sequence[str | None],
        config: NestConfig,
    ) -> list[tuple[Passage, ...]]:
        """Return the passages of each prompt: those handed over, else those found in one search for all prompts.

        Args:
            prompts: the prompts.
            passages_B: passages handed over, or None, for each prompt.
            queries_B: what to search for, or None for the prompt itself.
            config: says how many to search for; ``lm`` has none.

        Returns:
            passages of each prompt, best first.

        Raises:
            RetrievalError: if the search fails.
        """
        found_B = [() if passages is None else _as_passages(passages) for passages in passages_B]
        missing = [row for row, passages in enumerate(passages_B) if passages is None]
        k = config.passages_to_find
        if self.retriever is None or not missing or k == 0:
            return found_B
        results = _retrieve(self.retriever, [queries_B[row] or prompts[row] for row in missing], k)
        for row, result in zip(missing, results, strict=True):
            found_B[row] = result
        return found_B

    def prepare(
        self,
        prompts: Sequence[str],
        passages: Sequence[Sequence[Passage] | None] | None,
        queries: Sequence[str | None] | None,
        config: NestConfig,
    ) -> list[Request]:
        """Find passages for each prompt, write them into it where the method says so, and tokenize.

        Args:
            prompts: the prompts.
            passages: as for :meth:`generate_batch`.
            queries: as for :meth:`generate_batch`; also what ``relevance`` measures passages by.
            config: settings.

        Returns:
            one request for each prompt.
        """
        queries_B = _one_each("queries", queries, prompts)
        passages_B = _one_each("passages", passages, prompts)
        stopwatch = Stopwatch()
        with stopwatch.phase("passage_search"):
            found_B = self.find_passages(prompts, passages_B, queries_B, config)
        return [
            prepare(
                self.language_model,
                prompt,
                found,
                query,
                config,
                asked=_asked(prompt, given, query),
                background=self.background,
                stopwatch=stopwatch,
            )
            for prompt, given, found, query in zip(prompts, passages_B, found_B, queries_B, strict=True)
        ]

    def _require_room(self, requests: Sequence[Request]) -> None:
        for request in requests:
            request.require_room(self.language_model.context_length)

    def configure(self, config: NestConfig | None = None, settings: Mapping[str, Any] | None = None) -> NestConfig:
        """Return the settings of a call: ``settings`` on top of ``config``, or of the engine's.

        Raises:
            ConfigError: if a setting is unknown or not valid.
        """
        if config is not None and not isinstance(config, NestConfig):
            raise ConfigError(f"config must be a NestConfig, got {type(config).__name__}: NestConfig(...) makes one")
        return (config or self.config).replace(**settings or {})

    def _stream(self, requests: Sequence[Request], cancel: Cancel | None) -> Iterator[NestChunk]:
        run = Run(self.language_model, self.key_cache)
        [decoding] = run.enter(requests)
        for _ in run.steps(cancel):
            chunk = decoding.take()
            if chunk.text or chunk.citations or chunk.output:
                yield chunk


def _as_language_model(
    model: PreTrainedModel | LanguageModel, tokenizer: PreTrainedTokenizerBase | None, key_layer: str | None
) -> LanguageModel:
    if isinstance(model, str):
        raise ConfigError(f"model={model!r} is a name; load it with NestEngine.from_pretrained({model!r})")
    if not isinstance(model, torch.nn.Module):
        if not hasattr(model, "prefill"):
            raise ConfigError(f"{type(model).__name__} is no language model: give a model of transformers")
        if tokenizer is not None or key_layer is not None:
            raise ConfigError(f"{type(model).__name__} brings its own tokenizer and key layer; do not give others")
        return model
    if tokenizer is None:
        raise ConfigError(f"{type(model).__name__} needs its tokenizer: NestEngine(model, tokenizer)")
    from nest_engine.language_model import HuggingFaceLanguageModel
    from nest_engine.tensor_parallel import TensorParallelLanguageModel

    is_split = (getattr(model, "_tp_size", None) or 1) > 1
    kind = TensorParallelLanguageModel if is_split else HuggingFaceLanguageModel
    return kind(model, tokenizer, key_layer=cast(Any, key_layer or "ffn_input"))


def _as_passages(given: Iterable[Passage]) -> tuple[Passage, ...]:
    if isinstance(given, (Passage, str)) or not isinstance(given, Iterable):
        raise InputError(f"passages must be a sequence of Passage objects, got {type(given).__name__}")
    passages = tuple(given)
    for passage in passages:
        if not isinstance(passage, Passage):
            raise InputError(
                f"passages must be Passage objects, got {type(passage).__name__}: use Passage(text, title=...)"
            )
    return passages


def _retrieve(retriever: PassageRetriever, queries: Sequence[str], k: int) -> list[tuple[Passage, ...]]:
    name = type(retriever).__name__
    try:
        results = retriever.retrieve(queries, k)
    except NestError:
        raise
    except Exception as error:
        raise RetrievalError(f"{name} failed: {error}") from error
    try:
        found = [_as_passages(result) for result in results]
    except (InputError, TypeError) as error:
        raise RetrievalError(f"{name}.retrieve() must return one list of passages for each query: {error}") from error
    if len(found) != len(queries):
        raise RetrievalError(
            f"{name}.retrieve() returned {len(found)} results for {len(queries)} queries; "
            "it must return one list of passages for each query"
        )
    return found


def _asked(prompt: str, given: Sequence[Passage] | None, query: str | None) -> str | None:
    """Return what passages were searched for; None for passages that the caller chose without saying for what."""
    return query if query is not None or given is not None else prompt


def _one_each(name: str, given: Sequence[T | None] | None, prompts: Sequence[str]) -> Sequence[T | None]:
    if isinstance(prompts, str):
        raise InputError("prompts must be a sequence of strings, got one string; use generate() for one prompt")
    if given is None:
        return [None] * len(prompts)
    if len(given) != len(prompts):
        raise InputError(f"{len(prompts)} prompts but {len(given)} {name}; give one for each prompt")
    return given
