"""A model whose layers are split over processes: process 0 decides, the others follow.

    # In every process that torchrun has started:
    engine = NestEngine.from_pretrained("...", tp_plan="auto")
    if engine.language_model.rank > 0:
        engine.language_model.follow()  # until process 0 ends
    else:
        print(engine.ask("...").text)

transformers splits the weights; from then on a forward pass needs all processes at once. Process 0
runs the engine as on one device. Before each forward pass it tells the others what to read, and
what has become of its sessions since the last one, and they do the same. Whatever depends on chance
or on time (samples, acceptance, draft lengths) it alone decides.
"""

from __future__ import annotations

import atexit
import itertools
import os
import signal
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from nest_engine.errors import ConfigError, DecodingError, UnsupportedModelError
from nest_engine.models.huggingface import HuggingFaceLanguageModel, HuggingFaceSession, KeyLayer
from nest_engine.models.requirements import require_attention_only

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from typing_extensions import Self

T = TypeVar("T")

_IDLE = timedelta(days=365)  # how long process 0 may have nothing to say
_PATIENCE = timedelta(seconds=10)  # how long a failed process waits for the others to report, too


class Step(NamedTuple):
    """What process 0 does and the others repeat.

    Args:
        name: ``read`` rows of passages, ``open`` or ``drop`` a session, or a session's method.
        session: number of the session; None for ``read``.
        arguments: numbers, and sequences of them.
    """

    name: str
    session: int | None
    arguments: tuple[Any, ...] = ()


class TensorParallelLanguageModel(HuggingFaceLanguageModel):
    """A model of transformers that is split over processes.

    Every process makes one, at the same time. Process 0 then reads with it, the others
    :meth:`follow`.

    Args:
        model: this process's part of the model.
        tokenizer: as for ``HuggingFaceLanguageModel``.
        key_layer: as for ``HuggingFaceLanguageModel``.

    Attributes:
        rank: number of this process, from 0.

    Raises:
        ConfigError: if there is only one process, or the processes hold a split model already.
        UnsupportedModelError: if the processes cannot share the attention heads equally; otherwise
            as for ``HuggingFaceLanguageModel``.
    """

    # None while the model is checked: all processes do the same without being told.
    _processes: _Processes | None = None
    _is_in_use: ClassVar[bool] = False  # processes that follow one model cannot hear of another

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        key_layer: KeyLayer = "ffn_input",
    ) -> None:
        _require_processes()
        _require_no_other(type(self)._is_in_use)
        _require_equal_shares(model, dist.get_world_size())
        require_attention_only(model, model.config.get_text_config(decoder=True))
        super().__init__(model, tokenizer, key_layer=key_layer, prompt_cache=0)
        self.rank = dist.get_rank()
        _ = self.fingerprint  # now, while every process is here to bring its part of the weights
        self._processes = _Processes()
        self._session_numbers = itertools.count()
        self._steps: deque[Step] = deque()  # done here since the last forward pass
        TensorParallelLanguageModel._is_in_use = True

    @classmethod
    def from_pretrained(cls, model_id: str, **options: Any) -> Self:
        """Load this process's part of a model; arguments as for ``HuggingFaceLanguageModel``."""
        _require_processes()
        _require_no_other(cls._is_in_use)
        if "distributed_config" not in options:
            options.setdefault("tp_plan", "auto")
        return super().from_pretrained(model_id, **options)

    @torch.inference_mode()
    def follow(self) -> None:
        """Repeat the forward passes of process 0 until it ends or closes its model.

        In the main thread, Ctrl-C and SIGTERM are ignored meanwhile: torchrun passes them on to all
        processes, and process 0 may have answers to finish.

        Raises:
            ConfigError: in process 0, which has nobody to follow.
            DecodingError: if process 0 is killed, or a forward pass fails in only some processes.
        """
        sessions: dict[int | None, HuggingFaceSession] = {}
        assert self._processes is not None
        with _ignoring(signal.SIGINT, signal.SIGTERM):
            self._processes.follow(lambda steps: self._repeat(steps, sessions))
        TensorParallelLanguageModel._is_in_use = False

    def close(self) -> None:
        """Let the other processes return from :meth:`follow`, as they do when process 0 ends."""
        assert self._processes is not None
        self._processes.release()
        TensorParallelLanguageModel._is_in_use = False

    def _repeat(
        self, steps: Sequence[Step], sessions: dict[int | None, HuggingFaceSession]
    ) -> None:
        for name, number, arguments in steps:
            if name == "read":
                super()._read(*arguments)
            elif name == "open":
                sessions[number] = cast(HuggingFaceSession, super()._open_session(*arguments))
            elif name == "drop":
                sessions.pop(number, None)
            elif name == "join":
                sessions[number].join(sessions[arguments[0]])
            else:
                getattr(sessions[number], name)(*arguments)

    def _read(self, rows: list[tuple[int, ...]]) -> Tensor:
        return self._lead(
            Step("read", None, (rows,)), lambda: HuggingFaceLanguageModel._read(self, rows)
        )

    def _open_session(self, num_rows: int) -> HuggingFaceSession:
        return _LeadingSession(self, num_rows)

    def _lead(self, step: Step, forward: Callable[[], T]) -> T:
        """Run a forward pass in all processes; return what it gives here."""
        if self._processes is None:
            return forward()
        return self._processes.lead(self._steps, step, forward)


class _LeadingSession(HuggingFaceSession):
    """A session of process 0, which the others repeat."""

    def __init__(self, language_model: TensorParallelLanguageModel, num_rows: int) -> None:
        super().__init__(language_model._new_cache(), num_rows)
        self._leader = language_model
        self._number = next(language_model._session_numbers)
        self._note("open", num_rows)
        weakref.finalize(
            self, language_model._steps.append, Step("drop", self._number)
        ).atexit = False

    def forward(
        self, drafts: Sequence[Sequence[int]], last_logits_only: bool = False
    ) -> tuple[Tensor, Tensor]:
        step = Step("forward", self._number, (drafts, last_logits_only))
        return self._leader._lead(
            step, lambda: HuggingFaceSession.forward(self, drafts, last_logits_only)
        )

    def truncate(self, lengths: Sequence[int]) -> None:
        super().truncate(lengths)
        self._note("truncate", lengths)

    def keep(self, rows: Sequence[int]) -> None:
        super().keep(rows)
        self._note("keep", rows)

    def join(self, other: HuggingFaceSession) -> None:
        super().join(other)
        assert isinstance(other, _LeadingSession)
        self._note("join", other._number)

    def _note(self, name: str, *arguments: Any) -> None:
        self._leader._steps.append(Step(name, self._number, arguments))


class _Processes:
    """The processes that share a model: what the first tells the others, how they stay in step."""

    def __init__(self) -> None:
        self._rank, self._size = dist.get_rank(), dist.get_world_size()
        # Beside the model's own group: process 0 may be silent for long, and its messages are not
        # for GPUs.
        self._group = dist.new_group(backend="gloo", timeout=_IDLE)
        self._store = self._group.get_group_store()
        self._num_forwards = 0
        self._leading = threading.Lock()  # the others can repeat one forward at a time
        self._are_following = True
        atexit.register(self._end)

    def lead(self, earlier: deque[Step], step: Step, forward: Callable[[], T]) -> T:
        """Tell the others what has been done and what to do now, and do it here, too.

        Args:
            earlier: what has been done since the last call; emptied.
            step: the forward pass.
            forward: runs it here.

        Returns:
            what the forward pass gives here.

        Raises:
            ConfigError: in a process that has to follow.
            DecodingError: if the others no longer follow.
            Exception: what the forward pass fails with in every process; the next one can run.
        """
        if self._rank > 0:
            raise ConfigError(
                f"process {self._rank} of {self._size} follows process 0: call "
                "language_model.follow() here, and ask in process 0"
            )
        with self._leading:
            if not self._are_following:
                raise DecodingError(
                    f"the other {self._size - 1} processes of the model do not follow any more: it "
                    "was closed, or a forward pass has failed in some of them; start all processes "
                    "anew"
                )
            steps = [earlier.popleft() for _ in range(len(earlier))]
            self._num_forwards += 1
            try:
                dist.broadcast_object_list([[*steps, step]], src=0, group=self._group)
                return forward()
            except Exception as error:
                self._require_failure_everywhere(error)
                raise
            except BaseException:  # interrupted while the others are somewhere in the forward pass
                self._lose_step()
                raise

    def release(self) -> None:
        """Let the others return from :meth:`follow`."""
        with self._leading:
            if self._rank == 0 and self._are_following and dist.is_initialized():
                self._are_following = False
                with suppress(RuntimeError):  # they have ended already
                    dist.broadcast_object_list([None], src=0, group=self._group)

    def follow(self, repeat: Callable[[Sequence[Step]], None]) -> None:
        """Repeat what process 0 does until it releases the others.

        Args:
            repeat: repeats the steps up to a forward pass, and that.

        Raises:
            ConfigError: in process 0.
            DecodingError: if process 0 is killed, or a forward pass fails in only some processes.
        """
        if self._rank == 0:
            raise ConfigError(f"process 0 of {self._size} leads: follow() is for the others")
        while (steps := self._hear()) is not None:
            self._num_forwards += 1
            try:
                repeat(steps)
            except Exception as error:
                self._require_failure_everywhere(error)

    def _end(self) -> None:
        """Leave in order when the interpreter ends."""
        self.release()
        # transformers has made the group, and nothing else destroys it.
        if dist.is_initialized():
            dist.destroy_process_group()

    def _lose_step(self) -> None:
        """Stop talking to the others, even at exit: waiting for them might never end."""
        self._are_following = False
        atexit.unregister(self._end)

    def _hear(self) -> list[Step] | None:
        heard: list[list[Step] | None] = [None]
        try:
            dist.broadcast_object_list(heard, src=0, group=self._group)
        except RuntimeError as error:
            self._lose_step()
            raise DecodingError(
                f"process 0 of {self._size} has ended without a word ({error})"
            ) from error
        return heard[0]

    def _require_failure_everywhere(self, error: Exception) -> None:
        """Require that a forward pass has failed in all processes, which leaves them in step.

        Where one fails alone, the others wait for its part of the result and notice once it has
        ended.

        Args:
            error: what it failed with here.

        Raises:
            DecodingError: if not all have failed, or one only because another had ended; says which
                failed first.
        """
        failed, alone = f"{self._num_forwards}/failed/", f"{self._num_forwards}/alone"
        first = f"process {self._rank} of {self._size}: {type(error).__name__}: {error}"
        try:
            self._store.set(f"{failed}{self._rank}", first)
            self._store.wait([f"{failed}{rank}" for rank in range(self._size)], _PATIENCE)
            if not self._store.check([alone]):
                return
            first = self._store.get(alone).decode()
        except RuntimeError:  # one has reported nothing, or the store is gone with its process
            with suppress(RuntimeError):
                silent = [
                    rank for rank in range(self._size) if not self._store.check([f"{failed}{rank}"])
                ]
                if self._rank == 0 and silent:
                    first += (
                        f"; nothing was heard from process {', '.join(map(str, silent))}: was it "
                        "killed, or does it not call language_model.follow()?"
                    )
                self._store.set(alone, first)
        self._lose_step()
        raise DecodingError(
            f"a forward pass has failed in some of {self._size} processes, which are out of step "
            f"now; start all of them anew. First to fail was {first}"
        ) from error


@contextmanager
def _ignoring(*signals: signal.Signals) -> Iterator[None]:
    """Ignore signals during the block, if this is the main thread: no other can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [(number, signal.signal(number, signal.SIG_IGN)) for number in signals]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _require_processes() -> None:
    """Raise ``ConfigError`` unless this is one of several processes."""
    size = dist.get_world_size() if dist.is_initialized() else int(os.environ.get("WORLD_SIZE", 1))
    if size < 2:
        raise ConfigError(
            "tp_plan splits a model over several processes and this is the only one: start as many "
            "as there are devices, `torchrun --nproc-per-node 2 script.py`, or leave tp_plan out"
        )


def _require_no_other(is_in_use: bool) -> None:
    """Raise ``ConfigError`` if the processes hold a split model already: two would deadlock."""
    if is_in_use:
        raise ConfigError(
            "these processes hold a split model already, and follow that one; close it first "
            "(engine.language_model.close()), or start other processes"
        )


def _require_equal_shares(model: PreTrainedModel, num_processes: int) -> None:
    heads = getattr(model.config.get_text_config(decoder=True), "num_key_value_heads", None)
    splits_heads = any(name.endswith("k_proj") for name in model.tp_plan)
    if splits_heads and heads and heads % num_processes:
        raise UnsupportedModelError(
            f"{type(model).__name__} has {heads} key-value heads, which {num_processes} processes "
            f"cannot share equally; start a number of processes that divides {heads}"
        )
