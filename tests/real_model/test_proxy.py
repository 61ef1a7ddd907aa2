"""The proxy in front of a server that is not ours: `transformers serve` with the offline model."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import httpx
import openai
import pytest

import nest_demo
from nest_engine.retrieval import BM25Retriever
from nest_engine.server import create_proxy, listen
from nest_engine.serving.server.app import api_server
from tests.serving import running

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

SECONDS_TO_START = 180
PASSAGES = [passage for passage in nest_demo.load_passages() if passage.title == "Sun"]


@pytest.fixture(scope="module")
def other_server(smollm2: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if find_spec("fastapi") is None:
        pytest.skip("transformers serve needs fastapi")
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", smollm2]
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
            stdout=written,
            stderr=subprocess.STDOUT,
            # One thread: beside other tests, more would wait for each other.
            env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )
    try:
        address = f"http://127.0.0.1:{port}"
        end = time.monotonic() + SECONDS_TO_START
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            try:
                httpx.get(f"{address}/health")
                break
            except httpx.ConnectError:
                time.sleep(0.2)
        yield f"{address}/v1"
    finally:
        process.terminate()
        process.wait()


def test_its_text_is_unchanged_and_cited(other_server: str, smollm2: str) -> None:
    text = "\n\n".join(passage.text for passage in PASSAGES)
    asked = {
        "model": smollm2,
        "messages": [
            {
                "role": "user",
                "content": f"{text}\n\nWhat is the Sun? Answer with a sentence of the text.",
            }
        ],
        "max_tokens": 50,
        "temperature": 0,
    }
    proxy = create_proxy(other_server, retriever=BM25Retriever(PASSAGES))
    with running(proxy, api_server) as address:
        clients = [
            openai.OpenAI(base_url=base, api_key="none", max_retries=0)
            for base in (other_server, f"{address}/v1")
        ]
        theirs, cited = [client.chat.completions.create(**asked) for client in clients]
        stream = list(clients[1].chat.completions.create(**asked, stream=True))
    message = cited.choices[0].message
    assert message.content
    assert message.content == theirs.choices[0].message.content
    sources = {passage.id: passage.text for passage in PASSAGES}
    annotations = [each.model_dump() for each in message.annotations or ()]
    assert annotations, message.content
    for annotation in annotations:
        place, citation = annotation["url_citation"], annotation["nest"]
        said = message.content[place["start_index"] : place["end_index"]]
        assert said == (citation["answer_text"] or citation["cited_text"])
        source = sources[citation["passage_id"]]
        assert source[citation["source_start"] : citation["source_end"]] == citation["cited_text"]

    choices = [choice for chunk in stream for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == message.content
    streamed = [
        {name: value for name, value in each.items() if name != "index"}
        for choice in choices
        for each in getattr(choice.delta, "annotations", None) or ()
    ]
    assert streamed == annotations
