"""Models that reason, and template variables, as clients of other servers know them."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from nest_engine import NestEngine
from nest_engine.testing import ScriptedLanguageModel
from tests.server.support import ASKED, MODEL, QUESTION, ask, served
from tests.tiny_models import tiny_model, tokenizer_that_refuses
from tests.ui.support import SECONDS

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

THOUGHT, ANSWER = "hm, a gas", "Helium is a gas."


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    said = f"<think>{THOUGHT}</think>\n\n{ANSWER}"
    with served(NestEngine(ScriptedLanguageModel(said))) as address:
        yield address


@pytest.fixture
def client(address: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=SECONDS)


def test_chat(client: openai.OpenAI) -> None:
    message = client.chat.completions.create(**ASKED).choices[0].message
    assert (message.content, message.reasoning_content) == (ANSWER, THOUGHT)
    turns = [*ASKED["messages"], message.model_dump(exclude_none=True), *ASKED["messages"]]
    again = client.chat.completions.create(model=MODEL, messages=turns)
    assert again.choices[0].message.content == ANSWER
    hidden = client.chat.completions.create(**ASKED, extra_body={"include_reasoning": False})
    assert hidden.choices[0].message.content == ANSWER
    assert hidden.choices[0].message.reasoning_content is None


@pytest.mark.parametrize("shown", [True, False])
def test_chat_stream(client: openai.OpenAI, shown: bool) -> None:
    stream = client.chat.completions.create(
        **ASKED, stream=True, extra_body={"include_reasoning": shown}
    )
    deltas = [chunk.choices[0].delta for chunk in stream]
    assert "".join(delta.content or "" for delta in deltas) == ANSWER
    reasoned = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    assert reasoned == (THOUGHT if shown else "")


@pytest.mark.parametrize("shown", [True, False])
def test_responses(client: openai.OpenAI, shown: bool) -> None:
    options = {"model": MODEL, "input": QUESTION, "extra_body": {"include_reasoning": shown}}
    reply = client.responses.create(**options)
    assert reply.output_text == ANSWER
    assert [item.type for item in reply.output] == ["reasoning"] * shown + ["message"]
    events = list(client.responses.create(**options, stream=True))
    texts = {"reasoning": "", "output": ""}
    for event in events:
        kind = event.type.removeprefix("response.").removesuffix("_text.delta")
        if kind in texts:
            texts[kind] += event.delta
            assert event.output_index == (shown if kind == "output" else 0)
    assert texts == {"reasoning": THOUGHT if shown else "", "output": ANSWER}
    done = [event.item.type for event in events if event.type == "response.output_item.done"]
    assert done == ["reasoning"] * shown + ["message"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1].response
    assert [item.type for item in last.output] == done
    if shown:
        assert last.output[0].content[0].text == THOUGHT


def test_template_variables_and_developers() -> None:
    tokenizer = tokenizer_that_refuses(ending="{{ 'x' * (repeat | default(1)) }}")
    engine = NestEngine(tiny_model("llama"), tokenizer)
    asked = {
        "model": MODEL,
        "max_tokens": 1,
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ],
    }
    with served(engine) as address:
        status, short = ask(address, "/v1/chat/completions", asked)
        assert status == 200
        variables = {"chat_template_kwargs": {"repeat": 20}}
        status, long = ask(address, "/v1/chat/completions", asked | variables)
        assert (status, long["usage"]["prompt_tokens"]) == (
            200,
            short["usage"]["prompt_tokens"] + 19,
        )
        refused = {"messages": [{"role": "assistant", "content": "Hi"}]}
        status, reply = ask(address, "/v1/chat/completions", asked | refused)
        assert status == 400
        assert "refuses the roles assistant: who is assistant" in reply["error"]["message"]
