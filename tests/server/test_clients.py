"""What people have already: each client gets the whole text, and the citations that it keeps."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import openai
import pytest
from langchain_openai import ChatOpenAI
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike, OpenAILikeResponses

from nest_engine import Citation, Passage
from tests.server.support import ASKED, MODEL, QUESTION, Connection, faithful_engine, served
from tests.ui.support import SAID, SECONDS, scripted_engine

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

KEY = "unused"  # clients insist on one


@pytest.fixture(scope="module")
def cited() -> tuple[Citation, ...]:
    return faithful_engine().ask(QUESTION).citations


@pytest.fixture
def client(address: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0, timeout=SECONDS)


def records(annotations: Any) -> list[dict[str, Any]]:
    """Return our own records from annotations, objects or mappings."""
    return [a["nest"] if isinstance(a, dict) else a.nest for a in annotations]


# openai


def test_openai_chat(client: openai.OpenAI, cited: tuple[Citation, ...]) -> None:
    reply = client.chat.completions.create(**ASKED, extra_body={"nest": {"method": "lossless"}})
    message = reply.choices[0].message
    assert message.content == SAID
    assert [a.url_citation.title for a in message.annotations or ()] == ["Helium", "Neon"]
    assert records(message.annotations) == [citation.to_dict() for citation in cited]
    assert reply.usage is not None
    assert reply.usage.total_tokens > 0


def test_openai_chat_stream_read_chunk_by_chunk(
    client: openai.OpenAI, cited: tuple[Citation, ...]
) -> None:
    chunks = list(
        client.chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True})
    )
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == SAID
    annotations = [a for delta in deltas for a in getattr(delta, "annotations", None) or ()]
    assert records(annotations) == [citation.to_dict() for citation in cited]
    assert chunks[-1].usage is not None
    assert chunks[-2].choices[0].finish_reason == "stop"


def test_openai_chat_stream_put_together(
    client: openai.OpenAI, cited: tuple[Citation, ...]
) -> None:
    with client.chat.completions.stream(**ASKED) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        message = stream.get_final_completion().choices[0].message
    assert text == message.content == SAID
    assert records(message.annotations) == [citation.to_dict() for citation in cited]


def test_openai_responses(client: openai.OpenAI, cited: tuple[Citation, ...]) -> None:
    reply = client.responses.create(model=MODEL, input=QUESTION)
    assert (reply.output_text, reply.status) == (SAID, "completed")
    assert records(reply.output[0].content[0].annotations) == [
        citation.to_dict() for citation in cited
    ]


def test_openai_responses_stream(client: openai.OpenAI, cited: tuple[Citation, ...]) -> None:
    with client.responses.stream(model=MODEL, input=QUESTION) as stream:
        told = list(stream)
        reply = stream.get_final_response()
    assert (
        "".join(event.delta for event in told if event.type == "response.output_text.delta") == SAID
    )
    assert reply.output_text == SAID
    added = [
        event.annotation for event in told if event.type == "response.output_text.annotation.added"
    ]
    assert (
        records(added)
        == records(reply.output[0].content[0].annotations)
        == [c.to_dict() for c in cited]
    )


def test_openai_sends_an_answer_back_with_the_next_question(client: openai.OpenAI) -> None:
    first = client.responses.create(model=MODEL, input=QUESTION)
    talk = [
        {"role": "user", "content": QUESTION},
        *(item.model_dump() for item in first.output),
        {"role": "user", "content": "And?"},
    ]
    assert client.responses.create(model=MODEL, input=talk).output_text == SAID
    message = client.chat.completions.create(**ASKED).choices[0].message
    talk = [
        *ASKED["messages"],
        message.model_dump(exclude_none=True),
        {"role": "user", "content": "And?"},
    ]
    assert (
        client.chat.completions.create(model=MODEL, messages=talk).choices[0].message.content
        == SAID
    )


def test_openai_raises_what_the_server_says(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError, match="the model 'gpt-4o' does not exist here"):
        client.chat.completions.create(**ASKED | {"model": "gpt-4o"})
    with pytest.raises(openai.BadRequestError, match="frequency_penalty: only 0"):
        client.chat.completions.create(**ASKED, frequency_penalty=1)


# LangChain


def test_langchain_through_chat_completions_has_the_text(address: str) -> None:
    chat = ChatOpenAI(
        model=MODEL, base_url=f"{address}/v1", api_key=KEY, max_retries=0, timeout=SECONDS
    )
    assert chat.invoke(QUESTION).text == SAID
    assert "".join(chunk.text for chunk in chat.stream(QUESTION)) == SAID


def test_langchain_through_responses_has_the_citations(
    address: str, cited: tuple[Citation, ...]
) -> None:
    chat = ChatOpenAI(
        model=MODEL,
        base_url=f"{address}/v1",
        api_key=KEY,
        use_responses_api=True,
        max_retries=0,
        timeout=SECONDS,
    )
    spans = [(citation.answer_start, citation.answer_end, citation.title) for citation in cited]

    def found(message: Any) -> list[tuple[int, int, str]]:
        annotations = [a for block in message.content_blocks for a in block.get("annotations", ())]
        return [(a["start_index"], a["end_index"], a["title"]) for a in annotations]

    message = chat.invoke(QUESTION)
    assert (message.text, found(message)) == (SAID, spans)
    whole = None
    for chunk in chat.stream(QUESTION):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    assert (whole.text, found(whole)) == (SAID, spans)
    assert chat.invoke([("user", QUESTION), message, ("user", "And?")]).text == SAID


# LlamaIndex


def test_llama_index_through_chat_completions_has_them_in_raw(
    address: str, cited: tuple[Citation, ...]
) -> None:
    llm = OpenAILike(
        model=MODEL,
        api_base=f"{address}/v1",
        api_key=KEY,
        is_chat_model=True,
        max_retries=0,
        timeout=SECONDS,
    )
    reply = llm.chat([ChatMessage(role="user", content=QUESTION)])
    assert reply.message.content == SAID
    assert records(reply.raw.choices[0].message.annotations) == [
        citation.to_dict() for citation in cited
    ]
    *_, last = llm.stream_chat([ChatMessage(role="user", content=QUESTION)])
    assert last.message.content == SAID


def test_llama_index_through_responses_has_the_citations(
    address: str, cited: tuple[Citation, ...]
) -> None:
    llm = OpenAILikeResponses(
        model=MODEL, api_base=f"{address}/v1", api_key=KEY, max_retries=0, timeout=SECONDS
    )
    reply = llm.chat([ChatMessage(role="user", content=QUESTION)])
    assert reply.message.content == SAID
    assert records(reply.additional_kwargs["annotations"]) == [
        citation.to_dict() for citation in cited
    ]
    *_, last = llm.stream_chat([ChatMessage(role="user", content=QUESTION)])
    assert last.message.content == SAID
    assert records(last.additional_kwargs["annotations"]) == [
        citation.to_dict() for citation in cited
    ]


# curl


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on the PATH: install it")
def test_curl(address: str) -> None:
    command = ["curl", "--silent", "--fail-with-body", f"{address}/v1/chat/completions", "--json"]
    whole = subprocess.run(
        [*command, json.dumps(ASKED)], capture_output=True, text=True, timeout=SECONDS, check=True
    )
    assert json.loads(whole.stdout)["choices"][0]["message"]["content"] == SAID
    asked = json.dumps(ASKED | {"stream": True})
    lines = subprocess.run(
        [*command, asked], capture_output=True, text=True, timeout=SECONDS, check=True
    ).stdout
    assert lines.endswith("data: [DONE]\n\n")
    pieces = [json.loads(line[6:]) for line in lines.splitlines() if line.startswith("data: {")]
    assert "".join(piece["choices"][0]["delta"].get("content", "") for piece in pieces) == SAID


# JavaScript


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node on the PATH: install it")
def test_javascript_slices_what_is_cited() -> None:
    passage = Passage("Helium is light, they say, and rises in the air above us all.")
    with served(scripted_engine(f"🎈🎈 {passage.text}", [passage])) as address:
        script = Path(__file__).with_name("client.mjs")
        run = subprocess.run(
            ["node", str(script), address, MODEL, QUESTION],
            capture_output=True, text=True, timeout=SECONDS, check=True,
        )  # fmt: skip
    said = json.loads(run.stdout)
    assert said["content"] == said["streamed"] == f"🎈🎈 {passage.text}"
    assert said["sliced"] == said["streamedSlices"] == [passage.text]


# Open WebUI: the fields that it sends with a question, and with the title that it asks for


@pytest.mark.parametrize(
    "more",
    [
        {"stream": True, "stream_options": {"include_usage": True}},
        {
            "stream": False,
            "max_completion_tokens": 1000,
            "temperature": 0.1,
            "top_p": 0.9,
            "seed": 7,
            "frequency_penalty": 0,
            "presence_penalty": 0,
            "user": None,
        },
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": QUESTION}]},
                {"role": "assistant", "content": "A gas.", "reasoning_content": "Hm."},
                {"role": "user", "content": QUESTION},
            ],
            "stream": True,
        },
    ],
)
def test_open_webui(address: str, more: dict[str, Any]) -> None:
    connection = Connection(address, "/v1/chat/completions", ASKED | more)
    response = connection.response()
    body = response.read().decode()
    connection.close()
    assert response.status == 200
    assert "helium" in body or "1868" in body
