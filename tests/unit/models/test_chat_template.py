"""Chat templates: their variables, developers, and roles that they refuse."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from nest_engine import ConfigError, InputError, NestEngine
from nest_engine.interfaces import Message
from nest_engine.models.chat_template import ChatTemplate
from tests.tiny_models import tiny_model, tiny_tokenizer

TEMPLATE = (
    "{% for m in messages %}"
    "{% if m.role not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' + m.role) }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}Hi"


def tokenizer(template: str | None = TEMPLATE) -> Any:
    own = copy.deepcopy(tiny_tokenizer())
    own.chat_template = template
    return own


@pytest.fixture(scope="module")
def engine() -> NestEngine:
    return NestEngine(tiny_model("llama"), tokenizer())


def test_variables_reach_the_template(engine: NestEngine) -> None:
    silent = engine.format_question("Why?", enable_thinking=False)
    assert silent == engine.format_question("Why?") + "<think>\n\n</think>\n\n"
    asked = engine.ask(
        "Why?", passages=[], max_new_tokens=2, chat_template_kwargs={"enable_thinking": False}
    )
    assert asked.prompt == silent
    by_default = copy.copy(engine)
    by_default.config = engine.config.replace(chat_template_kwargs={"enable_thinking": False})
    assert by_default.format_question("Why?") == silent
    assert by_default.format_question("Why?", enable_thinking=True) != silent


def test_a_developer_is_the_system_of_a_template_that_knows_none(engine: NestEngine) -> None:
    turns = [Message("developer", "Be brief."), Message("user", "Hi")]
    assert "<|im_start|>system\nBe brief.<|im_end|>" in engine.format_chat(turns)
    knows = ChatTemplate(tokenizer(), "{% if 0 %}developer{% endif %}{{ messages[0].role }}")
    assert knows.write([{"role": "developer", "content": "Be brief."}]) == "developer"
    plain = NestEngine(tiny_model("llama"), tokenizer(None))
    assert plain.format_chat(turns) == "Be brief.\n\nQuestion: Hi\nAnswer:"


def test_what_a_template_refuses_is_named(engine: NestEngine) -> None:
    with pytest.raises(InputError, match="refuses the roles tool: unknown role tool"):
        engine.format_chat([Message("tool", "42")])
    with pytest.raises(InputError, match="refuses the roles system, user: no system"):
        ChatTemplate(tokenizer(), NO_SYSTEM).write(
            [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
        )


def test_what_is_no_variable_is_refused(engine: NestEngine) -> None:
    with pytest.raises(InputError, match=r"{'tokenize': \.\.\.} cannot be set"):
        engine.format_question("Why?", tokenize=True)
    with pytest.raises(ConfigError, match="chat_template_kwargs=False is not valid"):
        engine.ask("Why?", passages=[], chat_template_kwargs=False)
