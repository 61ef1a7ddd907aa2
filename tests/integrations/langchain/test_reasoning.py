"""Reasoning as a content block of its own, and template variables as settings."""

from __future__ import annotations

import pytest

from nest_engine import InputError, NestEngine
from nest_engine.testing import ScriptedLanguageModel
from tests.integrations.langchain.support import PLAIN_TEMPLATE
from tests.tiny_models import tiny_model, tiny_tokenizer, tokenizer_that_refuses

pytest.importorskip("langchain_core", reason="needs: pip install 'nest-engine[langchain]'")

from langchain_core.messages import AIMessageChunk

from nest_integrations.langchain import ChatNest, NestLLM

THOUGHT, ANSWER = "hm, a gas", "Helium is a gas."


class _Tokenizer:
    """Applies a template, and nothing else."""

    chat_template = PLAIN_TEMPLATE

    def apply_chat_template(self, messages, **options):
        return tiny_tokenizer().apply_chat_template(messages, **options)


def reasoning_chat() -> ChatNest:
    engine = NestEngine(ScriptedLanguageModel(f"<think>{THOUGHT}</think>\n\n{ANSWER}"))
    return ChatNest(engine=engine, tokenizer=_Tokenizer())


def kinds_and_texts(blocks) -> list[tuple[str, str]]:
    return [(block["type"], block.get("text") or block.get("reasoning")) for block in blocks]


EXPECTED = [("reasoning", THOUGHT), ("text", ANSWER)]


def test_a_message_holds_its_reasoning_apart() -> None:
    message = reasoning_chat().invoke("What is helium?")
    assert message.text == ANSWER
    assert kinds_and_texts(message.content_blocks) == EXPECTED


def test_a_stream_too() -> None:
    whole = AIMessageChunk("")
    for chunk in reasoning_chat().stream("What is helium?"):
        whole += chunk
    assert whole.text == ANSWER
    assert kinds_and_texts(whole.content_blocks) == EXPECTED


def test_and_events() -> None:
    events = list(reasoning_chat()._stream_chat_model_events([*_messages()]))
    finished = [e for e in events if e["event"] == "content-block-finish"]
    assert kinds_and_texts(e["content"] for e in finished) == EXPECTED
    assert [e["index"] for e in finished] == [0, 1]
    deltas = [e for e in events if e["event"] == "content-block-delta"]
    assert {(e["index"], e["delta"]["type"]) for e in deltas} == {
        (0, "reasoning-delta"),
        (1, "text-delta"),
    }


def _messages():
    from langchain_core.messages import HumanMessage

    return [HumanMessage("What is helium?")]


def test_a_plain_llm_answers_without_it() -> None:
    engine = reasoning_chat().engine
    assert NestLLM(engine=engine).invoke("What is helium?") == ANSWER
    assert "".join(NestLLM(engine=engine).stream("What is helium?")) == ANSWER


def test_template_variables_and_developers(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tokenizer_that_refuses(ending="{{ mood }}")
    engine = NestEngine(tiny_model("llama"), tokenizer)
    prompts = []
    monkeypatch.setattr(
        engine,
        "generate_batch",
        lambda given, **options: (
            prompts.extend(given) or NestEngine.generate_batch(engine, given, **options)
        ),
    )
    chat = ChatNest(engine=engine, max_tokens=1, chat_template_kwargs={"mood": "calm"})
    turns = [("developer", "Be brief."), ("user", "Hi")]
    chat.invoke(turns)
    chat.invoke(turns, chat_template_kwargs={"mood": "merry"})
    assert prompts == [f"system: Be brief.\nuser: Hi\n{mood}" for mood in ("calm", "merry")]
    with pytest.raises(InputError, match="refuses the roles assistant: who is assistant"):
        chat.invoke([("assistant", "Hi")])
