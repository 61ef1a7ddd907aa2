"""llama.cpp's C interface: what the rest of this room needs of it, as Python and NumPy values.

Whatever a release of llama.cpp or llama-cpp-python may change is called here and nowhere else.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nest_engine._optional import require
from nest_engine.errors import DecodingError, ModelLoadError, UnsupportedModelError

MAX_BATCH = 512
"""Most tokens of one call: all of them are computed together, in the order given."""

_NO_ROOM = 1  # what ``llama_decode`` returns when the memory has no place for the tokens
_ERROR = 4  # of ggml_log_level
_MOST_BYTES_OF_A_TOKEN = 256  # at first; longer ones are asked for again

log = logging.getLogger("nest_engine.llama_cpp")
_errors: deque[str] = deque(maxlen=4)
_loading = threading.Lock()


def bindings() -> Any:
    """Return the module of llama-cpp-python that declares the C interface.

    From then on llama.cpp's messages go to Python's logging, for the whole process.

    Raises:
        MissingDependencyError: if llama-cpp-python is not installed.
    """
    with _loading:
        return _bindings()


@cache
def _bindings() -> Any:
    require("llama_cpp", "llama-cpp-python", "llama-cpp")
    from llama_cpp import llama_cpp

    llama_cpp.llama_log_set(_log_callback(), ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    return llama_cpp


@cache
def _log_callback() -> Any:
    """Return what hands llama.cpp's messages to Python's logging, and remembers the errors."""
    from llama_cpp import llama_cpp

    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
    def callback(level: int, text: bytes, _: object) -> None:
        message = text.decode("utf-8", "replace").strip()
        if level == _ERROR:
            _errors.append(message)
        # What goes wrong is raised; a program that uses NEST asks for the rest.
        log.debug(message)

    return callback


@cache
def _ggml() -> ctypes.CDLL:
    """Return the library that knows what a tensor is."""
    from llama_cpp._ctypes_extensions import load_shared_library

    llama = bindings()
    folder = getattr(llama, "_base_path", Path(llama.__file__).parent / "lib")
    ggml: ctypes.CDLL = load_shared_library("ggml-base", folder)
    ggml.ggml_nbytes.argtypes = [ctypes.c_void_p]
    ggml.ggml_nbytes.restype = ctypes.c_size_t
    ggml.ggml_backend_tensor_get.argtypes = [
        *(ctypes.c_void_p, ctypes.c_void_p),
        *(ctypes.c_size_t, ctypes.c_size_t),
    ]
    ggml.ggml_backend_tensor_get.restype = None
    return ggml


class LlamaModel:
    """A GGUF file in memory.

    Args:
        file: the file.
        n_gpu_layers: layers on the GPU, where llama.cpp was built for one; None: all.

    Raises:
        ModelLoadError: if llama.cpp cannot load it; the message says what it said.
    """

    def __init__(self, file: Path, n_gpu_layers: int | None = None) -> None:
        llama = bindings()
        parameters = llama.llama_model_default_params()
        if n_gpu_layers is not None:
            parameters.n_gpu_layers = n_gpu_layers
        _errors.clear()
        self.pointer = llama.llama_model_load_from_file(os.fsencode(file), parameters)
        if not self.pointer:
            said = "; ".join(_errors) or "it does not say why"
            raise ModelLoadError(f"llama.cpp cannot load the GGUF file {file}: {said}")
        self._free = weakref.finalize(self, llama.llama_model_free, self.pointer)
        # At the end of the program ``Memory`` closes it, after its context.
        self._free.atexit = False
        self.vocab = llama.llama_model_get_vocab(self.pointer)
        self.num_layers = int(llama.llama_model_n_layer(self.pointer))
        self.width = int(llama.llama_model_n_embd(self.pointer))
        self.num_tokens = int(llama.llama_vocab_n_tokens(self.vocab))
        self.trained_context = int(llama.llama_model_n_ctx_train(self.pointer))
        self.window = int(llama.llama_model_n_swa(self.pointer))
        """Tokens that layers with a sliding window look back; 0 if there are none."""
        if llama.llama_vocab_type(self.vocab) == llama.LLAMA_VOCAB_TYPE_NONE:
            raise UnsupportedModelError(f"{file.name} brings no tokenizer")
        self._control = llama.LLAMA_TOKEN_ATTR_CONTROL
        self.keeps_a_state = bool(
            llama.llama_model_is_recurrent(self.pointer)
            or llama.llama_model_is_hybrid(self.pointer)
        )
        self.can_decode = bool(llama.llama_model_has_decoder(self.pointer)) and not bool(
            llama.llama_model_has_encoder(self.pointer)
            or llama.llama_model_is_diffusion(self.pointer)
        )

    def close(self) -> None:
        """Give the weights back."""
        self._free()

    @property
    def chat_template(self) -> str | None:
        """The file's chat template, in Jinja."""
        text = bindings().llama_model_chat_template(self.pointer, None)
        return text.decode() if text else None

    @property
    def bos(self) -> int | None:
        """The token that may begin a text."""
        return self._if_control(bindings().llama_vocab_bos(self.vocab))

    @property
    def eos(self) -> int | None:
        """The token that may end a text."""
        return self._if_control(bindings().llama_vocab_eos(self.vocab))

    @property
    def adds_bos(self) -> bool:
        """Whether texts begin with that token."""
        return self.bos is not None and bool(bindings().llama_vocab_get_add_bos(self.vocab))

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end an answer."""
        is_end = bindings().llama_vocab_is_eog
        ends = (token for token in range(self.num_tokens) if is_end(self.vocab, token))
        return frozenset(token for token in ends if self._if_control(token) is not None)

    def metadata(self, name: str) -> str | None:
        """Return what the file says of its architecture, such as its ``context_length``."""
        return self._text(f"{self._text('general.architecture')}.{name}")

    def _text(self, key: str) -> str | None:
        buffer = ctypes.create_string_buffer(_MOST_BYTES_OF_A_TOKEN)
        length = bindings().llama_model_meta_val_str(
            self.pointer, key.encode(), buffer, len(buffer)
        )
        return buffer.value.decode("utf-8", "replace") if length >= 0 else None

    def _if_control(self, token: int) -> int | None:
        """Return a token if it is a control token.

        Where a file names none, llama.cpp takes one that means something else in its vocabulary.
        """
        if token < 0:
            return None
        is_control = bindings().llama_vocab_get_attr(self.vocab, token) & self._control
        return int(token) if is_control else None

    def attributes(self) -> NDArray[np.int32]:
        """Return the attributes of each token, ``llama_token_attr``: ``[V]``."""
        attribute = bindings().llama_vocab_get_attr
        return np.fromiter(
            (attribute(self.vocab, token) for token in range(self.num_tokens)), np.int32
        )

    def pieces(self) -> list[bytes]:
        """Return the text of each token, control tokens as they are written."""
        to_piece = bindings().llama_token_to_piece
        buffer = ctypes.create_string_buffer(_MOST_BYTES_OF_A_TOKEN)
        pieces = []
        for token in range(self.num_tokens):
            length = to_piece(self.vocab, token, buffer, len(buffer), 0, True)
            if length < 0:
                buffer = ctypes.create_string_buffer(-length)
                length = to_piece(self.vocab, token, buffer, len(buffer), 0, True)
            pieces.append(buffer.raw[:length])
        return pieces

    def tokenize(self, text: bytes, *, control: bool) -> list[int]:
        """Return the tokens of a text, without a token that begins it.

        Args:
            text: UTF-8.
            control: whether control strings are control tokens.
        """
        tokenize = bindings().llama_tokenize
        tokens = (ctypes.c_int32 * (len(text) + 8))()
        count = tokenize(self.vocab, text, len(text), tokens, len(tokens), False, control)
        if count < 0:  # more tokens than bytes
            tokens = (ctypes.c_int32 * -count)()
            count = tokenize(self.vocab, text, len(text), tokens, len(tokens), False, control)
        return list(tokens[:count])


class Row(NamedTuple):
    """Tokens to read behind those of a sequence.

    Args:
        sequence: number of the sequence.
        start: tokens that the sequence holds.
        token_ids: the tokens.
        num_logits: behind how many of the last of them logits are wanted.
    """

    sequence: int
    start: int
    token_ids: Sequence[int]
    num_logits: int


class NoRoomError(Exception):
    """Raised when the memory of a context has no place for more tokens."""


class LlamaContext:
    """Sequences of tokens that a model has read, in one memory. Not safe to share between threads.

    Args:
        model: the model.
        num_cells: tokens that the memory has place for; at least ``MAX_BATCH``.
        num_sequences: sequences that it may hold.
        num_threads: CPU threads that compute.
        cache_type: ``ggml_type`` of keys and values.
        flash_attn: whether attention is computed in blocks.

    Raises:
        ModelLoadError: if the memory cannot be had.
        UnsupportedModelError: if the model does not show its last layer's input.
    """

    def __init__(
        self,
        model: LlamaModel,
        *,
        num_cells: int,
        num_sequences: int,
        num_threads: int,
        cache_type: int,
        flash_attn: bool,
    ) -> None:
        llama = bindings()
        self._model = model
        self.num_cells = num_cells
        self.num_sequences = num_sequences
        self._batch = _Batch()
        self._tap = _Tap(f"l_out-{model.num_layers - 2}", model.width)
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = num_cells
        parameters.n_batch = parameters.n_ubatch = MAX_BATCH
        parameters.n_seq_max = num_sequences
        parameters.n_threads = parameters.n_threads_batch = num_threads
        parameters.type_k = parameters.type_v = cache_type
        parameters.flash_attn_type = (
            llama.LLAMA_FLASH_ATTN_TYPE_ENABLED
            if flash_attn
            else llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        parameters.kv_unified = True  # rows share the memory, and one forward
        # What a sliding window has left behind stays while there is room.
        parameters.swa_full = True
        parameters.no_perf = True
        parameters.cb_eval = self._tap.callback
        _errors.clear()
        self.pointer = llama.llama_init_from_model(model.pointer, parameters)
        if not self.pointer:
            raise ModelLoadError(
                f"llama.cpp cannot make a memory for {num_cells} tokens: "
                f"{'; '.join(_errors) or 'it does not say why'}; ask for fewer answers at a time, "
                "or for shorter texts"
            )
        # The model stays until then.
        self._free = weakref.finalize(self, _free_context, self.pointer, model)
        self._free.atexit = False
        self._memory = llama.llama_get_memory(self.pointer)

    def close(self) -> None:
        """Give the memory back."""
        self._free()

    def read(
        self, rows: Sequence[Row], *, stop_at_hidden: bool = False
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Read tokens: at most ``MAX_BATCH``, in one forward.

        Args:
            rows: what to read.
            stop_at_hidden: whether to stop where hidden states are known; no logits are wanted
                of such a sequence, then or later.

        Returns:
            logits of all rows in order, ``[tokens with logits, V]``, and hidden states
            ``[tokens, D]``.

        Raises:
            NoRoomError: if the memory has no place; nothing was read.
        """
        if not self._free.alive:
            raise DecodingError("the model has been closed")
        llama = bindings()
        num_tokens, num_logits = self._batch.fill(rows)
        _errors.clear()
        self._tap.begin(num_tokens, stop=stop_at_hidden)
        status = llama.llama_decode(self.pointer, self._batch.struct)
        if self._tap.error is not None:
            raise self._tap.error
        if status == _NO_ROOM:
            raise NoRoomError
        if status != 0:
            raise DecodingError(
                f"llama.cpp cannot read {num_tokens} tokens (llama_decode returns {status}): "
                + "; ".join(_errors)
            )
        hidden_TD = self._tap.hidden_TD
        if hidden_TD is None:
            raise UnsupportedModelError(
                f"llama.cpp computes no {self._tap.name!r} for this architecture, which is where "
                "NEST looks for the last layer's input; load the model with transformers "
                "(backend='transformers')"
            )
        logits_TV = np.empty((0, self._model.num_tokens), np.float32)
        if num_logits:
            found = llama.llama_get_logits(self.pointer)
            shape = (num_logits, self._model.num_tokens)
            logits_TV = np.ctypeslib.as_array(found, shape).copy()
        return logits_TV, hidden_TD

    def cut(self, sequence: int, length: int) -> bool:
        """Forget a sequence's tokens beyond ``length``; return whether that could be done."""
        if not self._free.alive:  # so is the sequence
            return True
        return bool(bindings().llama_memory_seq_rm(self._memory, sequence, length, -1))

    def first_position(self, sequence: int) -> int:
        """Return the first position of a sequence that all layers still hold."""
        return int(bindings().llama_memory_seq_pos_min(self._memory, sequence))

    def share(self, source: int, target: int, length: int) -> None:
        """Let a sequence begin with the first ``length`` tokens of another, in the same cells."""
        bindings().llama_memory_seq_cp(self._memory, source, target, 0, length)

    def state_size(self, sequence: int) -> int:
        """Return the bytes of a sequence's keys and values."""
        return int(bindings().llama_state_seq_get_size(self.pointer, sequence))

    def state(self, sequence: int) -> NDArray[np.uint8]:
        """Return the keys and values of a sequence, for another context of the same model."""
        data = np.empty(self.state_size(sequence), np.uint8)
        bindings().llama_state_seq_get_data(self.pointer, _bytes_of(data), data.size, sequence)
        return data

    def set_state(self, sequence: int, state: NDArray[np.uint8]) -> None:
        """Give a sequence the keys and values that another context had.

        Raises:
            NoRoomError: if the memory has no place for them.
        """
        llama = bindings()
        if not llama.llama_state_seq_set_data(self.pointer, _bytes_of(state), state.size, sequence):
            raise NoRoomError


def _free_context(pointer: Any, model: LlamaModel) -> None:
    """Free a context, and only then let go of its model."""
    bindings().llama_free(pointer)


def _bytes_of(array: NDArray[np.uint8]) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


class _Batch:
    """What ``llama_decode`` takes: arrays of ours, filled anew for each call."""

    def __init__(self) -> None:
        llama = bindings()
        self._tokens = np.zeros(MAX_BATCH, np.int32)
        self._positions = np.zeros(MAX_BATCH, np.int32)
        self._sequences = np.zeros(MAX_BATCH, np.int32)
        self._has_logits = np.zeros(MAX_BATCH, np.int8)
        # Each token names a list of the sequences that it belongs to: here of one.
        self._counts = np.ones(MAX_BATCH, np.int32)
        steps = np.arange(MAX_BATCH, dtype=np.uintp) * self._sequences.itemsize
        self._lists = np.uintp(self._sequences.ctypes.data) + steps
        int32 = ctypes.POINTER(ctypes.c_int32)
        self.struct = llama.llama_batch(
            n_tokens=0,
            token=self._tokens.ctypes.data_as(int32),
            pos=self._positions.ctypes.data_as(int32),
            n_seq_id=self._counts.ctypes.data_as(int32),
            seq_id=self._lists.ctypes.data_as(ctypes.POINTER(int32)),
            logits=self._has_logits.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def fill(self, rows: Sequence[Row]) -> tuple[int, int]:
        """Take the tokens of rows; return how many they are, and how many have logits."""
        end = num_logits = 0
        for row in rows:
            start, end = end, end + len(row.token_ids)
            self._tokens[start:end] = row.token_ids
            self._positions[start:end] = np.arange(row.start, row.start + end - start)
            self._sequences[start:end] = row.sequence
            self._has_logits[start:end] = 0
            self._has_logits[end - row.num_logits : end] = 1
            num_logits += row.num_logits
        self.struct.n_tokens = end
        return end, num_logits


class _Tap:
    """Reads one node of each forward's graph by its name.

    Args:
        name: of the node.
        width: of its rows.
    """

    def __init__(self, name: str, width: int) -> None:
        ggml = _ggml()
        self.name = name
        self.hidden_TD: NDArray[np.float32] | None = None
        self.error: BaseException | None = None
        self._width = width
        self._num_tokens = 0
        self._stop = False
        self.wanted = name.encode()
        # Called for each node: it does not let go of Python's lock to look at a name.
        name_of = ctypes.PyDLL(ggml._name, handle=ggml._handle).ggml_get_name
        name_of.argtypes, name_of.restype = [ctypes.c_void_p], ctypes.c_char_p

        @bindings().ggml_backend_sched_eval_callback  # type: ignore[untyped-decorator]
        def callback(tensor: int, is_question: bool, _: object) -> bool:
            try:
                if is_question:
                    return bool(name_of(tensor) == self.wanted)
                hidden_TD = np.empty((self._num_tokens, self._width), np.float32)
                if ggml.ggml_nbytes(tensor) == hidden_TD.nbytes:
                    ggml.ggml_backend_tensor_get(tensor, hidden_TD.ctypes.data, 0, hidden_TD.nbytes)
                    self.hidden_TD = hidden_TD
                return not self._stop
            except BaseException as error:  # Ctrl-C, too: C would swallow it
                self.error = error
                return False

        self.callback = callback

    def begin(self, num_tokens: int, *, stop: bool) -> None:
        """Expect a forward over so many tokens, which ends at the node if ``stop``."""
        self.hidden_TD = self.error = None
        self._num_tokens = num_tokens
        self._stop = stop
