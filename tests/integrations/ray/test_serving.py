"""The API under Ray Serve: the engine's answers, none for who has left, and replicas that die."""

from __future__ import annotations

import json
import os
import re
import select
import signal
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("ray", reason="needs: pip install 'nest-engine[ray]'")

from ray import serve

import nest_demo
from nest_engine import ConfigError, NestEngine, SchedulerClosedError
from nest_engine.serving.server import Limits
from nest_integrations.ray import serve_app
from nest_integrations.ray.access import ThisMachineOnly
from nest_integrations.ray.replica import Replica
from tests.integrations.ray.support import load_demo, load_endless, load_nothing, said, wait_until
from tests.server.support import Connection, ask, events

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

MODEL = "shipped"
QUESTIONS = [shipped.question for shipped in nest_demo.load_questions()[:3]]
OPTIONS: dict[str, Any] = {"num_cpus": 0.1}
NEW = {"model": MODEL, "messages": [{"role": "user", "content": "Who are you?"}]}


def asked(question: str, **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": question}], **fields}


def run(application: serve.Application, address: str, name: str) -> str:
    serve.run(application, name=name, route_prefix=f"/{name}")
    return f"/{name}/v1/chat/completions"


def figures(address: str, name: str, **headers: str) -> str:
    connection = Connection(address, f"/{name}/metrics", **headers)
    text: str = connection.response().read().decode()
    connection.close()
    return text


@pytest.fixture(scope="module")
def shipped() -> NestEngine:
    return load_demo()


# Two replicas of the shipped model


@pytest.fixture(scope="module")
def chat(serving: str) -> str:
    """Two replicas of the shipped model, with a key; the path to ask."""
    application = serve_app(
        load_demo, model=MODEL, api_key="sesame", num_replicas=2, ray_actor_options=OPTIONS
    )
    return run(application, serving, "shipped")


KEY = {"Authorization": "Bearer sesame"}


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_answer_is_the_engines(
    serving: str, chat: str, shipped: NestEngine, question: str
) -> None:
    status, reply = ask(serving, chat, asked(question), **KEY)
    answer = shipped.ask(question)
    [choice] = reply["choices"]
    message = choice["message"]
    ended = {"eos": "stop"}.get(answer.finish_reason, answer.finish_reason)
    assert (status, message["content"], choice["finish_reason"]) == (200, answer.text, ended)
    assert [annotation["nest"] for annotation in message["annotations"]] == [
        c.to_dict() for c in answer.citations
    ]
    sources = {passage.id: passage.text for passage in answer.passages}
    for annotation in message["annotations"]:
        span, nest = annotation["url_citation"], annotation["nest"]
        quoted = message["content"][span["start_index"] : span["end_index"]]
        assert quoted == sources[nest["passage_id"]][nest["source_start"] : nest["source_end"]]
    assert message["annotations"]


def test_a_seed_gives_the_engines_answer_in_either_replica(
    serving: str, chat: str, shipped: NestEngine
) -> None:
    sampled = asked(QUESTIONS[0], temperature=0.8, seed=7)
    texts = [
        ask(serving, chat, sampled, **KEY)[1]["choices"][0]["message"]["content"] for _ in range(6)
    ]
    assert texts == [shipped.ask(QUESTIONS[0], temperature=0.8, seed=7).text] * 6


def test_a_streamed_answer_is_the_engines(serving: str, chat: str, shipped: NestEngine) -> None:
    connection = Connection(serving, chat, asked(QUESTIONS[0], stream=True), **KEY)
    choices = [chunk["choices"][0] for chunk in events(connection.response())]
    connection.close()
    answer = shipped.ask(QUESTIONS[0])
    assert "".join(choice["delta"].get("content", "") for choice in choices) == answer.text
    cited = [
        annotation["nest"]
        for choice in choices
        for annotation in choice["delta"].get("annotations", ())
    ]
    assert cited == [citation.to_dict() for citation in answer.citations]
    assert choices[-1]["finish_reason"] == "stop"
    assert len(choices) >= 3


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"model": "gpt-4o"}, 404, "the model 'gpt-4o' does not exist here"),
        ({"nest": {"gamma": 2}}, 400, "gamma=2"),
        ({"messages": []}, 400, "messages"),
        ({"tools": [{}]}, 400, "tools"),
        ({"n": 10**9}, 400, "this server takes at most 8"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(
    serving: str, chat: str, fields: dict[str, Any], status: int, message: str
) -> None:
    answered, reply = ask(serving, chat, asked(QUESTIONS[0]) | fields, **KEY)
    assert answered == status
    assert message in reply["error"]["message"]


def test_a_body_that_is_too_long_is_not_read_on(serving: str, chat: str) -> None:
    too_long = b"x" * (Limits().body_bytes + 1)
    status, reply = ask(serving, chat, too_long, **KEY)
    assert status == 413
    assert "send a shorter one" in reply["error"]["message"]
    # before anything is read
    assert ask(serving, chat, b"x", Authorization="Bearer wrong")[0] == 401


def test_health_needs_no_key_and_everything_else_does(serving: str, chat: str) -> None:
    assert ask(serving, "/shipped/health") == (200, {"status": "ok"})
    for path, body in [
        (chat, asked(QUESTIONS[0])),
        ("/shipped/v1/models", None),
        ("/shipped/metrics", None),
    ]:
        status, reply = ask(serving, path, body)
        assert (status, reply["error"]["code"]) == (401, "invalid_api_key")


def test_requests_are_counted_by_route(serving: str, chat: str) -> None:
    ask(serving, "/shipped/v1/models", **KEY)
    counted = 'nest_requests_total{route="/v1/models",status="200"}'
    # once the replica that answered is asked
    wait_until(lambda: counted in figures(serving, "shipped", **KEY))


# Replicas of a model that never stops by itself


@pytest.fixture(scope="module")
def endless(serving: str) -> str:
    """One replica that decodes one answer at a time, and lets none wait."""
    application = serve_app(
        load_endless, model=MODEL, max_running=1, max_waiting=0, ray_actor_options=OPTIONS
    )
    return run(application, serving, "endless")


def test_a_full_queue_refuses_until_a_client_leaves(serving: str, endless: str) -> None:
    first = Connection(serving, endless, NEW | {"stream": True})
    stream = first.response()
    # it arrives while it is decoded: it has no end
    assert said(events(stream), 20).startswith(" pid=")

    second = Connection(serving, endless, NEW | {"max_tokens": 3})
    response = second.response()
    refused = json.loads(response.read())
    second.close()
    assert (response.status, response.getheader("Retry-After")) == (503, "1")
    assert "1 answers are being decoded and 0 wait" in refused["error"]["message"]
    assert refused["error"]["code"] == "queue_full"

    stream.close()
    first.close()
    wait_until(lambda: ask(serving, endless, NEW | {"max_tokens": 3})[0] == 200)


def test_a_client_that_leaves_before_the_first_byte_ends_its_answer(
    serving: str, endless: str
) -> None:
    def decodes(count: int) -> bool:
        return f"nest_running {count}.0\n" in figures(serving, "endless")

    wait_until(lambda: decodes(0))  # what was asked before has ended: there is room
    # whole: nothing is sent before it has ended, so never
    waiting = Connection(serving, endless, NEW)
    wait_until(lambda: decodes(1))  # another request might be there before it, and keep it out
    assert ask(serving, endless, NEW | {"max_tokens": 3})[0] == 503
    waiting.close()
    wait_until(lambda: ask(serving, endless, NEW | {"max_tokens": 3})[0] == 200)


def test_a_full_ingress_refuses_too(serving: str) -> None:
    application = serve_app(
        load_endless,
        model=MODEL,
        max_ongoing_requests=1,
        max_queued_requests=1,
        ray_actor_options=OPTIONS,
    )
    path = run(application, serving, "queued")
    running = Connection(serving, path, NEW | {"stream": True})
    said(events(running.response()), 5)
    others = [Connection(serving, path, NEW | {"max_tokens": 3}) for _ in range(3)]
    sockets = [other.socket for other in others]
    # one of them waits in the ingress
    wait_until(lambda: len(select.select(sockets, [], [], 0)[0]) == 2)
    refused = [other.response() for other in others if select.select([other.socket], [], [], 0)[0]]
    assert [(response.status, response.getheader("Retry-After")) for response in refused] == [
        (503, "1")
    ] * 2
    assert {json.loads(response.read())["error"]["code"] for response in refused} == {"queue_full"}
    for connection in [running, *others]:
        connection.close()
    serve.delete("queued")


def test_a_killed_replica_loses_its_own_request_only(serving: str) -> None:
    path = run(
        serve_app(load_endless, model=MODEL, num_replicas=2, ray_actor_options=OPTIONS),
        serving,
        "killed",
    )
    streams: dict[int, Iterator[dict[str, Any]]] = {}
    connections = []
    while len(streams) < 2:  # Ray sends a request to a replica that has fewer
        connection = Connection(serving, path, NEW | {"stream": True})
        connections.append(connection)
        stream = events(connection.response())
        [pid] = re.findall(r"pid=(\d+) ", said(stream, 20))
        streams.setdefault(int(pid), stream)
    killed, spared = streams
    os.kill(killed, signal.SIGKILL)

    *_, last = streams[killed]
    assert (
        last["error"]["message"] == "the replica that was decoding the answer has died; ask again"
    )
    assert len(said(streams[spared], 100)) >= 100
    status, reply = ask(serving, path, NEW | {"max_tokens": 20})
    assert status == 200
    assert f"pid={killed} " not in reply["choices"][0]["message"]["content"]
    for connection in connections:
        connection.close()
    serve.delete("killed")


def test_a_replica_that_dies_fails_its_request_and_is_replaced(serving: str, endless: str) -> None:
    def pid() -> str:
        status, reply = ask(serving, endless, NEW | {"max_tokens": 20})
        assert status == 200
        [found] = re.findall(r"pid=(\d+) ", reply["choices"][0]["message"]["content"])
        return found

    before = pid()
    dying = Connection(serving, endless, asked("Die!"))
    response = dying.response()
    assert (response.status, json.loads(response.read())["error"]["code"]) == (
        500,
        "decoding_failed",
    )
    dying.close()
    assert pid() != before  # the next request waits until the new replica is there


# Without a cluster


def replica(**options: Any) -> Replica:
    defaults = {"model": MODEL, "api_key": None, "limits": None, "max_running": 1, "max_waiting": 1}
    return Replica(load_endless, **defaults | options)


def test_a_replica_is_healthy_until_its_scheduler_is_closed() -> None:
    made = replica()
    made.check_health()
    made.__del__()
    with pytest.raises(SchedulerClosedError, match="start another replica"):
        made.check_health()


def test_what_is_wrong_is_said_before_replicas_start() -> None:
    with pytest.raises(
        ConfigError, match="max_running=0 is not valid: expected a whole number of at least 1"
    ):
        serve_app(load_demo, model=MODEL, max_running=0)
    with pytest.raises(
        ConfigError, match="load_engine is a str; give a function without arguments"
    ):
        serve_app("some/model", model=MODEL)  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match="load_engine returned a str; it has to return a NestEngine"
    ):
        Replica(load_nothing, model=MODEL, api_key=None, limits=None, max_running=1, max_waiting=1)


def test_autoscaling_aims_at_what_a_replica_decodes_together() -> None:
    def autoscaling(**options: Any) -> Any:
        application = serve_app(load_demo, model=MODEL, max_running=6, **options)
        [replicas] = application._bound_deployment.init_args
        return replicas._bound_deployment._deployment_config.autoscaling_config

    assert autoscaling(autoscaling_config={"max_replicas": 3}).target_ongoing_requests == 6
    assert autoscaling(autoscaling_config={"max_replicas": 3}).max_replicas == 3
    assert autoscaling(num_replicas="auto").target_ongoing_requests == 6
    with pytest.raises(ValueError, match="num_replicas"):
        serve_app(load_demo, model=MODEL, num_replicas=2, autoscaling_config={"max_replicas": 3})


HERE = ("127.0.0.1", 5)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("client", "host", "status"),
    [
        (HERE, "127.0.0.1:8000", 200),
        (HERE, "localhost", 200),
        (("::1", 5), "[::1]:8000", 200),
        (("192.0.2.7", 5), "127.0.0.1:8000", 403),  # another machine, whatever it says
        (HERE, "192.0.2.1:8000", 403),  # another machine, through a proxy on this one
        (HERE, "example.org", 403),
        (HERE, "[::1", 403),
        (None, "localhost", 403),
    ],
)
async def test_without_a_key_only_this_machine_may_ask(client: Any, host: str, status: int) -> None:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "client": client, "headers": [(b"host", host.encode())]}
    await ThisMachineOnly(app)(scope, None, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == status


def test_rays_proxy_passes_on_whom_a_request_was_meant_for(serving: str, endless: str) -> None:
    status, reply = ask(serving, "/endless/v1/models", Host="example.org")
    assert status == 403
    assert "give serve_app an api_key" in reply["error"]["message"]
    assert ask(serving, "/endless/v1/models", Host="localhost")[0] == 200
