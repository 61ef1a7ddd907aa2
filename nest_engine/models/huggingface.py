"""A causal language model of transformers, behind the seam that the engine knows."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from nest_engine._validation import require_count
from nest_engine.interfaces import ForwardCost, Frontier, Prefill, TokenizedPassage
from nest_engine.models import forward_time
from nest_engine.models.attention_mask import AttentionMasks
from nest_engine.models.batching import padded, require_room
from nest_engine.models.cuda_graphs import CudaGraphs, eager
from nest_engine.models.exactness import require_exact_steps
from nest_engine.models.fingerprint import fingerprint
from nest_engine.models.hidden_state import HiddenStateTap, KeyLayer, decoder_layers, key_module
from nest_engine.models.loading import load_pretrained, require_compatible_placement
from nest_engine.models.passage_reading import encode_passages
from nest_engine.models.precision import default_dtype, require_dtype
from nest_engine.models.prompt_cache import PROMPT_CACHE, PromptCache, model_state
from nest_engine.models.requirements import (
    keeps_a_state,
    positions_depend_on_length,
    require_attention_only,
    require_fitting_vocabulary,
    require_one_device,
    require_supported,
)
from nest_engine.models.row_by_row import RowByRowSession
from nest_engine.models.row_cache import RowCache
from nest_engine.models.session import HuggingFaceSession
from nest_engine.models.static_cache import StaticCache
from nest_engine.models.tokenization import TextTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.cache_utils import DynamicCache
    from typing_extensions import Self

__all__ = ["HuggingFaceLanguageModel", "HuggingFaceSession", "KeyLayer"]

# Tokens of a piece of a prompt: few, so that much of a beginning is whole pieces; and as many as
# keep the device busy. Two CPU cores take a seventh longer over a prompt of 400 in pieces of 256
# and 128 than in one forward, a fifth longer in pieces of 128, and half as long again in pieces of
# 64 (benchmarks/prompt_beginnings.py).
_PIECE = {"cpu": 256}
_WIDE_PIECE = 512

ModelSession: TypeAlias = HuggingFaceSession | RowByRowSession


class HuggingFaceLanguageModel:
    """A causal language model of transformers.

    Args:
        model: the model, on its device; switched to evaluation mode.
        tokenizer: its fast tokenizer.
        key_layer: ``ffn_input``, the input of the last layer's feed-forward block (the paper's
            choice), or ``penultimate``, the input of the last layer, which every architecture has.
        static_cache: decode one session at a time with a cache at fixed addresses and forwards of
            few shapes; on CUDA they are captured as graphs, and a small forward is no longer
            limited by how fast Python launches it.
        prompt_cache: most bytes of what is kept of the beginnings of prompts, so that a prompt that
            begins like an earlier one is read from there on; 0 keeps nothing. Prompts of a batch
            that is read together are not kept, nor those of a model that encodes positions
            otherwise in longer texts (longrope).

    A model whose layers keep a state, such as linear attention or convolutions, decodes the rows of
    a batch one after the other.

    Raises:
        UnsupportedModelError: if the architecture cannot be decoded exactly; the message says why.
        ConfigError: if ``key_layer`` is unknown, or a static cache is wanted for a model on several
            devices.
    """

    _static_cache: StaticCache | None = None
    _prompt_cache: PromptCache | None = None

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        key_layer: KeyLayer = "ffn_input",
        static_cache: bool = False,
        prompt_cache: int = PROMPT_CACHE,
    ) -> None:
        require_count("prompt_cache", prompt_cache, least=0)
        self.model = model.eval()
        self.tokenizer = TextTokenizer(tokenizer)
        self.key_layer = key_layer
        self._config = model.config.get_text_config(decoder=True)
        require_supported(model, self._config)
        require_fitting_vocabulary(model, len(self.tokenizer))
        self._attention_masks = AttentionMasks(model, self._config)
        self.keeps_a_state = keeps_a_state(self._config)
        layers = decoder_layers(model, self._config.num_hidden_layers)
        self._tap = HiddenStateTap(key_module(layers[-1], key_layer))
        # Threads may run forwards side by side, but not where accelerate moves the weights of each
        # layer in and out.
        is_offloaded = any(parameter.is_meta for parameter in model.parameters())
        self._forwarding: AbstractContextManager[Any] = (
            threading.RLock() if is_offloaded else nullcontext()
        )
        if static_cache:
            require_attention_only(model, self._config)
            require_one_device(model)
            capture = CudaGraphs(self.device).capture if self.device.type == "cuda" else eager
            self._static_cache = StaticCache(self._forward, self.device, capture)
        require_exact_steps(
            model,
            HuggingFaceLanguageModel._open_session(self, 2),
            self._read,
            min(self._config.vocab_size, len(self.tokenizer)),
            self.device,
        )
        in_pieces = not (self.keeps_a_state or positions_depend_on_length(self._config))
        if prompt_cache and in_pieces:
            self._prompt_cache = PromptCache(
                prompt_cache, _PIECE.get(self.device.type, _WIDE_PIECE)
            )

    @classmethod
    def from_pretrained(
        cls,
        model_id: str,
        *,
        key_layer: KeyLayer = "ffn_input",
        revision: str | None = None,
        dtype: str | torch.dtype | None = None,
        device: str | torch.device | None = None,
        device_map: str | dict[str, Any] | None = None,
        tp_plan: str | dict[str, str] | None = None,
        quantization_config: Any = None,
        attn_implementation: str | None = None,
        trust_remote_code: bool = False,
        static_cache: bool = False,
        prompt_cache: int | None = None,
        **model_kwargs: Any,
    ) -> Self:
        """Load a model and its tokenizer from the hub, a folder or a GGUF file.

        Args:
            model_id: hub id, local folder, or a ``.gguf`` file, which is converted once.
            key_layer: which hidden state keys and queries are.
            revision: branch, tag or commit on the hub.
            dtype: number format; ``auto`` takes the checkpoint's. None: on a CPU bfloat16 if it
                computes that natively, else float32; elsewhere ``auto``. ``torch_dtype``, its older
                name, is the same.
            device: where to put the model; excludes ``device_map`` and ``tp_plan``.
            device_map: placement by accelerate, for example ``auto``: layer after layer, each on
                one of the devices.
            tp_plan: ``auto`` splits every layer over the processes that torchrun has started; only
                ``TensorParallelLanguageModel`` decodes with such a model.
            quantization_config: a quantization configuration of transformers.
            attn_implementation: ``sdpa`` or ``eager``; None lets transformers choose.
            trust_remote_code: whether code from the model repository may run.
            static_cache: as for the class; excludes ``tp_plan``.
            prompt_cache: as for the class; excludes ``tp_plan``.
            model_kwargs: anything else for ``AutoModelForCausalLM.from_pretrained``; what says
                where the files are (``token``, ``cache_dir``, ``local_files_only``, ``subfolder``,
                ``gguf_file`` ...) also finds the tokenizer.

        Returns:
            the loaded model.

        Raises:
            ConfigError: if two arguments exclude each other.
            UnsupportedModelError: if the architecture or tokenizer cannot be used.
            ModelLoadError: if transformers cannot find or load the model.
        """
        require_compatible_placement(
            device,
            device_map,
            tp_plan,
            distributed_config=model_kwargs.get("distributed_config"),
            static_cache=static_cache,
            prompt_cache=prompt_cache,
        )
        dtype = require_dtype(dtype, model_kwargs.pop("torch_dtype", None))
        optional = {
            "device_map": device_map,
            "quantization_config": quantization_config,
            "attn_implementation": attn_implementation,
        }
        model, tokenizer = load_pretrained(
            model_id,
            revision=revision,
            trust_remote_code=trust_remote_code,
            device=device,
            tp_plan=tp_plan,
            dtype=default_dtype(device, device_map or tp_plan, quantization_config)
            if dtype is None
            else dtype,
            **{name: value for name, value in optional.items() if value is not None},
            **model_kwargs,
        )
        # Only where it is wanted: a class for split models does not take it.
        options: dict[str, Any] = {"static_cache": True} if static_cache else {}
        is_split = tp_plan is not None or "distributed_config" in model_kwargs
        if prompt_cache is not None and not is_split:
            options["prompt_cache"] = prompt_cache
        return cls(model, tokenizer, key_layer=key_layer, **options)

    @property
    def context_length(self) -> int | None:
        """Most tokens that the model's positions reach; None when they have no end."""
        return getattr(self._config, "max_position_embeddings", None)

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end an answer: the generation configuration's and the tokenizer's.

        Fine-tunes often end turns with a token of their tokenizer, or of their chat template, that
        the generation configuration, inherited from the base model, does not name.
        """
        generation_config = getattr(self.model, "generation_config", None)
        eos = getattr(generation_config, "eos_token_id", None)
        configured = [eos] if isinstance(eos, int) else eos or []
        return frozenset(
            token
            for token in (*configured, self.tokenizer.eos_id, self.tokenizer.turn_end_id)
            if token is not None
        )

    @property
    def device(self) -> torch.device:
        """Where tokens are read, and where outputs return to from wherever the last layer is."""
        embeddings = cast(nn.Embedding, self.model.get_input_embeddings())
        if embeddings.weight.is_meta:  # offloaded: accelerate brings them for the time of a forward
            return torch.device(cast(Any, embeddings)._hf_hook.execution_device)
        return embeddings.weight.device

    @cached_property
    def forward_cost(self) -> ForwardCost:
        """How the time of a forward grows with its tokens; measured once."""
        return forward_time.forward_cost(self)

    @property
    def tuned(self) -> dict[str, Any]:
        """NEST's defaults for the model by method, stored under ``nest`` in its ``config.json``."""
        return dict(getattr(self.model.config, "nest", None) or {})

    @cached_property
    def fingerprint(self) -> str:
        """Digest of what keys depend on: weights (sampled), configuration, tokenizer, key layer."""
        return fingerprint(
            self.model, self._config, self.tokenizer.definition, self.key_layer, self._forwarding
        )

    @torch.inference_mode()
    def encode(self, passages: Sequence[TokenizedPassage]) -> list[Tensor]:
        """Read passages, each by itself, and return the keys of their tokens.

        The forward stops at the key layer: neither the language-model head nor what follows the key
        layer runs. A passage longer than the context is read in overlapping windows, every token
        seeing at least half of one.

        Args:
            passages: tokenized passages.

        Returns:
            for each passage, the hidden state before each of its tokens, ``[T, D]``; ``[T - 1, D]``
            when nothing precedes its first token.
        """
        no_keys = torch.empty(0, self._config.hidden_size, device=self.device)
        return encode_passages(passages, self._read, self.context_length, no_keys)

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[Sequence[int]]) -> tuple[ModelSession, list[Prefill]]:
        """Read prompts and open a session on them.

        Args:
            prompts: token ids of each prompt; at least one token each.

        Returns:
            the session, and for each prompt its frontier and hidden states.

        Raises:
            ContextOverflowError: if a prompt fills the context.
        """
        require_room(prompts, self.context_length)
        if self.keeps_a_state and len(prompts) > 1:
            warnings.warn(
                f"{type(self.model).__name__} has layers that keep a state: the {len(prompts)} "
                "rows of this batch are decoded one after the other",
                stacklevel=2,
            )
        session = self._open_session(len(prompts))
        if self._prompt_cache is not None and len(prompts) == 1:
            assert isinstance(session, HuggingFaceSession)  # no state, so a cache of rows
            names = self._prompt_cache.names(prompts[0], model_state(self.model))
            logits_V, hidden_TD, num_known = session.read_prompt(
                prompts[0], names, self._prompt_cache
            )
            return session, [Prefill(Frontier(logits_V, hidden_TD[-1]), hidden_TD, num_known)]
        logits_BTV, hidden_BTD = session.forward(prompts, last_logits_only=True)
        return session, [
            Prefill(Frontier(logits_TV[-1], hidden_TD[len(prompt) - 1]), hidden_TD[: len(prompt)])
            for prompt, logits_TV, hidden_TD in zip(prompts, logits_BTV, hidden_BTD, strict=True)
        ]

    def forget_prompts(self) -> None:
        """Read the next prompt from its beginning, whatever came before: for fair measurements."""
        if self._prompt_cache is not None:
            self._prompt_cache.clear()

    def _open_session(self, num_rows: int) -> ModelSession:
        if self.keeps_a_state:
            return RowByRowSession(self._forward_row, self._config, num_rows)
        return HuggingFaceSession(self._new_cache(), num_rows, self._static_cache)

    def _new_cache(self) -> RowCache:
        return RowCache(self._forward, self.device)

    def _forward(
        self,
        token_ids_BT: Tensor,
        slots_BT: Tensor,
        num_slots: int,
        cache: RowCache,
        **options: Any,
    ) -> tuple[Tensor, Tensor]:
        """Read tokens behind those in a cache; arguments and values as for ``Forward``."""
        # Padding at the end of a short row may run past the last position the model knows; any
        # known one will do.
        positions_BT = (
            slots_BT if self.context_length is None else slots_BT.clamp(max=self.context_length - 1)
        )
        with self._forwarding, self._tap.capture() as captured:
            logits_BTV = self.model(
                token_ids_BT,
                attention_mask=self._attention_masks(positions_BT, num_slots),
                position_ids=positions_BT,
                past_key_values=cache,
                use_cache=True,
                **options,
            ).logits
        return logits_BTV, captured.hidden(*token_ids_BT.shape)

    def _forward_row(
        self, token_ids: Sequence[int], start: int, cache: DynamicCache, last_logits_only: bool
    ) -> tuple[Tensor, Tensor]:
        """Read tokens behind those in the cache of one row; arguments as for ``RowForward``."""
        token_ids_BT = torch.tensor([list(token_ids)], device=self.device)
        positions_BT = torch.arange(start, start + len(token_ids), device=self.device)[None]
        with self._forwarding, self._tap.capture() as captured:
            logits_BTV = self.model(
                token_ids_BT,
                position_ids=positions_BT,
                past_key_values=cache,
                use_cache=True,
                **({"logits_to_keep": 1} if last_logits_only else {}),
            ).logits
        hidden_BTD = captured.hidden(*token_ids_BT.shape)
        return logits_BTV[0].to(self.device, torch.float32), hidden_BTD[0].to(self.device)

    def _read(self, rows: list[tuple[int, ...]]) -> Tensor:
        """Return hidden states ``[B, T, D]`` of rows in one pass, without a cache.

        Rows are padded at the end, where causality keeps the padding from mattering.
        """
        token_ids_BT = padded(rows, self.device)
        width = token_ids_BT.shape[1]
        positions_BT = torch.arange(width, device=self.device).expand_as(token_ids_BT)
        # Layers with a state take no mask of positions, and read in order without one.
        mask = None if self.keeps_a_state else self._attention_masks(positions_BT, width)
        with self._forwarding, self._tap.capture(stop_forward=True) as captured:
            self.model.base_model(
                token_ids_BT, attention_mask=mask, position_ids=positions_BT, use_cache=False
            )
        return captured.hidden(*token_ids_BT.shape).to(self.device)
