"""A GGUF model that llama.cpp runs, behind the seam that the engine knows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nest_engine._validation import require_count
from nest_engine.errors import (
    ConfigError,
    DecodingError,
    UnsupportedModelError,
)
from nest_engine.interfaces import ForwardCost, Frontier, Prefill, TokenizedPassage
from nest_engine.models import forward_time
from nest_engine.models.batching import require_room
from nest_engine.models.llama_cpp import OPTIONS
from nest_engine.models.llama_cpp.known_prompts import PIECE, KnownPrompts
from nest_engine.models.llama_cpp.library import MAX_BATCH, LlamaModel, Row
from nest_engine.models.llama_cpp.memory import Memory
from nest_engine.models.llama_cpp.session import LlamaCppSession
from nest_engine.models.llama_cpp.tokenizer import LlamaCppTokenizer
from nest_engine.models.passage_reading import encode_passages
from nest_engine.models.prompt_cache import PROMPT_CACHE
from nest_engine.models.repository import REPOSITORY_ARGUMENTS, find_gguf

if TYPE_CHECKING:
    from typing_extensions import Self

CACHE_TYPES = {"f32": 0, "f16": 1, "bf16": 30}  # ggml_type
_TAKEN = OPTIONS | {"prompt_cache"}
_SHORTEST = 16  # tokens of a context
_ROWS = 8  # passages that are read together for their keys
_SAMPLES, _SAMPLE = 64, 2**16  # stretches of the file that its fingerprint reads, and their bytes


class LlamaCppLanguageModel:
    """A GGUF model, run by llama.cpp: with its quantized weights, on CPUs and GPUs.

    Keys and queries are the last layer's input (``penultimate``): llama.cpp shows a layer's input,
    but computes the last feed-forward block's for no more tokens than it needs logits of.

    Args:
        file: the GGUF file.
        n_ctx: most tokens of a text; None: those that the model was trained for.
        n_threads: CPU threads; None: as many as torch uses.
        n_gpu_layers: layers on the GPU, where llama.cpp was built for one; None: all.
        cache_type: number format of keys and values: ``f16``, ``bf16`` or ``f32``.
        flash_attn: compute attention in blocks, which pays for long texts on GPUs. Forwards over
            one token and over several then round differently, so that ``lm`` and ``lossless`` more
            often choose otherwise where two tokens are almost equally probable.
        prompt_cache: most bytes of what is kept of the beginnings of prompts, so that a prompt that
            begins like an earlier one is read from there on; 0 keeps nothing.

    Raises:
        MissingDependencyError: if llama-cpp-python is not installed.
        ModelLoadError: if llama.cpp cannot load the file.
        UnsupportedModelError: if NEST cannot decode with the model; the message says why.
        ConfigError: if an argument is not valid.
    """

    key_layer = "penultimate"

    def __init__(
        self,
        file: str | Path,
        *,
        n_ctx: int | None = None,
        n_threads: int | None = None,
        n_gpu_layers: int | None = None,
        cache_type: str = "f16",
        flash_attn: bool = False,
        prompt_cache: int | None = None,
    ) -> None:
        if cache_type not in CACHE_TYPES:
            raise ConfigError(
                f"cache_type={cache_type!r} is not valid: expected one of {', '.join(CACHE_TYPES)}"
            )
        prompt_cache = PROMPT_CACHE if prompt_cache is None else prompt_cache
        require_count("prompt_cache", prompt_cache, least=0)
        given = (
            ("n_ctx", n_ctx, _SHORTEST),
            ("n_threads", n_threads, 1),
            ("n_gpu_layers", n_gpu_layers, -1),
        )
        for name, count, least in given:
            if count is not None:
                require_count(name, count, least)
        if not isinstance(flash_attn, bool):
            raise ConfigError(f"flash_attn={flash_attn!r} is not valid: expected true or false")
        self.file = Path(file)
        self.name_or_path = self.file.stem
        self.device = torch.device("cpu")  # where logits and hidden states arrive
        self._model = LlamaModel(self.file, n_gpu_layers)
        if self._model.keeps_a_state or not self._model.can_decode:
            raise UnsupportedModelError(
                f"{self.file.name} is no decoder with attention in every layer, which can take "
                "drafts back; load it with transformers (backend='transformers')"
            )
        if self._model.num_layers < 2:
            raise UnsupportedModelError(f"{self.file.name} has fewer than two layers")
        trained = self._model.trained_context
        if n_ctx is not None and n_ctx > trained:
            raise ConfigError(
                f"n_ctx={n_ctx} is more than the {trained} tokens that {self.file.name} was "
                "trained for"
            )
        self.context_length = trained if n_ctx is None else n_ctx
        self.tokenizer = LlamaCppTokenizer(self._model)
        self.eos_ids = self._model.ends
        num_threads = n_threads or torch.get_num_threads()
        self._memory = Memory(
            self._model,
            num_threads=num_threads,
            cache_type=CACHE_TYPES[cache_type],
            flash_attn=flash_attn,
            longest=self.context_length,
            least=_least_cells(self._model),
        )
        self._settings = f"{cache_type} {flash_attn} {self.context_length} {self.key_layer}"
        self.execution = f"llama.cpp, {num_threads} threads, {n_gpu_layers} layers on the GPU"
        """What the time of a forward depends on, beside the file."""
        self._prompts = KnownPrompts(self._memory, prompt_cache) if prompt_cache else None
        self._require_cut_backs()

    @classmethod
    def from_pretrained(
        cls, model_id: str, *, key_layer: str | None = None, **options: Any
    ) -> Self:
        """Load a GGUF file, or a repository's.

        Args:
            model_id: the file; with ``gguf_file``, a folder or a hub id.
            key_layer: ``penultimate``, which is all there is.
            options: as for the class; ``gguf_file``, and what says where it is on the hub
                (``revision``, ``token``, ``cache_dir``, ``local_files_only``, ``subfolder``).

        Raises:
            ConfigError: if an option is none of llama.cpp's.
            ModelLoadError: if there is no such file, or llama.cpp cannot load it.
        """
        if key_layer not in (None, cls.key_layer):
            raise ConfigError(
                f"key_layer={key_layer!r} is not valid for llama.cpp: expected {cls.key_layer!r}"
            )
        place = {name: options.pop(name) for name in REPOSITORY_ARGUMENTS & options.keys()}
        if unknown := options.keys() - _TAKEN:
            raise ConfigError(
                f"{min(unknown)} is no option of llama.cpp, which takes "
                f"{', '.join(sorted(_TAKEN))}; load the model with transformers "
                "(backend='transformers')"
            )
        return cls(find_gguf(model_id, **place), **options)

    @cached_property
    def forward_cost(self) -> ForwardCost:
        """How the time of a forward grows with its tokens; measured once."""
        return forward_time.forward_cost(self)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of what keys depend on: the file (sampled), the cache's format, the key layer."""
        size = self.file.stat().st_size
        digest = hashlib.sha256(f"llama.cpp {self._settings} {size}".encode())
        with self.file.open("rb") as stream:
            for sample in range(_SAMPLES):
                stream.seek(sample * size // _SAMPLES)
                digest.update(stream.read(_SAMPLE))
        return digest.hexdigest()

    def encode(self, passages: Sequence[TokenizedPassage]) -> list[Tensor]:
        """Read passages, each by itself, and return the keys of their tokens.

        The forward stops at the key layer. A passage longer than the context is read in overlapping
        windows, every token seeing at least half of one.

        Args:
            passages: tokenized passages.

        Returns:
            for each passage, the hidden state before each of its tokens, ``[T, D]``; ``[T - 1, D]``
            when nothing precedes its first token.
        """
        no_keys = torch.empty(0, self._model.width)
        return encode_passages(passages, self._read, self.context_length, no_keys)

    def prefill(self, prompts: Sequence[Sequence[int]]) -> tuple[LlamaCppSession, list[Prefill]]:
        """Read prompts and open a session on them.

        Args:
            prompts: token ids of each prompt; at least one token each.

        Returns:
            the session, and for each prompt its frontier and hidden states.

        Raises:
            ContextOverflowError: if a prompt fills the context.
        """
        require_room(prompts, self.context_length)
        session = LlamaCppSession(self._memory)
        try:
            return session, [self._read_prompt(session, prompt) for prompt in prompts]
        except BaseException:
            session.keep([])  # at once, however long somebody keeps the error
            raise

    def forget_prompts(self) -> None:
        """Read the next prompt from its beginning, whatever came before: for fair measurements."""
        if self._prompts is not None:
            self._prompts.clear()

    def _require_cut_backs(self) -> None:
        """Read tokens, take some back and read others: as if the first had never been there.

        Raises:
            UnsupportedModelError: if that cannot be done, or gives other values.
        """
        tokens = [(7 * i + 3) % self._model.num_tokens for i in range(8)]
        try:
            session, _ = self.prefill([tokens[:4]])
            session.extend([[tokens[4], tokens[0], tokens[1]]])
            session.truncate([5])
            [found] = session.extend([tokens[5:]])
        except DecodingError as error:
            raise UnsupportedModelError(
                f"{self.file.name} takes no drafts back: {error}"
            ) from error
        whole, _ = self.prefill([tokens[:5]])
        [expected] = whole.extend([tokens[5:]])
        difference = (found.logits_TV - expected.logits_TV).abs().max()
        if not difference < 0.2 * expected.logits_TV.abs().max():
            raise UnsupportedModelError(
                f"llama.cpp gives other values for {self.file.name} once a draft was taken back: "
                "load it with transformers (backend='transformers')"
            )

    def _read_prompt(self, session: LlamaCppSession, prompt: Sequence[int]) -> Prefill:
        """Read a prompt into a new row, in pieces, behind the beginning that is known."""
        sequence = session.open()
        known_TD = self._prompts.begin(sequence, prompt) if self._prompts is not None else None
        hidden = [] if known_TD is None else [known_TD]
        num_known = sum(map(len, hidden))
        logits_TV = torch.empty(0)
        for start in range(num_known, len(prompt), PIECE):
            piece = prompt[start : start + PIECE]
            is_last = start + PIECE >= len(prompt)
            [(logits, states)] = self._memory.read([Row(sequence, start, piece, int(is_last))])
            logits_TV = torch.from_numpy(logits)
            hidden.append(torch.from_numpy(states))
        session.lengthen(-1, len(prompt))
        hidden_TD = torch.cat(hidden)
        if self._prompts is not None:
            self._prompts.keep(sequence, prompt, hidden_TD)
        return Prefill(Frontier(logits_TV[-1], hidden_TD[-1]), hidden_TD, num_known)

    def _read(self, rows: list[tuple[int, ...]]) -> list[Tensor]:
        """Return the hidden states ``[T, D]`` of each row."""
        return [
            hidden_TD
            for first in range(0, len(rows), _ROWS)
            for hidden_TD in self._read_together(rows[first : first + _ROWS])
        ]

    def _read_together(self, rows: Sequence[tuple[int, ...]]) -> list[Tensor]:
        sequences: list[int] = []
        try:
            for _ in rows:
                sequences.append(self._memory.open())
            found = self._memory.read(
                [Row(sequence, 0, row, 0) for sequence, row in zip(sequences, rows, strict=True)],
                stop_at_hidden=True,
            )
        finally:
            for sequence in sequences:
                self._memory.close(sequence)
        return [torch.from_numpy(hidden_TD) for _, hidden_TD in found]


def _least_cells(model: LlamaModel) -> int:
    """Return how many tokens the memory must have place for from the beginning.

    Models with long rotary factors (longrope) take them where the memory is larger than the context
    that they were first trained for. If it grew past that, what was read before would be wrong.
    """
    first_trained = model.metadata("rope.scaling.original_context_length")
    if first_trained is None or model.metadata("rope.scaling.type") in ("linear", "yarn"):
        return MAX_BATCH
    return int(first_trained) + MAX_BATCH
