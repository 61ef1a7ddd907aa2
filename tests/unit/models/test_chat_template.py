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
CALLS = [{"type": "function", "id": "1", "function": {"name": "find", "arguments": {"q": "é"}}}]
WITH_TOOLS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "", "tool_calls": CALLS},
    {"role": "tool", "content": "42", "tool_call_id": "1"},
]
# As Phi-3-mini, Gemma, Mistral and DeepSeek have them.
OF_TWO = (
    "{% for m in messages %}{% if m.role == 'user' %}<u>{{ m.content }}"
    "{% elif m.role == 'assistant' %}<a>{{ m.content }}{% endif %}{% endfor %}<a>"
)
ALTERNATING = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<{{ m.role[0] }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)
OF_JSON = (
    "{% for m in messages %}<{{ m.role[0] }}>{{ m.content + '' }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name + c.function.arguments }}{% endfor %}"
    "{% endfor %}"
)
OF_NO_TEXT = (
    "{% for m in messages %}<{{ m.role[0] }}>{% if m.content is string %}{{ m.content }}"
    "{% else %}{{ m.tool_calls | tojson }}{% endif %}{% endfor %}"
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
    with pytest.raises(InputError, match=r"refuses the roles user: .*has no attribute 'foo'"):
        ChatTemplate(tokenizer(), "{{ messages[0].content.foo() }}").write(
            [{"role": "user", "content": "a"}]
        )
    with pytest.raises(InputError, match="refuses the roles system, user: no system"):
        ChatTemplate(tokenizer(), NO_SYSTEM).write(
            [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
        )


def written(template: str, *turns: dict[str, Any] | str) -> str:
    """Return a conversation, of which texts are turns of the user and the assistant."""
    roles = ("user", "assistant")
    said = [
        turn if isinstance(turn, dict) else {"role": roles[number % 2], "content": turn}
        for number, turn in enumerate(turns)
    ]
    return ChatTemplate(tokenizer(), template).write(said)


def test_what_a_template_leaves_out_is_said_in_other_words() -> None:
    result = "<tool_response>\n42\n</tool_response>"
    call = '<tool_call>\n{"name": "find", "arguments": {"q": "é"}}\n</tool_call>'
    assert written(OF_TWO, *WITH_TOOLS) == f"<u>Be brief.\n\nHi<a>{call}<u>{result}<a>"
    for role in ("system", "developer", "critic"):
        turns = {"role": "user", "content": "Hi"}, {"role": role, "content": "Be brief."}
        assert written(OF_TWO, *turns) == "<u>Hi\n\nBe brief.<a>"
    assert written(OF_TWO, "Hi", "Hm", "Hi") == "<u>Hi<a>Hm<u>Hi<a>"


def test_a_template_that_wants_turns_to_alternate() -> None:
    system, question = WITH_TOOLS[:2]
    greeting = {"role": "assistant", "content": "Hello"}
    begun = {"role": "assistant", "content": "He"}
    assert written(ALTERNATING, system, question) == "<u>Be brief.\n\nHi<a>"
    assert written(ALTERNATING, question, question) == "<u>Hi\n\nHi<a>"
    assert written(ALTERNATING, greeting, question) == "<u>Hello\n\nHi<a>"
    assert written(ALTERNATING, system, greeting, question, begun) == (
        "<u>Be brief.<a>Hello<u>Hi<a>He"
    )


@pytest.mark.parametrize(
    "parts",
    [
        "{% for part in m.content %}{{ part.text }}{% endfor %}",
        "{% for part in m.content | selectattr('type', 'equalto', 'text') %}"
        "{{ part['text'] }}{% endfor %}",
        "{{ m.content[0]['text'] + '' }}",
    ],
)
def test_a_template_whose_texts_are_lists_of_parts(parts: str) -> None:
    """As models that see have them."""
    template = ChatTemplate(
        tokenizer(
            f"{{% for m in messages %}}<{{{{ m.role[0] }}}}>{parts}{{% endfor %}}"
            "{% if add_generation_prompt %}<a>{% endif %}"
        )
    )
    turns = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert template.write(turns) == "<s>Be brief.<u>Hi<a>"
    begun = [*turns, {"role": "assistant", "content": "Hel"}]
    assert template.write(begun) == "<s>Be brief.<u>Hi<a>Hel"
    assert "42" in template.write(WITH_TOOLS)


def test_tool_calls_are_written_as_the_template_expects_them() -> None:
    assert written(OF_JSON, *WITH_TOOLS) == '<s>Be brief.<u>Hi<a>find{"q": "\\u00e9"}<t>42'
    printed = OF_JSON.replace(" + c.function.arguments", " ~ c.function.arguments")
    assert '{"q"' in written(printed, *WITH_TOOLS[1:])  # not as Python writes it
    natively = written(OF_NO_TEXT, *WITH_TOOLS)
    assert '"arguments": {"q": "é"}' in natively
    assert natively.endswith("<t>42")


def test_an_answer_that_has_not_begun_is_no_turn(engine: NestEngine) -> None:
    turns = [Message("user", "Hi"), Message("assistant", "")]
    assert engine.format_chat(turns) == engine.format_chat(turns[:1])
    plain = NestEngine(tiny_model("llama"), tokenizer(None))
    assert plain.format_chat(turns) == plain.format_chat(turns[:1]) == "Question: Hi\nAnswer:"


def test_what_is_no_variable_is_refused(engine: NestEngine) -> None:
    with pytest.raises(InputError, match=r"{'tokenize': \.\.\.} cannot be set"):
        engine.format_question("Why?", tokenize=True)
    with pytest.raises(ConfigError, match="chat_template_kwargs=False is not valid"):
        engine.ask("Why?", passages=[], chat_template_kwargs=False)
