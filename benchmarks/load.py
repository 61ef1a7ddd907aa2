"""Load `nest serve` with many streaming clients: is every answer right, and how fast is it?

    python -m benchmarks.load --clients 16 --seconds 60
    python -m benchmarks.load --clients 32 --seconds 300 --leaving 0.2 --failing 0.1

Every request has a twin: the same prompt, settings and seed, answered by ``engine.generate`` before
the load begins. An answer that differs from its twin, or cites a passage that its request did not
have, is an error, and the exit code is 1. The server runs in a process of its own, whose memory is
read every second.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import nest_demo
from benchmarks import report
from nest_engine import NestEngine, NestOutput, Passage, PassageRetriever
from nest_engine.retrieval import BM25Retriever, read_passages

MODEL = "load"
HOST = "127.0.0.1"
SECONDS_TO_ANSWER = 600.0
SETTINGS: tuple[dict[str, Any], ...] = (
    {"method": "nest"},
    {"method": "ra-nest", "temperature": 0.8, "seed": 1},
    {"method": "lossless"},
    # With an adaptive draft length, the samples of a seed depend on the measured speed.
    {"method": "lossless", "temperature": 1.0, "seed": 2, "adaptive_draft": False},
    {"method": "lm", "temperature": 1.0, "seed": 3},
)
OUTCOMES = (
    "answered",
    "left",
    "search failed",
    "refused",
    "different",
    "foreign citations",
    "errors",
)


class Unreliable:
    """A passage store that fails now and then.

    Args:
        retriever: the store.
        probability: of a failing search.
    """

    def __init__(self, retriever: PassageRetriever, probability: float) -> None:
        self._retriever = retriever
        self._probability = probability
        self._chance = random.Random(0)

    def retrieve(self, queries: Sequence[str], k: int) -> Sequence[Sequence[Passage]]:
        """Search, or fail."""
        if self._chance.random() < self._probability:
            raise OSError("the passage store is down")
        return self._retriever.retrieve(queries, k)


@dataclass(frozen=True)
class Twin:
    """A request, and its answer without load."""

    question: str
    settings: dict[str, Any]
    output: NestOutput


@dataclass
class Tally:
    """The figures of all clients, which share it.

    Args:
        outcomes: number of requests by outcome.
        first_seconds: seconds to the first text of each answer.
        token_seconds: seconds for each further token, of each answer.
        tokens: tokens of complete answers.
        memory: resident megabytes of the server, second by second.
        lock: held while it changes.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    first_seconds: list[float] = field(default_factory=list)
    token_seconds: list[float] = field(default_factory=list)
    tokens: int = 0
    memory: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, outcome: str) -> None:
        """Count a request."""
        with self.lock:
            self.outcomes[outcome] += 1


class Client(threading.Thread):
    """Asks one question after another until time is up, and leaves some answers half-read.

    Args:
        port: where the server listens.
        twins: what to ask.
        options: the options of the command.
        tally: where to count.
        seed: of this client's choices.
        deadline: when to ask no more.
    """

    def __init__(
        self,
        port: int,
        twins: Sequence[Twin],
        options: argparse.Namespace,
        tally: Tally,
        seed: int,
        deadline: float,
    ) -> None:
        super().__init__(name=f"client-{seed}", daemon=True)
        self._port = port
        self._twins = twins
        self._options = options
        self._tally = tally
        self._chance = random.Random(seed)
        self._deadline = deadline

    def run(self) -> None:
        """Ask until time is up."""
        while time.monotonic() < self._deadline:
            twin = self._chance.choice(self._twins)
            leaves = self._chance.random() < self._options.leaving
            try:
                self._ask(twin, self._chance.randint(1, 10) if leaves else None)
            except Exception as error:
                print(f"{self.name}: {type(error).__name__}: {error}", file=sys.stderr)
                self._tally.count("errors")

    def _ask(self, twin: Twin, leave_after: int | None) -> None:
        """Ask, read to the end or leave after some events, compare."""
        connection = http.client.HTTPConnection(HOST, self._port, timeout=SECONDS_TO_ANSWER)
        start = time.perf_counter()
        connection.request(
            "POST",
            "/v1/chat/completions",
            json.dumps(self._body(twin)),
            {"Content-Type": "application/json"},
        )
        response = connection.getresponse()
        if response.status != 200:
            error = json.loads(response.read())["error"]
            connection.close()
            outcome = {"queue_full": "refused", "passage_search_failed": "search failed"}.get(
                error["code"]
            )
            if outcome is None:
                raise RuntimeError(error["message"])
            self._tally.count(outcome)
            if outcome == "refused":
                time.sleep(float(response.getheader("Retry-After") or 1))
            return
        text, citations, first, num_events, is_complete = "", [], None, 0, False
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            num_events += 1
            if leave_after is not None and num_events > leave_after:
                response.close()
                connection.close()
                self._tally.count("left")
                return
            event = json.loads(line[len(b"data: ") :])
            if "error" in event:
                raise RuntimeError(event["error"]["message"])
            [choice] = event["choices"]
            text += choice["delta"].get("content", "")
            citations += [
                annotation["nest"] for annotation in choice["delta"].get("annotations", ())
            ]
            first = first or (time.perf_counter() if text else None)
            is_complete |= choice["finish_reason"] is not None
        connection.close()
        self._compare(twin, text, citations, is_complete)
        num_tokens = twin.output.stats.completion_tokens
        with self._tally.lock:
            self._tally.tokens += num_tokens
            if first is not None:
                self._tally.first_seconds.append(first - start)
                self._tally.token_seconds.append(
                    (time.perf_counter() - first) / max(num_tokens - 1, 1)
                )

    def _body(self, twin: Twin) -> dict[str, Any]:
        sampling = {
            name: value for name, value in twin.settings.items() if name in ("temperature", "seed")
        }
        nest = {name: value for name, value in twin.settings.items() if name not in sampling}
        return {
            "model": MODEL,
            "messages": [{"role": "user", "content": twin.question}],
            "stream": True,
            "max_tokens": self._options.max_new_tokens,
            "nest": nest | {"num_passages": self._options.passages},
            **sampling,
        }

    def _compare(
        self, twin: Twin, text: str, citations: list[dict[str, Any]], is_complete: bool
    ) -> None:
        """Compare an answer with its twin's, and count the outcome."""
        expected = [citation.to_dict() for citation in twin.output.citations]
        offered = {passage.id for passage in twin.output.passages}
        if any(citation["passage_id"] not in offered for citation in citations):
            self._tally.count("foreign citations")
        elif not is_complete or (text, citations) != (
            twin.output.text,
            json.loads(json.dumps(expected)),
        ):
            print(f"{twin.settings}: {text!r} instead of {twin.output.text!r}", file=sys.stderr)
            self._tally.count("different")
        else:
            self._tally.count("answered")


def main() -> None:
    """Start a server, load it, print and write the outcomes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--docs", type=Path, help="files or a folder to search; default: the shipped corpus"
    )
    parser.add_argument(
        "--model", help="hub id or folder, read in float32; default: the shipped model"
    )
    parser.add_argument("--clients", type=int, default=16, help="clients at a time (default: 16)")
    parser.add_argument("--seconds", type=float, default=60, help="how long they ask (default: 60)")
    parser.add_argument("--questions", type=int, default=8, help="different questions (default: 8)")
    parser.add_argument(
        "--passages", type=int, default=5, help="passages for each question (default: 5)"
    )
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument(
        "--max-running", type=int, default=8, help="answers decoded together (default: 8)"
    )
    parser.add_argument(
        "--max-waiting", type=int, default=64, help="requests that wait beside them (default: 64)"
    )
    parser.add_argument(
        "--leaving",
        type=float,
        default=0.0,
        help="share of clients that leave half-way (default: 0)",
    )
    parser.add_argument(
        "--failing", type=float, default=0.0, help="share of searches that fail (default: 0)"
    )
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="folder for load.json")
    options = parser.parse_args()

    engine = _engine(options)
    twins = _twins(engine, options)
    print(f"{len(twins)} twins answered; starting the server", file=sys.stderr)
    tally = Tally()
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    server = context.Process(target=_serve, args=(its, options), daemon=True)
    server.start()
    try:
        port = ours.recv()
        start = time.monotonic()
        deadline = start + options.seconds
        clients = [
            Client(port, twins, options, tally, seed, deadline) for seed in range(options.clients)
        ]
        for client in clients:
            client.start()
        while any(client.is_alive() for client in clients):
            tally.memory.append(_resident_megabytes(server.pid))
            time.sleep(1)
        row = _row(tally, time.monotonic() - start)
    finally:
        server.terminate()
        server.join()
    columns = [name for name in row if name != "memory"]
    report.show(f"{options.clients} clients for {options.seconds:g} s", [row], columns)
    setting = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(options).items()
    }
    report.write("load", setting, [row], options.out)
    sys.exit(
        any(tally.outcomes[outcome] for outcome in ("different", "foreign citations", "errors"))
    )


def _engine(options: argparse.Namespace) -> NestEngine:
    passages = read_passages(options.docs).passages if options.docs else nest_demo.load_passages()
    model = options.model or str(nest_demo.model_path())
    return NestEngine.from_pretrained(model, dtype="float32", retriever=BM25Retriever(passages))


def _twins(engine: NestEngine, options: argparse.Namespace) -> list[Twin]:
    questions = [shipped.question for shipped in nest_demo.load_questions()]
    if options.docs:
        titles = dict.fromkeys(
            passage.title for passage in read_passages(options.docs).passages if passage.title
        )
        questions = [f"Tell me about {title}." for title in titles]
    common = {"num_passages": options.passages, "max_new_tokens": options.max_new_tokens}
    return [
        Twin(question, settings, engine.ask(question, **common, **settings))
        for question in questions[: options.questions]
        for settings in SETTINGS
    ]


def _serve(started: Connection, options: argparse.Namespace) -> None:
    """Serve until terminated; send the port once the server listens."""
    from nest_engine.serving.scheduler import Scheduler
    from nest_engine.serving.server import create_app, serve
    from nest_engine.serving.web.listening import listen

    engine = _engine(options)
    assert engine.retriever is not None
    engine.retriever = Unreliable(engine.retriever, options.failing)
    scheduler = Scheduler(engine, max_running=options.max_running, max_waiting=options.max_waiting)
    with listen(HOST, 0) as listening:
        started.send(listening.getsockname()[1])
        serve(create_app(scheduler, model=MODEL), listening)


def _row(tally: Tally, seconds: float) -> dict[str, Any]:
    known = [megabytes for megabytes in tally.memory if megabytes]
    return {outcome: tally.outcomes[outcome] for outcome in OUTCOMES} | {
        "answers/s": tally.outcomes["answered"] / seconds,
        "tokens/s": tally.tokens / seconds,
        "first text p50 s": _percentile(tally.first_seconds, 50),
        "first text p95 s": _percentile(tally.first_seconds, 95),
        "per token p50 s": _percentile(tally.token_seconds, 50),
        "per token p95 s": _percentile(tally.token_seconds, 95),
        "memory first MB": known[0] if known else None,
        "memory most MB": max(known, default=None),
        "memory last MB": known[-1] if known else None,
        "memory": tally.memory,
    }


def _percentile(values: Sequence[float], percent: int) -> float | None:
    return (
        statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
        if len(values) > 1
        else None
    )


def _resident_megabytes(process: int | None) -> float:
    """Return the resident memory of a process; 0 if the system does not report it."""
    status = Path(f"/proc/{process}/status")
    try:
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmRSS:")]
    except (OSError, ValueError):
        return 0.0
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
