"""What the scheduler knows about one request."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nest_engine.generation.request import Request
    from nest_engine.generation.run import Decoding
    from nest_engine.serving.pending_answer import PendingAnswer


class State(Enum):
    """Where a request stands."""

    PREPARING = auto()  # a thread of the pool searches, reads new passages and tokenizes
    READY = auto()  # waits for a place in the batch
    RUNNING = auto()  # in the batch
    CANCELLED = auto()  # in the batch, and ends before the next step
    FINISHED = auto()  # answered, failed or cancelled


@dataclass(eq=False)
class ScheduledRequest:
    """A submitted request.

    Args:
        answer: what the caller reads.
        state: where the request stands.
        request: passages and tokens, from ``READY`` on.
        decoding: its place in the batch, once its prompt has been read.
    """

    answer: PendingAnswer
    state: State = State.PREPARING
    request: Request | None = None
    decoding: Decoding | None = None
