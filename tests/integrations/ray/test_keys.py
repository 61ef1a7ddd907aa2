"""Keys from several workers are the ones that one process writes, also after a kill."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="needs: pip install 'nest-engine[ray]'")

import ray

import nest_demo
from nest_engine import ConfigError, IndexMismatchError, KeyCache, KeyStore, NestEngine, Passage
from nest_engine.testing import ScriptedLanguageModel
from nest_integrations.ray import build_keys
from tests.integrations.ray.support import load_demo, load_nothing

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.allow_hosts(["127.0.0.1"])]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def test_workers_write_what_one_process_does(tmp_path: Path) -> None:
    passages = nest_demo.load_passages()  # three batches
    engine = load_demo()
    KeyStore.build(tmp_path / "one", engine.language_model, passages)
    told: list[tuple[int, int]] = []
    store = build_keys(
        tmp_path / "many",
        load_demo,
        passages,
        num_workers=3,
        progress=lambda *now: told.append(now),
        ray_actor_options={"num_cpus": 3},  # the cluster has 8: one of them never starts
    )
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert told == [(0, 191), (64, 191), (128, 191), (191, 191)]

    # What the store is for: an answer without reading a passage.
    [question] = [shipped.question for shipped in nest_demo.load_questions()[:1]]
    expected = engine.ask(question)
    engine.key_cache = KeyCache(store=store)
    answer = engine.ask(question)
    assert (answer.text, answer.stats.encoded_passages) == (expected.text, 0)


PASSAGES = [
    Passage(f"This is passage number {number}.", title=str(number)) for number in range(300)
]


def test_a_killed_build_goes_on_and_workers_that_die_are_replaced(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()

    class Dying(ScriptedLanguageModel):
        def encode(self, passages: Any) -> Any:
            if not (marks / "died").exists():
                (marks / "died").touch()
                os._exit(1)
            return super().encode(passages)

    class Stop(Exception):  # noqa: N818
        pass

    def stop(done: int, total: int) -> None:
        if done >= 128:
            raise Stop

    def load() -> NestEngine:
        return NestEngine(Dying())

    folder = tmp_path / "keys"
    with pytest.raises(Stop):
        build_keys(folder, load, PASSAGES, num_workers=2, key_format="int8", progress=stop)
    assert (marks / "died").exists()
    assert len(KeyStore.open(folder)) == 128
    told: list[tuple[int, int]] = []
    build_keys(
        folder,
        load,
        PASSAGES,
        num_workers=2,
        key_format="int8",
        progress=lambda *now: told.append(now),
    )
    assert told == [(128, 300), (192, 300), (256, 300), (300, 300)]
    KeyStore.build(tmp_path / "one", ScriptedLanguageModel(), PASSAGES, key_format="int8")
    assert contents(folder) == contents(tmp_path / "one")


def test_workers_with_different_models_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> NestEngine:
        model = ScriptedLanguageModel()
        model.fingerprint = f"model of process {os.getpid()}"
        return NestEngine(model)

    # The first worker might have read everything before the second has started.
    wait = ray.wait
    monkeypatch.setattr(ray, "wait", lambda started, **_: wait(started, num_returns=len(started)))
    with pytest.raises(
        IndexMismatchError, match=r"model of pro.*model of pro.*load the same weights everywhere"
    ):
        build_keys(tmp_path, load, PASSAGES, num_workers=2)


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="num_workers=0 is not valid"):
        build_keys(tmp_path, load_demo, PASSAGES, num_workers=0)
    with pytest.raises(ConfigError, match="load_engine is a NestEngine; give a function"):
        build_keys(tmp_path, NestEngine(ScriptedLanguageModel()), PASSAGES, num_workers=1)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="key_format='fp8' is not valid"):
        build_keys(tmp_path, load_demo, PASSAGES, num_workers=1, key_format="fp8")  # type: ignore[arg-type]
    with pytest.raises(
        ray.exceptions.RayActorError,
        match="load_engine returned a str; it has to return a NestEngine",
    ):
        build_keys(tmp_path, load_nothing, PASSAGES, num_workers=1)
