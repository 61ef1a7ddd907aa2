"""What several tests need: a recording handler, models that wait or that read their prompt."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

pytest.importorskip("langchain_core", reason="needs: pip install 'nest-engine[langchain]'")

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.language_models import BaseLanguageModel

from nest_engine import NestEngine
from nest_engine.interfaces import Outputs, Prefill
from nest_engine.testing import EOS, ScriptedLanguageModel, ScriptedSession
from tests.tiny_models import tiny_tokenizer

SECONDS = 120.0  # more than anything here takes, on a busy machine too
PLAIN_TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'user' %}Question: {{ message.content "
    "}}\nAnswer:"
    "{% else %}{{ message.content }}\n{% endif %}{% endfor %}"
)
TOOL_TEMPLATE = (
    "{% if tools %}<tools>{% for tool in tools %}{{ tool | tojson }}{{ '\n' }}{% endfor "
    "%}</tools>{{ '\n' }}{% endif %}"
    "{% for message in messages %}[{{ message.role }}] {{ message.content }}"
    "{% for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson "
    "}}</tool_call>{% endfor %}"
    "{{ '\n' }}{% endfor %}[assistant] "
)


class Recorder(BaseCallbackHandler):
    """Writes down every event."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any, dict[str, Any]]] = []

    def named(self, name: str) -> list[tuple[str, Any, dict[str, Any]]]:
        return [event for event in self.events if event[0] == name]

    def count(self, name: str) -> int:
        return len(self.named(name))


class AsyncRecorder(AsyncCallbackHandler):
    """Writes down every event, from the event loop."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any, dict[str, Any]]] = []
        self.threads: set[int] = set()

    named = Recorder.named
    count = Recorder.count


def _record(name: str) -> Callable[..., None]:
    def method(self: Recorder, *args: Any, **kwargs: Any) -> None:
        self.events.append((name, args, kwargs))

    return method


def _arecord(name: str) -> Callable[..., Any]:
    async def method(self: AsyncRecorder, *args: Any, **kwargs: Any) -> None:
        self.threads.add(threading.get_ident())
        self.events.append((name, args, kwargs))

    return method


for _name in (
    "on_llm_start",
    "on_chat_model_start",
    "on_llm_new_token",
    "on_llm_end",
    "on_llm_error",
    "on_retriever_start",
    "on_retriever_end",
    "on_retriever_error",
    "on_custom_event",
    "on_stream_event",
):
    setattr(Recorder, _name, _record(_name))
    setattr(AsyncRecorder, _name, _arecord(_name))


class PacedModel(ScriptedLanguageModel):
    """Says x all the time, and does something before each forward."""

    def __init__(self, pace: Callable[[], object]) -> None:
        super().__init__("x" * 400)
        self.pace = pace

    def prefill(self, prompts: Sequence[Sequence[int]]) -> tuple[ScriptedSession, list[Prefill]]:
        session = PacedSession(self, [len(prompt) for prompt in prompts])
        outputs = session.extend(prompts)
        return session, [Prefill(output.frontier(-1), output.hidden_TD) for output in outputs]


class PacedSession(ScriptedSession):
    def extend(self, drafts: Sequence[Sequence[int]]) -> list[Outputs]:
        assert isinstance(self._model, PacedModel)
        self._model.pace()
        return super().extend(drafts)


class Gated(PacedModel):
    """Does so many forwards and waits for permits, so that a test knows where decoding stands."""

    def __init__(self, permits: int) -> None:
        super().__init__(self._wait)
        self.permits = threading.Semaphore(permits)
        self.num_begun = 0

    def _wait(self) -> None:
        self.num_begun += 1
        assert self.permits.acquire(timeout=SECONDS), "the test gave no permit"

    async def begins(self, number: int) -> None:
        """Wait until it has begun so many forwards."""
        deadline = time.monotonic() + SECONDS
        while self.num_begun < number:
            assert time.monotonic() < deadline, "it never decoded so far"
            await asyncio.sleep(0.001)

    async def goes_on(self) -> int:
        """Let it do what it would still do; return how many forwards it has done in the end."""
        self.permits.release(1000)
        await asyncio.get_running_loop().shutdown_default_executor()  # where it decodes
        return self.num_forwards


def replies(answer: Callable[[str], str], marker: str = "[assistant] ") -> Callable[[bytes], int]:
    """Return a script that answers what it reads; the turn begins behind the last marker."""
    known: dict[bytes, bytes] = {}

    def script(so_far: bytes) -> int:
        end = so_far.rfind(marker.encode())
        if end < 0:
            return EOS
        prompt, said = so_far[: end + len(marker)], so_far[end + len(marker) :]
        if prompt not in known:
            known[prompt] = answer(prompt.decode()).encode()
        wanted = known[prompt]
        return wanted[len(said)] if wanted.startswith(said) and len(said) < len(wanted) else EOS

    return script


def tool_caller(prompt: str) -> str:
    """Call the first tool that the prompt offers, with fitting arguments; else say something."""
    tools = re.search("<tools>(.*?)</tools>", prompt, re.DOTALL)
    if not tools or "[tool]" in prompt.rpartition("[user]")[2]:
        return "It is sunny, and that is all there is to say."
    function = json.loads(tools.group(1).splitlines()[0])["function"]
    schema = function["parameters"]
    arguments = {name: _example(field) for name, field in schema.get("properties", {}).items()}
    call = json.dumps({"name": function["name"], "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{call}\n</tool_call>"


def _example(field: dict[str, Any]) -> Any:
    kinds = [field.get("type"), *(option.get("type") for option in field.get("anyOf", ()))]
    return 3 if "integer" in kinds else "a cat, 你好, こんにちは"


def tool_tokenizer() -> Any:
    """A tokenizer with a chat template that writes tools; only its template is used."""
    import copy

    tokenizer = copy.copy(tiny_tokenizer())
    tokenizer.chat_template = TOOL_TEMPLATE
    return tokenizer


def tool_engine() -> NestEngine:
    return NestEngine(ScriptedLanguageModel(replies(tool_caller)))


def documents(*texts: str) -> list[Document]:
    return [Document(id=f"d{number}", page_content=text) for number, text in enumerate(texts)]


def verify(citations: Sequence[Any], answer: str, sources: dict[str, str]) -> None:
    """Check that every citation quotes its source word for word, on both sides."""
    for citation in citations:
        source = sources[citation["extras"]["document_id"]]
        quoted = source[citation["extras"]["source_start"] : citation["extras"]["source_end"]]
        assert (
            answer[citation["start_index"] : citation["end_index"]]
            == citation["cited_text"]
            == quoted
        )


def texts_of(found: Sequence[Document]) -> dict[str, str]:
    return {str(document.id): document.page_content for document in found}


async def astream_all(model: BaseLanguageModel[Any], prompt: Any, **kwargs: Any) -> list[Any]:
    return [chunk async for chunk in model.astream(prompt, **kwargs)]
