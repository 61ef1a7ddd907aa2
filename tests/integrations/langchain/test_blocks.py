"""Sources in the blocks of messages, follow-up questions, profiles, and stores as they come."""

from __future__ import annotations

import base64
import warnings
from typing import Any

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.vectorstores import InMemoryVectorStore

from nest_engine import NestConfig, NestEngine, Passage
from nest_integrations.langchain import ChatNest, NestLLM
from nest_integrations.langchain.documents import documents_of_turn
from nest_integrations.langchain.messages import template_messages
from tests.tiny_models import tiny_model
from tests.ui.support import HELIUM, NEON
from tests.unit.models.test_chat_template import tokenizer
from tests.unit.retrieval.test_reading import pdf

QUESTION = {"type": "text", "text": "What is helium?"}
DOCUMENT = {"type": "document", "title": "Helium", "source": {"type": "text", "data": HELIUM.text}}
RESULT = {
    "type": "search_result",
    "source": "https://example.org/neon",
    "title": "Neon",
    "content": [{"type": "text", "text": NEON.text}],
}
PLAIN = {"type": "text-plain", "mime_type": "text/plain", "title": "Helium", "text": HELIUM.text}
FILE = {
    "type": "file",
    "mime_type": "application/pdf",
    "base64": base64.b64encode(pdf(NEON.text)).decode(),
}
TEXT_BASE64 = base64.b64encode(HELIUM.text.encode()).decode()


@pytest.fixture(scope="module")
def engine() -> NestEngine:
    config = NestConfig(method="ra", max_new_tokens=2)
    return NestEngine(tiny_model("llama"), tokenizer(), config=config)


def prompts_of(chat: ChatNest, messages: list[Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what the model reads."""
    read: list[str] = []
    generate = NestEngine.generate_batch

    def listen(self: NestEngine, *given: Any, **more: Any) -> Any:
        outputs = generate(self, *given, **more)
        read.extend(output.prompt for output in outputs)
        return outputs

    monkeypatch.setattr(NestEngine, "generate_batch", listen)
    chat.invoke(messages)
    return read


@pytest.mark.parametrize(
    ("block", "text"),
    [(DOCUMENT, HELIUM.text), (RESULT, NEON.text), (PLAIN, HELIUM.text), (FILE, NEON.text)],
)
@pytest.mark.parametrize("is_tools", [False, True])
def test_sources_in_messages_are_passages(
    engine: NestEngine, block: Any, text: str, is_tools: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[Any] = [HumanMessage([block, QUESTION])]
    if is_tools:
        template = tokenizer()
        template.chat_template = template.chat_template.replace(
            "'assistant']", "'assistant', 'tool']"
        )
        call = {"name": "search", "args": {}, "id": "1"}
        messages = [
            HumanMessage([QUESTION]),
            AIMessage("", tool_calls=[call]),
            ToolMessage([block], tool_call_id="1"),
        ]
        chat = ChatNest(engine=engine, tokenizer=template)
    else:
        chat = ChatNest(engine=engine)
    [prompt] = prompts_of(chat, messages, monkeypatch)
    assert prompt.count(text[:40]) == 1
    assert "Background: " in prompt


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (["Hi", "there"], "Hi\nthere"),
        ([{"type": "text", "text": "Hi"}, {"type": "text", "text": "there"}], "Hi\nthere"),
        ([{"type": "input_text", "text": "Hi"}], "Hi"),
        ([{"text": "Hi"}], "Hi"),
        ([{"type": "json", "json": {"gas": "neon"}}], '{"gas": "neon"}'),
    ],
)
def test_texts_of_many_forms_reach_the_model(content: Any, text: str) -> None:
    [turn] = template_messages([HumanMessage(content)])
    assert turn["content"] == text
    pieces = [{"type": "text", "text": "A gas, "}, {"type": "text", "text": "light."}]
    [turn] = template_messages([AIMessage(pieces)])
    assert turn["content"] == "A gas, light."


@pytest.mark.parametrize(
    "file",
    [
        {"type": "file", "base64": TEXT_BASE64, "mime_type": "text/plain"},
        {"type": "file", "source_type": "base64", "data": TEXT_BASE64, "mime_type": "text/plain"},
        {"type": "file", "source_type": "text", "text": HELIUM.text, "mime_type": "text/plain"},
    ],
)
def test_text_files_are_passages(engine: NestEngine, file: Any) -> None:
    message = HumanMessage([file, QUESTION])
    [passage] = documents_of_turn([message]) or []
    assert passage.text == HELIUM.text
    assert template_messages([message])[0]["content"] == QUESTION["text"]


def test_calls_that_cannot_be_read_do_not_end_a_conversation() -> None:
    broken = {"id": "1", "type": "function", "function": {"name": "find", "arguments": "{"}}
    message = AIMessage("", additional_kwargs={"tool_calls": [broken]})
    [turn] = template_messages([message])
    assert turn["role"] == "assistant"


def test_what_is_no_source_stays_refused(engine: NestEngine) -> None:
    from nest_engine import InputError

    image = {"type": "image", "base64": "aGk=", "mime_type": "image/png"}
    with pytest.raises(InputError, match="holds image: this model reads text only"):
        ChatNest(engine=engine).invoke([HumanMessage([DOCUMENT, image, QUESTION])])


def test_a_question_that_leans_on_the_conversation_is_told(engine: NestEngine) -> None:
    chat = ChatNest(engine=engine)
    turns = [("user", "Who found helium?"), ("assistant", "A man."), ("user", "When did he?")]
    passages = [Passage(HELIUM.text)]

    def notices(*given: Any, **more: Any) -> str:
        return " ".join(chat.invoke(*given, passages=passages, **more).response_metadata["notices"])

    assert "'When did he?' was searched for by itself" in notices(turns)
    assert "searched for" not in notices(turns, query="When did he find helium?")
    assert "searched for" not in notices(turns[-1:])
    assert "searched for" not in notices([*turns[:2], ("user", "When did Lockyer find helium?")])


def test_the_profile_says_what_the_model_can(engine: NestEngine) -> None:
    profile = ChatNest(engine=engine).profile
    assert profile is not None
    assert (profile["max_input_tokens"], profile["tool_calling"]) == (256, False)
    assert ChatNest(engine=engine, profile={"name": "mine"}).profile == {"name": "mine"}


class Loud(InMemoryVectorStore):
    """Has relevance scores that leave 0 to 1, as FAISS does."""

    def _similarity_search_with_relevance_scores(self, *given: Any, **more: Any) -> Any:
        return [(each, -score) for each, score in self.similarity_search_with_score(*given, **more)]


@pytest.mark.parametrize("kind", [Loud, InMemoryVectorStore])
def test_a_store_is_asked_for_as_many_as_it_gives_by_itself(engine: NestEngine, kind: Any) -> None:
    texts = [f"Gas number {number} is light." for number in range(30)]
    store = kind.from_texts(texts, DeterministicFakeEmbedding(size=8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        llm = NestLLM(engine=engine, retriever=store, method="nest")
        [[generation]] = llm.generate(["Which gas?"]).generations
        assert generation.generation_info is not None
        more = NestLLM(engine=engine, retriever=store, method="nest", num_passages=9)
        more.invoke("Which gas?")
    assert len(searched(llm)) == 4
    assert len(searched(more)) == 9


def searched(llm: NestLLM) -> list[Passage]:
    """Return what a search for a model finds."""
    call = llm._call(["Which gas?"], None, {})
    search = llm._search_for(call)
    assert search is not None
    [found] = search.run(["Which gas?"], None)
    return list(found.passages)
