"""Reasoning as a block of its own, and template variables as settings."""

from __future__ import annotations

import pytest

pytest.importorskip("llama_index.core", reason="needs: pip install 'nest-engine[llama-index]'")

from llama_index.core.llms import ChatMessage, MessageRole

from nest_engine import InputError, NestEngine
from nest_engine.testing import ScriptedLanguageModel
from nest_integrations.llama_index import CitationCollector, NestLLM
from tests.tiny_models import tiny_model, tokenizer_that_refuses

THOUGHT, ANSWER = "hm, a gas", "Helium is a gas."


def reasoning_llm() -> NestLLM:
    return NestLLM(
        engine=NestEngine(ScriptedLanguageModel(f"<think>{THOUGHT}</think>\n\n{ANSWER}"))
    )


def test_a_message_holds_its_reasoning_apart() -> None:
    asked = [ChatMessage("What is helium?")]
    message = reasoning_llm().chat(asked).message
    assert message.content == ANSWER
    assert [(b.block_type, getattr(b, "content", None)) for b in message.blocks] == [
        ("thinking", THOUGHT),
        ("text", None),
    ]
    *_, last = reasoning_llm().stream_chat(asked)
    assert last.message.blocks == message.blocks
    assert reasoning_llm().complete("What is helium?").text == ANSWER


def test_template_variables_and_developers() -> None:
    tokenizer = tokenizer_that_refuses(ending="{{ mood }}")
    engine = NestEngine(tiny_model("llama"), tokenizer)
    llm = NestLLM(
        engine=engine,
        max_new_tokens=1,
        generate_kwargs={"chat_template_kwargs": {"mood": "calm"}},
    )
    turns = [
        ChatMessage("Be brief.", role=MessageRole.DEVELOPER),
        ChatMessage("Hi", role=MessageRole.USER),
    ]
    with CitationCollector() as collected:
        llm.chat(turns)
        llm.chat(turns, chat_template_kwargs={"mood": "merry"})
        llm.complete("Hi")
    assert [output.prompt for output in collected.outputs] == [
        "system: Be brief.\nuser: Hi\ncalm",
        "system: Be brief.\nuser: Hi\nmerry",
        "user: Hi\ncalm",
    ]
    with pytest.raises(InputError, match="refuses the roles assistant: who is assistant"):
        llm.chat([ChatMessage("Hi", role=MessageRole.ASSISTANT)])
