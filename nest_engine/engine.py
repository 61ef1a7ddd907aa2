"""What users call: prompts in, answers with exact citations out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import torch

from nest_engine._validation import require_text
from nest_engine.config import NestConfig
from nest_engine.datastore.key_cache import KeyCache
from nest_engine.errors import ConfigError, InputError
from nest_engine.generation.nearness import (
    LetterNearness,
    Nearness,
    VectorNearness,
    rank_information,
)
from nest_engine.generation.prompts import BACKGROUND, require_background
from nest_engine.generation.request import Request, prepare
from nest_engine.generation.run import Cancel, Run, answer_all
from nest_engine.generation.scoring import score
from nest_engine.interfaces import LanguageModel, Message, PassageRetriever
from nest_engine.output import NestChunk, NestOutput
from nest_engine.records import Passage, Score

if TYPE_CHECKING:
    from os import PathLike

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from nest_engine.models.backend import Backend
    from nest_engine.retrieval import Embedder

T = TypeVar("T")

_MOST_EMBEDDERS = 4  # whose vectors are kept


class NestEngine:
    """Generate text whose copied spans have an exact source.

    One engine may be shared between threads: every call decodes in a session of its own. Calls
    share these arguments:

    - ``prompt``: what the model continues, chat template applied.
    - ``passages``: what may be quoted; None asks the retriever.
    - ``query``: what to search for, the prompt by default. In a chat prompt, also the question that
      ``ra`` and ``ra-nest`` put passages in front of; :meth:`ask` gives it for you.
    - ``config``: settings instead of the engine's.
    - ``cancel``: a callable, asked between steps; True ends the answer with
      ``finish_reason="cancelled"``.
    - ``settings``: single settings of ``NestConfig``, on top of ``config``.

    Args:
        model: a causal language model of transformers, or anything that implements
            ``LanguageModel``.
        tokenizer: the model's fast tokenizer; not needed for a ``LanguageModel``.
        retriever: first-stage search, asked when a call brings no passages.
        config: default settings; calls may override them. Default: those stored with the model,
            else the paper's.
        key_layer: for a transformers model: ``ffn_input`` or ``penultimate``.
        key_cache: where passage keys are kept between calls; engines may share one.
        background: how ``ra`` and ``ra-nest`` write passages into the prompt; holds ``{passages}``
            once.
        embedder: finds the sentences that answer a question (``by_sentence``); None takes that of
            the retriever. Without one, or with False, the letters that question and sentence share
            tell.
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
        embedder: Embedder | Literal[False] | None = None,
    ) -> None:
        self.language_model = _as_language_model(model, tokenizer, key_layer)
        self.retriever = retriever
        if not isinstance(config, NestConfig | None):
            raise ConfigError(
                f"config must be a NestConfig, got {type(config).__name__}; of a dict, "
                "NestConfig.from_dict(...) makes one"
            )
        self.config = config or NestConfig(tuned=getattr(self.language_model, "tuned", {}))
        self.key_cache = key_cache if key_cache is not None else KeyCache()
        self.background = require_background(background)
        self.embedder = embedder
        self._by_letters = LetterNearness(self._information)
        self._by_vectors: dict[str, VectorNearness] = {}

    @classmethod
    def from_pretrained(
        cls,
        model_id: str | PathLike[str],
        *,
        retriever: PassageRetriever | None = None,
        config: NestConfig | None = None,
        backend: Backend | None = None,
        key_layer: str | None = None,
        key_cache: KeyCache | None = None,
        background: str = BACKGROUND,
        embedder: Embedder | Literal[False] | None = None,
        **model_kwargs: Any,
    ) -> NestEngine:
        """Load a model from the hub, a folder or a GGUF file.

        Args:
            model_id: hub id, local folder or ``.gguf`` file.
            retriever: as for the class.
            config: as for the class.
            backend: what runs the model: ``transformers`` (which converts a GGUF file once) or
                ``llama.cpp``. None takes llama.cpp for a GGUF file if llama-cpp-python is installed
                and no argument asks for what only transformers has.
            key_layer: ``ffn_input`` or ``penultimate``; with llama.cpp, the latter.
            key_cache: as for the class.
            background: as for the class.
            embedder: as for the class.
            model_kwargs: for transformers ``revision``, ``dtype``, ``device``, ``device_map``,
                ``tp_plan``, ``quantization_config``, ``attn_implementation``,
                ``trust_remote_code``, ``static_cache``, ``prompt_cache`` and whatever else it
                takes; see ``HuggingFaceLanguageModel.from_pretrained``. For llama.cpp ``n_ctx``,
                ``n_threads``, ``n_gpu_layers``, ``cache_type``, ``flash_attn`` and
                ``prompt_cache``; see ``LlamaCppLanguageModel``. With ``tp_plan`` the engine's
                ``language_model`` is a ``TensorParallelLanguageModel``: all processes but the first
                call its ``follow()``.

        Returns:
            the engine.
        """
        from nest_engine.models.backend import load_language_model

        return cls(
            load_language_model(model_id, backend=backend, key_layer=key_layer, **model_kwargs),
            retriever=retriever,
            config=config,
            key_cache=key_cache,
            background=background,
            embedder=embedder,
        )

    @property
    def sentence_embedder(self) -> Embedder | None:
        """The embedder given, else that of the first-stage search; None where letters tell."""
        if self.embedder is None:
            return getattr(self.retriever, "embedder", None)
        return self.embedder or None

    @property
    def nearness(self) -> Nearness:
        """Tells which sentences answer a question."""
        embedder = self.sentence_embedder
        if embedder is None:
            return self._by_letters
        known = self._by_vectors
        if embedder.fingerprint not in known and len(known) >= _MOST_EMBEDDERS:
            known.pop(next(iter(known), ""), None)  # the oldest
        return known.setdefault(embedder.fingerprint, VectorNearness(embedder, self._by_letters))

    def _information(self, word: str) -> float:
        tokens = self.language_model.tokenizer.encode_passage(Passage(f" {word}"))
        return rank_information(tokens.token_ids)

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
            prompt: see the class.
            passages: see the class.
            query: see the class.
            config: see the class.
            cancel: see the class.
            settings: see the class.

        Returns:
            the answer, its citations and what it cost.

        Raises:
            ConfigError: if a setting is unknown or not valid.
            InputError: if the prompt is empty, not text, or longer than the context, or if passages
                are to be placed in a chat prompt and ``query`` does not stand there.
            RetrievalError: if the first-stage search fails.
        """
        return self.generate_batch(
            [prompt], passages=[passages], queries=[query], config=config, cancel=cancel, **settings
        )[0]

    def ask(
        self,
        question: str,
        *,
        passages: Sequence[Passage] | None = None,
        query: str | None = None,
        config: NestConfig | None = None,
        cancel: Cancel | None = None,
        **settings: Any,
    ) -> NestOutput:
        """Answer a question: put it into the model's prompt format and search for it.

        Short for ``generate(engine.format_question(question), query=question, ...)``.

        Args:
            question: the question.
            passages: see the class.
            query: what to search for instead of the question.
            config: see the class.
            cancel: see the class.
            settings: see the class.

        Returns:
            the answer.

        Raises:
            InputError: if the question is empty; otherwise as for :meth:`generate`.
        """
        require_text("question", question)
        if not question.strip():
            raise InputError("the question is empty")
        config = self.config.merged(config, settings)
        return self.generate(
            self.format_question(question, **config.chat_template_kwargs),
            passages=passages,
            query=question if query is None else query,
            config=config,
            cancel=cancel,
        )

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
            prompts: one for each answer.
            passages: one sequence for each prompt; None asks the retriever.
            queries: one for each prompt.
            config: see the class.
            cancel: see the class.
            settings: see the class.

        Returns:
            one answer for each prompt, equal to what :meth:`generate` gives.
        """
        if not prompts:
            return []
        requests = self._requests(prompts, passages, queries, config, settings)
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
        requests = self._requests([prompt], [passages], [query], config, settings)
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
        """Measure how well p_M predicts a text; ``lm``, ``ra`` and ``lossless`` have p_LM.

        Args:
            text: what to predict.
            prompt: what precedes it and is not scored.
            passages: see the class.
            query: what to search for; the prompt by default, or the text when there is no prompt.
            config: see the class.
            settings: see the class.

        Returns:
            negative log-likelihood, perplexity, bits per byte.

        Raises:
            InputError: if there is nothing to predict.
            ContextOverflowError: if prompt and text exceed the context.
        """
        require_text("text", text)
        queries = [query if query or passages is not None else prompt or text]
        scored_with = self.config.merged(config, settings)
        [request] = prepare(self, [prompt], [passages], queries, scored_with)
        return score(self.language_model, self.key_cache, request, text)

    def format_question(self, question: str, **chat_template_kwargs: Any) -> str:
        """Return the prompt for a question: the chat template, or ``Question: ... Answer:``.

        Args:
            question: the question.
            chat_template_kwargs: variables of the template, such as ``enable_thinking=False``; by
                default those of the engine's configuration.
        """
        return self.format_chat([Message("user", question)], **chat_template_kwargs)

    def format_chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        **chat_template_kwargs: Any,
    ) -> str:
        """Return the prompt for a conversation: the chat template, or plain text.

        Args:
            messages: the turns, first to last; a last one of the assistant is continued.
            tools: what the model may call, in OpenAI's format.
            chat_template_kwargs: as for :meth:`format_question`.

        Raises:
            InputError: if the model's template refuses the conversation, or has no place for tools.
        """
        variables = self.config.chat_template_kwargs | chat_template_kwargs
        return self.language_model.tokenizer.format_chat(messages, tools=tools, **variables)

    def as_custom_generate(
        self,
        passages: Sequence[Passage] | None = None,
        *,
        config: NestConfig | None = None,
        **settings: Any,
    ) -> Callable[..., Any]:
        """Return a decoding method for ``model.generate(..., custom_generate=...)``.

        Args:
            passages: what may be quoted; None asks the retriever with the decoded prompt.
            config: as for :meth:`generate`.
            settings: as for :meth:`generate`. Length, sampling and stopping come from
                ``model.generate``.

        Returns:
            a callable for transformers.

        Raises:
            ConfigError: if a setting belongs to ``model.generate``, or the method can do nothing
                here.
        """
        from nest_engine.generation.custom_generate import custom_generate

        elsewhere = settings.keys() & {"max_new_tokens", "temperature", "top_k", "top_p", "stop"}
        if elsewhere:
            raise ConfigError(
                f"{min(elsewhere)} comes from model.generate(...): give it there, not here"
            )
        chosen = self.config.merged(config, settings)
        if chosen.method == "ra":
            raise ConfigError(
                "method='ra' only writes passages into the prompt, which is fixed here: write them "
                "there"
            )
        return custom_generate(self, passages, chosen)

    def _requests(
        self,
        prompts: Sequence[str],
        passages: Sequence[Sequence[Passage] | None] | None,
        queries: Sequence[str | None] | None,
        config: NestConfig | None,
        settings: Mapping[str, Any],
    ) -> list[Request]:
        requests = prepare(self, prompts, passages, queries, self.config.merged(config, settings))
        for request in requests:
            request.require_room(self.language_model.context_length)
        return requests

    def _stream(self, requests: Sequence[Request], cancel: Cancel | None) -> Iterator[NestChunk]:
        run = Run(self.language_model, self.key_cache)
        [decoding] = run.enter(requests)
        for _ in run.steps(cancel):
            chunk = decoding.take()
            if not chunk.is_empty:
                yield chunk


def _as_language_model(
    model: PreTrainedModel | LanguageModel,
    tokenizer: PreTrainedTokenizerBase | None,
    key_layer: str | None,
) -> LanguageModel:
    if isinstance(model, str):
        raise ConfigError(
            f"model={model!r} is a name; load it with NestEngine.from_pretrained({model!r})"
        )
    if not isinstance(model, torch.nn.Module):
        if not hasattr(model, "prefill"):
            raise ConfigError(
                f"{type(model).__name__} is no language model: give a model of transformers"
            )
        if tokenizer is not None or key_layer is not None:
            raise ConfigError(
                f"{type(model).__name__} brings its own tokenizer and key layer; do not give others"
            )
        return model
    if tokenizer is None:
        raise ConfigError(
            f"{type(model).__name__} needs its tokenizer: NestEngine(model, tokenizer)"
        )
    from nest_engine.models.huggingface import HuggingFaceLanguageModel
    from nest_engine.models.tensor_parallel import TensorParallelLanguageModel

    is_split = (getattr(model, "_tp_size", None) or 1) > 1
    kind = TensorParallelLanguageModel if is_split else HuggingFaceLanguageModel
    return kind(model, tokenizer, key_layer=cast(Any, key_layer or "ffn_input"))
