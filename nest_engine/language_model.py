"""The only caller of transformers: load a decoder, read tokens, show the hidden state.

Two ideas carry this file. One forward pre-hook shows the hidden state that queries and keys are made of. And every
row of a batch writes its keys and values at its own length into a shared cache, under a mask made of positions, so
that rows advance and are cut back independently, with no holes and no padding between their tokens.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.distributed import DistributedConfig

from nest_engine.errors import ConfigError, ContextOverflowError, ModelLoadError, UnsupportedModelError
from nest_engine.interfaces import Prefill
from nest_engine.row_cache import RowCache
from nest_engine.static_cache import CudaGraphs, StaticCache, as_it_is
from nest_engine.tokenization import TextTokenizer
from nest_engine.types import Frontier, Outputs, TokenizedPassage

if TYPE_CHECKING:
    from typing_extensions import Self

KeyLayer = Literal["ffn_input", "penultimate"]

_FEED_FORWARD_NAMES = ("mlp", "feed_forward", "ffn", "block_sparse_moe", "fc1")
_MASKED_ATTENTION = ("eager", "sdpa")  # implementations that take a ready-made [B, 1, Q, KV] mask
_PLAIN_LAYERS = {"full_attention", "sliding_attention"}
# Parts of a configuration that keys do not depend on.
_NOT_IN_KEYS = ("nest", "transformers_version", "_name_or_path", "distributed_config")
_WIDE_FORWARD = 32  # width of the forward that tells what wide forwards cost
_ENCODE_TOKENS = 4096  # most tokens, padding included, in one forward over passages


class HuggingFaceLanguageModel:
    """A causal language model of transformers.

    Args:
        model: the model, on its device; switched to evaluation mode.
        tokenizer: its fast tokenizer.
        key_layer: ``ffn_input``, the input of the last layer's feed-forward block (the paper's choice), or
            ``penultimate``, the input of the last layer, which every architecture has.
        static_cache: decode the session that comes first with a cache at fixed addresses and forwards of few shapes;
            on CUDA they are captured as graphs, and a small forward is no longer limited by how fast Python asks.

    Raises:
        UnsupportedModelError: if the architecture cannot be decoded exactly; the message says why.
        ConfigError: if ``key_layer`` is unknown, or a static cache is wanted for a model on several devices.
    """

    _static_cache: StaticCache | None = None

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        key_layer: KeyLayer = "ffn_input",
        static_cache: bool = False,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = TextTokenizer(tokenizer)
        self.key_layer = key_layer
        self._config = model.config.get_text_config(decoder=True)
        self._attention_windows = _attention_windows(self._config)
        _require_supported(model, self._config)
        _require_fitting_vocabulary(model, self.tokenizer)
        layers = _decoder_layers(model, self._config.num_hidden_layers)
        self._tap = _HiddenStateTap(_key_module(layers[-1], key_layer))
        # Threads may make forwards side by side, but not where accelerate takes weights away behind each layer.
        is_offloaded = any(parameter.is_meta for parameter in model.parameters())
        self._forwarding: AbstractContextManager[Any] = threading.RLock() if is_offloaded else nullcontext()
        if static_cache:
            _require_one_device(model)
            capture = CudaGraphs(self.device).capture if self.device.type == "cuda" else as_it_is
            self._static_cache = StaticCache(self._forward, self.device, capture)
        self._check_exactness()

    @classmethod
    def from_pretrained(
        cls,
        model_id: str,
        *,
        key_layer: KeyLayer = "ffn_input",
        revision: str | None = None,
        dtype: str | torch.dtype = "auto",
        device: str | torch.device | None = None,
        device_map: str | dict[str, Any] | None = None,
        tp_plan: str | dict[str, str] | None = None,
        quantization_config: Any = None,
        attn_implementation: str | None = None,
        trust_remote_code: bool = False,
        static_cache: bool = False,
        **model_kwargs: Any,
    ) -> Self:
        """Load a model and its tokenizer from the hub or a folder.

        Args:
            model_id: hub id or local folder.
            key_layer: which hidden state keys and queries are.
            revision: branch, tag or commit on the hub.
            dtype: ``auto`` takes the checkpoint's.
            device: where to put the model; excludes ``device_map`` and ``tp_plan``.
            device_map: placement by accelerate, for example ``auto``: layer after layer, each on one of the devices.
            tp_plan: ``auto`` splits every layer over the processes that torchrun has started; only
                ``TensorParallelLanguageModel`` decodes with such a model.
            quantization_config: a quantization configuration of transformers.
            attn_implementation: ``sdpa`` or ``eager``; None lets transformers choose.
            trust_remote_code: whether code from the model repository may run.
            static_cache: as for the class; excludes ``tp_plan``.
            model_kwargs: anything else for ``AutoModelForCausalLM.from_pretrained``.

        Returns:
            the loaded model.

        Raises:
            UnsupportedModelError: if the architecture or tokenizer cannot be used.
            ModelLoadError: if transformers cannot find or load the model.
        """
        placement = {"device": device, "device_map": device_map, "tp_plan": tp_plan}
        chosen = [f"{name}={value!r}" for name, value in placement.items() if value is not None]
        if len(chosen) > 1:
            raise ConfigError(f"{' and '.join(chosen)} exclude each other; give one")
        if static_cache and (tp_plan is not None or model_kwargs.get("distributed_config") is not None):
            raise ConfigError("static_cache=True needs the whole model in one process; leave it or the splitting out")
        if model_id.startswith((".", "/", "~")) and not Path(model_id).is_dir():
            raise ModelLoadError(f"the model folder {model_id} does not exist; give a folder or a hub id")
        shared = {"revision": revision, "trust_remote_code": trust_remote_code}
        optional = {
            "device_map": device_map,
            "quantization_config": quantization_config,
            "attn_implementation": attn_implementation,
        }
        given = {name: value for name, value in optional.items() if value is not None}
        if tp_plan is not None:
            given |= _split_by(tp_plan)
        try:
            tokenizer = AutoTokenizer.from_pretrained(model_id, **shared)
            model = AutoModelForCausalLM.from_pretrained(model_id, dtype=dtype, **shared, **given, **model_kwargs)
        except (OSError, ValueError, ImportError, TypeError, RuntimeError) as error:
            raise ModelLoadError(f"the model {model_id!r} cannot be loaded: {error}") from error
        if device is not None:
            try:
                model = model.to(device)
            except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for CUDA
                raise ModelLoadError(f"the model {model_id!r} cannot be put on {device!r}: {error}") from error
        return cls(model, tokenizer, key_layer=key_layer, **({"static_cache": True} if static_cache else {}))

    @property
    def context_length(self) -> int | None:
        """Most tokens that the model's positions reach; None when they have no end."""
        return getattr(self._config, "max_position_embeddings", None)

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end an answer: the generation configuration's, else the tokenizer's."""
        generation_config = getattr(self.model, "generation_config", None)
        eos = getattr(generation_config, "eos_token_id", None)
        if eos is None:
            eos = self.tokenizer.eos_id
        return frozenset([eos] if isinstance(eos, int) else eos or [])

    @property
    def device(self) -> torch.device:
        """Where the input embeddings are computed; outputs come back there from wherever the last layer is."""
        embeddings = cast(nn.Embedding, self.model.get_input_embeddings())
        if embeddings.weight.is_meta:  # offloaded: accelerate brings them for the time of a forward
            return torch.device(cast(Any, embeddings)._hf_hook.execution_device)
        return embeddings.weight.device

    @cached_property
    def marginal_token_cost(self) -> float:
        """Time of one more token in a forward pass relative to a forward over two tokens, measured once.

        Two, the shortest draft: the second token costs a CPU far more than those after it, and every draft has it. A
        line through the medians at both ends is enough: choosing a draft length needs no better, and a noisy machine
        offers no better. The result is kept between a GPU's and a slow CPU's.
        """
        two, wide = self._forward_seconds(2), self._forward_seconds(_WIDE_FORWARD)
        return min(max((wide / two - 1) / (_WIDE_FORWARD - 2), 0.001), 0.2)

    @property
    def tuned(self) -> dict[str, Any]:
        """NEST's defaults for the model by method, stored under ``nest`` in its ``config.json``."""
        return dict(getattr(self.model.config, "nest", None) or {})

    @cached_property
    def fingerprint(self) -> str:
        """Digest of what keys depend on: weights (sampled), configuration, tokenizer, key layer."""
        digest = hashlib.sha256()
        shape = {k: v for k, v in self._config.to_dict().items() if k not in _NOT_IN_KEYS}
        digest.update(json.dumps(shape, sort_keys=True, default=str).encode())
        digest.update(self.tokenizer.definition.encode())
        digest.update(self.key_layer.encode())
        tied = getattr(self.model, "all_tied_weights_keys", {})  # listed twice where accelerate has untied them
        for name, parameter in self.model.named_parameters():
            if name in tied:
                continue
            with self._forwarding:
                weight = _whole_weight(self.model, name, parameter)
            sample = weight.flatten()[:: max(1, weight.numel() // 64)][:64]
            digest.update(f"{name}{tuple(weight.shape)}{weight.dtype}".encode())
            digest.update(sample.float().cpu().numpy().tobytes())
        return digest.hexdigest()

    @torch.inference_mode()
    def encode(self, passages: Sequence[TokenizedPassage]) -> list[Tensor]:
        """Read passages, each by itself, and return the keys of their tokens.

        The forward stops at the key layer: neither the language-model head nor what follows the key layer runs.
        A passage longer than the context is read in overlapping windows, every token seeing at least half of one.

        Args:
            passages: tokenized passages.

        Returns:
            for each passage, the hidden state before each of its tokens, ``[T, D]``; ``[T - 1, D]`` when nothing
            precedes its first token.
        """
        windows = [list(self._windows_of(passage)) for passage in passages]
        rows = [row for of_passage in windows for row in of_passage]
        keys: list[Tensor] = [torch.empty(0)] * len(rows)
        for batch in _batches_by_size([len(tokens) for tokens, _ in rows]):
            hidden_BTD = self._read([rows[number][0] for number in batch])
            for number, hidden_TD in zip(batch, hidden_BTD, strict=True):
                tokens, first = rows[number]
                keys[number] = hidden_TD[first : len(tokens)].clone()
        empty = torch.empty(0, self._config.hidden_size, device=self.device)
        parts = iter(keys)
        return [torch.cat([next(parts) for _ in of_passage]) if of_passage else empty for of_passage in windows]

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[Sequence[int]]) -> tuple[HuggingFaceSession, list[Prefill]]:
        """Read prompts and open a session on them.

        Args:
            prompts: token ids of each prompt; at least one token each.

        Returns:
            the session, and for each prompt its frontier and hidden states.

        Raises:
            ContextOverflowError: if a prompt fills the context.
        """
        for prompt in prompts:
            if self.context_length is not None and len(prompt) >= self.context_length:
                raise ContextOverflowError.no_room(len(prompt), self.context_length)
        session = self._open_session(len(prompts))
        logits_BTV, hidden_BTD = session.forward(prompts, last_logits_only=True)
        return session, [
            Prefill(Frontier(logits_TV[-1], hidden_TD[len(prompt) - 1]), hidden_TD[: len(prompt)])
            for prompt, logits_TV, hidden_TD in zip(prompts, logits_BTV, hidden_BTD, strict=True)
        ]

    def _open_session(self, num_rows: int) -> HuggingFaceSession:
        return HuggingFaceSession(self, num_rows)

    def _forward(
        self, token_ids_BT: Tensor, slots_BT: Tensor, num_slots: int, cache: RowCache, **options: Any
    ) -> tuple[Tensor, Tensor]:
        """Read tokens behind those in a cache.

        Args:
            token_ids_BT: the tokens; each row may end with padding.
            slots_BT: where in the cache each is written, which is its position.
            num_slots: how many slots there are to attend to.
            cache: the cache.
            options: anything else for the model.

        Returns:
            logits ``[B, T, V]`` and hidden states ``[B, T, D]``.
        """
        # Padding at the end of a short row may run past the last position the model knows; any known one will do.
        positions_BT = slots_BT if self.context_length is None else slots_BT.clamp(max=self.context_length - 1)
        with self._forwarding, self._tap.capture() as captured:
            logits_BTV = self.model(
                token_ids_BT,
                attention_mask=self._attention_mask(positions_BT, num_slots),
                position_ids=positions_BT,
                past_key_values=cache,
                use_cache=True,
                **options,
            ).logits
        return logits_BTV, captured.hidden(*token_ids_BT.shape)

    def _forward_seconds(self, width: int) -> float:
        """Return the median time of a forward over ``width`` tokens behind a short prompt."""
        session, _ = self.prefill([[0] * min(_WIDE_FORWARD, (self.context_length or _WIDE_FORWARD + 1) - 1)])
        length = session.lengths[0]
        width = min(width, (self.context_length or length + width) - length)
        seconds = []
        for _ in range(5):
            session.truncate([length])
            start = time.perf_counter()
            float(session.extend([[0] * width])[0].logits_TV[-1, 0])  # reading a number waits for the device
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds)

    def _windows_of(self, passage: TokenizedPassage) -> Iterator[tuple[tuple[int, ...], int]]:
        """Yield what to read, and from which position on hidden states are keys."""
        tokens = passage.context_ids + passage.token_ids
        first_key = max(len(passage.context_ids) - 1, 0)
        last_key = len(tokens) - 2  # the last token precedes nothing
        if last_key < first_key:
            return
        tokens = tokens[:-1]
        size = self.context_length or len(tokens)
        yield tokens[:size], first_key
        stride = size // 2
        for start in range(stride, len(tokens) - size + stride, stride):
            yield tokens[start : start + size], max(size - stride, first_key - start)

    def _read(self, rows: list[tuple[int, ...]]) -> Tensor:
        """Return hidden states ``[B, T, D]`` of right-padded rows; causality keeps padding from mattering."""
        token_ids_BT = _padded(rows, self.device)
        positions_BT = torch.arange(token_ids_BT.shape[1], device=self.device).expand_as(token_ids_BT)
        mask = self._attention_mask(positions_BT, token_ids_BT.shape[1])
        with self._forwarding, self._tap.capture(stop_forward=True) as captured:
            self.model.base_model(token_ids_BT, attention_mask=mask, position_ids=positions_BT, use_cache=False)
        return captured.hidden(*token_ids_BT.shape).to(self.device)

    def _attention_mask(self, positions_BQ: Tensor, kv_length: int) -> Tensor | dict[str, Tensor]:
        """Return the mask(s) ``[B, 1, Q, KV]``: a token sees its own row's tokens up to itself, within the window.

        Cache slot ``i`` of a row always holds its token at position ``i``, so positions decide everything; slots
        beyond a row's length hold later positions or leftovers, which no query reaches.
        """
        slots_KV = torch.arange(kv_length, device=positions_BQ.device)
        positions = positions_BQ[:, None, :, None]
        causal = slots_KV <= positions
        masks = {
            kind: self._as_attention_input(causal if window is None else causal & (slots_KV > positions - window))
            for kind, window in self._attention_windows.items()
        }
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _as_attention_input(self, mask: Tensor) -> Tensor:
        if self._config._attn_implementation == "sdpa":
            return mask
        dtype = self.model.dtype
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, torch.finfo(dtype).min)

    @torch.inference_mode()
    def _check_exactness(self) -> None:
        """Decode a few tokens in two uneven rows, with a cut-back, and compare with plain forwards.

        Architectures that hold state of their own, or derive positions from a padding mask, fail here instead of
        producing wrong text.
        """
        vocab_size = min(self._config.vocab_size, len(self.tokenizer))
        tokens = [(7 * i + 3) % vocab_size for i in range(9)]
        try:
            session = HuggingFaceSession(self, 2)
            session.forward([tokens[:5], tokens[:3]])
            session.truncate([4, 3])
            session.extend([tokens[4:7], tokens[3:6]])
            session.truncate([4, 3])
            first, second = session.extend([tokens[4:6], tokens[3:7]])
            expected = self.model(torch.tensor([tokens[:7]], device=self.device), use_cache=False).logits[0]
            expected_keys_TD = self._read([tuple(tokens[:7])])[0]
        except UnsupportedModelError:
            raise
        except Exception as error:
            raise UnsupportedModelError(
                f"{type(self.model).__name__} does not take explicit positions with a [B, 1, Q, KV] mask, by which "
                f"rows of different length are decoded together ({type(error).__name__}: {error})"
            ) from error
        for found, reference in (
            (first.logits_TV, expected[4:6]),
            (second.logits_TV, expected[3:7]),
            (first.hidden_TD, expected_keys_TD[4:6]),
            (second.hidden_TD, expected_keys_TD[3:7]),
        ):
            found, reference = found.float(), reference.float()
            tolerance = 1e-3 if self.model.dtype == torch.float32 else 0.1
            error_size = float((found - reference).abs().max() / reference.abs().max().clamp(min=1e-6))
            if not error_size < tolerance:
                raise UnsupportedModelError(
                    f"{type(self.model).__name__} gives other values in steps than in one pass (relative difference "
                    f"{error_size:.2g}, allowed {tolerance:g}): its architecture cannot be decoded speculatively"
                )


class HuggingFaceSession:
    """Rows being decoded by one model, sharing one cache.

    Args:
        language_model: the model.
        num_rows: how many rows start.
    """

    def __init__(self, language_model: HuggingFaceLanguageModel, num_rows: int) -> None:
        self._lm = language_model
        self._lengths = [0] * num_rows
        self._cache = RowCache()

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens held for each row."""
        return tuple(self._lengths)

    @torch.inference_mode()
    def extend(self, drafts: Sequence[Sequence[int]]) -> list[Outputs]:
        """Read each row's draft behind its tokens, in one forward pass.

        Args:
            drafts: token ids of each row; at least one token each.

        Returns:
            for each row, logits and hidden states after each token of its draft.
        """
        static = self._lm._static_cache
        if static is not None and self._cache is not static and static.lend(self, self._cache):
            self._cache = static
        if isinstance(self._cache, StaticCache):
            logits_BTV, hidden_BTD = self._cache.read(drafts, self._lengths)
            self._advance(drafts)
        else:
            logits_BTV, hidden_BTD = self.forward(drafts)
        return [
            Outputs(logits_TV[: len(draft)], hidden_TD[: len(draft)])
            for draft, logits_TV, hidden_TD in zip(drafts, logits_BTV, hidden_BTD, strict=True)
        ]

    def truncate(self, lengths: Sequence[int]) -> None:
        """Forget each row's tokens beyond ``lengths``; what lies there is never attended to and is overwritten."""
        for row, (length, held) in enumerate(zip(lengths, self._lengths, strict=True)):
            if not 0 <= length <= held:
                raise ValueError(f"row {row} holds {held} tokens and cannot be cut back to {length}")
        self._lengths = list(lengths)

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Drop every row that is not listed."""
        if list(rows) != list(range(len(self._lengths))):
            self._lengths = [self._lengths[row] for row in rows]
            self._cache.keep(rows, 2 * max(self._lengths, default=0))
            if not rows and isinstance(self._cache, StaticCache):
                self._cache = self._cache.given_back()

    @torch.inference_mode()
    def join(self, other: HuggingFaceSession) -> None:
        """Append the rows of another session of the same model, which is used up by it.

        If that fails, for want of memory say, this session is as it was.
        """
        self._cache.join(other._cache)
        self._lengths += other._lengths

    def forward(self, drafts: Sequence[Sequence[int]], last_logits_only: bool = False) -> tuple[Tensor, Tensor]:
        """Read drafts; return logits ``[B, T, V]`` in float32 and hidden states ``[B, T, D]``.

        With ``last_logits_only`` the logits are ``[B, 1, V]``, those after each row's last token: a prompt needs no
        others, and a vocabulary times a prompt is large.
        """
        lm = self._lm
        self._cache.starts = self._lengths
        token_ids_BT = _padded(drafts, lm.device)
        starts_B = torch.tensor(self._lengths, device=lm.device)
        slots_BT = starts_B[:, None] + torch.arange(token_ids_BT.shape[1], device=lm.device)
        num_slots = max(self._lengths) + token_ids_BT.shape[1]
        last_T = sorted({len(draft) - 1 for draft in drafts})
        # On the CPU: an index from there suits the last layer on any device.
        options = {"logits_to_keep": torch.tensor(last_T)} if last_logits_only else {}
        logits_BTV, hidden_BTD = lm._forward(token_ids_BT, slots_BT, num_slots, self._cache, **options)
        logits_BTV = logits_BTV.to(lm.device, torch.float32)
        if last_logits_only:
            kept = torch.tensor([last_T.index(len(draft) - 1) for draft in drafts], device=logits_BTV.device)
            logits_BTV = logits_BTV[torch.arange(len(drafts), device=logits_BTV.device), kept][:, None]
        self._advance(drafts)
        return logits_BTV, hidden_BTD.to(lm.device)

    def _advance(self, drafts: Sequence[Sequence[int]]) -> None:
        self._lengths = [length + len(draft) for length, draft in zip(self._lengths, drafts, strict=True)]


class _ForwardStoppedError(Exception):
    """Raised inside a forward once the wanted hidden state is known."""


class _Captured:
    """The hidden state that one forward showed."""

    def __init__(self, stop_forward: bool) -> None:
        self.stop_forward = stop_forward
        self.tensor: Tensor | None = None

    def hidden(self, batch: int, length: int) -> Tensor:
        """Return it as ``[B, T, D]``; some feed-forward blocks see it with the first two axes merged."""
        if self.tensor is None:
            raise UnsupportedModelError("the model's forward did not pass through its key layer")
        return self.tensor.reshape(batch, length, -1)


class _HiddenStateTap:
    """One forward pre-hook that hands a module's input to the thread that asked for it."""

    def __init__(self, module: nn.Module) -> None:
        self._requests = threading.local()
        module.register_forward_pre_hook(self._hook, with_kwargs=True)

    @contextmanager
    def capture(self, *, stop_forward: bool = False) -> Iterator[_Captured]:
        """Capture the module's input during the block; with ``stop_forward`` nothing behind the module runs."""
        self._requests.current = captured = _Captured(stop_forward)
        try:
            yield captured
        except _ForwardStoppedError:
            pass
        finally:
            self._requests.current = None

    def _hook(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        captured = getattr(self._requests, "current", None)
        if captured is None:
            return
        captured.tensor = args[0] if args else kwargs["hidden_states"]
        if captured.stop_forward:
            raise _ForwardStoppedError


def _split_by(tp_plan: str | dict[str, str]) -> dict[str, Any]:
    """Return the arguments by which this release of transformers splits a model over processes."""
    if "tp_plan" in DistributedConfig.__dataclass_fields__:
        return {"distributed_config": DistributedConfig(tp_plan=tp_plan)}
    return {"tp_plan": tp_plan}  # the first releases of transformers 5


def _whole_weight(model: PreTrainedModel, name: str, parameter: nn.Parameter) -> Tensor:
    """Return a weight wherever it is; where processes hold parts of it, all of them have to ask for it."""
    if parameter.is_meta:  # offloaded
        from accelerate.utils import align_module_device

        path, _, leaf = name.rpartition(".")
        module = model.get_submodule(path)
        with align_module_device(module):
            return cast(Tensor, getattr(module, leaf)).detach()
    weight: Any = parameter.detach()
    return cast(Tensor, weight.full_tensor() if hasattr(weight, "full_tensor") else weight)  # a DTensor has it


def _require_supported(model: PreTrainedModel, config: Any) -> None:
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise UnsupportedModelError(f"{name} is an encoder-decoder; NEST needs a decoder-only causal language model")
    other_layers = set(getattr(config, "layer_types", None) or ()) - _PLAIN_LAYERS
    if other_layers:
        raise UnsupportedModelError(
            f"{name} has {', '.join(sorted(other_layers))} layers, whose state cannot be cut back to the accepted "
            "tokens after a rejected draft; use a model with attention layers only"
        )
    implementation = config._attn_implementation
    if implementation not in _MASKED_ATTENTION:
        raise UnsupportedModelError(
            f"attention implementation {implementation!r} takes no explicit mask, which rows of different length "
            f"need; load {name} with attn_implementation='sdpa' or 'eager'"
        )


def _require_one_device(model: PreTrainedModel) -> None:
    devices = sorted({str(parameter.device) for parameter in model.parameters()})
    if len(devices) > 1 or "meta" in devices:
        raise ConfigError(
            f"static_cache=True needs the whole model on one device; it is on {', '.join(devices)}: load it with "
            "device= instead of device_map=, or without static_cache"
        )


def _require_fitting_vocabulary(model: PreTrainedModel, tokenizer: TextTokenizer) -> None:
    embeddings = cast(nn.Embedding, model.get_input_embeddings())
    if len(tokenizer) > embeddings.num_embeddings:
        raise UnsupportedModelError(
            f"the tokenizer has {len(tokenizer)} tokens and {type(model).__name__} embeds {embeddings.num_embeddings}: "
            "they do not belong together, or the model's embeddings must be resized"
        )


def _attention_windows(config: Any) -> dict[str, int | None]:
    """Return the kinds of attention layers and their sliding windows (None: unlimited)."""
    window = getattr(config, "sliding_window", None)
    kinds = sorted(set(getattr(config, "layer_types", None) or ()) & _PLAIN_LAYERS)
    if not kinds:
        kinds = ["sliding_attention" if window else "full_attention"]
    return {kind: window if kind == "sliding_attention" else None for kind in kinds}


def _decoder_layers(model: PreTrainedModel, num_layers: int) -> nn.ModuleList:
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == num_layers:
            return module
    raise UnsupportedModelError(f"{type(model).__name__} has no list of {num_layers} decoder layers")


def _key_module(last_layer: nn.Module, key_layer: str) -> nn.Module:
    if key_layer == "penultimate":
        return last_layer
    if key_layer != "ffn_input":
        raise ConfigError(f"key_layer={key_layer!r} is not valid: expected 'ffn_input' or 'penultimate'")
    for name in _FEED_FORWARD_NAMES:
        module = getattr(last_layer, name, None)
        if isinstance(module, nn.Module):
            return module
    raise UnsupportedModelError(
        f"{type(last_layer).__name__} has no feed-forward block named {', '.join(_FEED_FORWARD_NAMES)}; "
        "use key_layer='penultimate'"
    )


def _padded(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Return rows as one tensor ``[B, T]``, padded at the end with token 0."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)


def _batches_by_size(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Yield row numbers, grouped so that rows of a batch have similar length and hold few padding tokens."""
    batch: list[int] = []
    for number in sorted(range(len(sizes)), key=sizes.__getitem__):
        if batch and (len(batch) + 1) * sizes[number] > _ENCODE_TOKENS:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
