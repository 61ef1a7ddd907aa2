"""Citations in LlamaIndex's instrumentation: an event for every answer, and a collector."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any
from uuid import uuid4

from llama_index.core.bridge.pydantic import Field, PrivateAttr, field_serializer
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.dispatcher import active_instrument_tags, instrument_tags
from llama_index_instrumentation.event_handlers import BaseEventHandler
from pydantic import InstanceOf

from nest_engine import CitedAnswer, NestOutput
from nest_engine.citations.formats import json_ready
from nest_integrations.llama_index.nodes import NodeCitation

_TAG = "nest_collectors"


class NestCitationEvent(BaseEvent):
    """The model has answered; the event of a stream comes when it ends or is closed.

    Args:
        output: the answer, its citations, what it cost. Serialized, it is a plain dict without the
            passages.
    """

    output: InstanceOf[NestOutput] | InstanceOf[CitedAnswer]

    @property
    def text(self) -> str:
        """The answer."""
        return self.output.text

    @property
    def citations(self) -> list[NodeCitation]:
        """What it quotes."""
        return list(self.output.citations)  # type: ignore[arg-type]

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the event."""
        return "NestCitationEvent"

    @field_serializer("output")
    def _plain_output(self, output: NestOutput | CitedAnswer) -> dict[str, Any]:
        return plain(output)


class CitationCollector(BaseEventHandler):
    """Collect the answers given inside a ``with`` block, by this thread or task and what it starts.

    with CitationCollector() as cited:
        chat_engine.chat("Who discovered helium?")
    cited.citations
    """

    events: list[NestCitationEvent] = Field(default_factory=list)
    _exit: ExitStack = PrivateAttr(default_factory=ExitStack)
    _id: str = PrivateAttr(default_factory=lambda: str(uuid4()))

    @property
    def outputs(self) -> list[NestOutput | CitedAnswer]:
        """The answers, in the order in which they finished."""
        return [event.output for event in self.events]

    @property
    def citations(self) -> list[NodeCitation]:
        """The citations of all answers; offsets count in the answer that quotes."""
        return [citation for event in self.events for citation in event.citations]

    @classmethod
    def class_name(cls) -> str:
        """Return the name of the handler."""
        return "CitationCollector"

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        """Keep an answer that was given inside the block."""
        if isinstance(event, NestCitationEvent) and self._id in event.tags.get(_TAG, ()):
            self.events.append(event)

    def __enter__(self) -> CitationCollector:
        # Tags follow the caller into tasks and threads: no answer of another request is collected.
        tags = active_instrument_tags.get()
        self._exit.enter_context(instrument_tags({**tags, _TAG: (*tags.get(_TAG, ()), self._id)}))
        get_dispatcher().add_event_handler(self)
        self._exit.callback(self._leave)
        return self

    def __exit__(self, *exception: object) -> None:
        self._exit.close()

    def _leave(self) -> None:
        root = get_dispatcher()
        root.event_handlers = [handler for handler in root.event_handlers if handler is not self]


def plain(output: NestOutput | CitedAnswer) -> dict[str, Any]:
    """Return an answer in JSON's types, without its passages."""
    answer = output.to_dict()
    del answer["passages"]
    return json_ready(answer)  # type: ignore[no-any-return]
