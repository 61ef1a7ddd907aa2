"""Keys on disk: the same answers without reading again, also after a kill; no other model's."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nest_demo
from nest_engine import (
    ConfigError,
    CorruptIndexError,
    IndexMismatchError,
    InputError,
    KeyCache,
    KeyStore,
    NestEngine,
    Passage,
    PassageIndexError,
)
from nest_engine._file_lock import hold
from nest_engine.models.huggingface import HuggingFaceLanguageModel
from nest_engine.testing import ScriptedLanguageModel
from tests.settings import WORD_BY_WORD
from tests.tiny_models import tiny_model, tiny_tokenizer

FORMATS = ("fp16", "int8")


@pytest.fixture(scope="module")
def language_model() -> HuggingFaceLanguageModel:
    return HuggingFaceLanguageModel(tiny_model("llama"), tiny_tokenizer())


@pytest.fixture(scope="module")
def passages() -> list[Passage]:
    """More than are encoded together, one twice, one without a key and one without a token."""
    found = [
        replace(passage, text=passage.text[:30]) for passage in nest_demo.load_passages()[:150]
    ]
    return [*found, found[0], Passage("A"), Passage(" ")]


def assert_holds(
    store: KeyStore, language_model: Any, passages: list[Passage], *, atol: float
) -> None:
    for passage in passages:
        held = store.get(language_model.fingerprint, passage)
        assert held is not None
        tokens = language_model.tokenizer.encode_passage(passage)
        [keys_TD] = language_model.encode([tokens])
        assert (held.tokens.token_ids, held.tokens.starts, held.tokens.ends) == (
            tokens.token_ids,
            tokens.starts,
            tokens.ends,
        )
        assert held.first == len(tokens.token_ids) - len(keys_TD)
        torch.testing.assert_close(held.keys_TD.float(), keys_TD, rtol=0, atol=atol)


@pytest.mark.parametrize(("key_format", "atol"), [("fp16", 2e-3), ("int8", 4e-2)])
def test_keys_come_back_as_they_were_computed(
    tmp_path: Path,
    language_model: HuggingFaceLanguageModel,
    passages: list[Passage],
    key_format: Any,
    atol: float,
) -> None:
    built = KeyStore.build(tmp_path, language_model, passages, key_format=key_format)
    assert_holds(built, language_model, passages, atol=atol)
    opened = KeyStore.open(tmp_path, language_model=language_model)
    assert_holds(opened, language_model, passages, atol=atol)
    assert len(opened) == len(set(passages))
    assert opened.get(language_model.fingerprint, Passage("unknown")) is None
    assert opened.get("another model", passages[0]) is None


def test_int8_is_off_by_half_a_step_at_most(
    tmp_path: Path, language_model: HuggingFaceLanguageModel
) -> None:
    [passage] = nest_demo.load_passages()[:1]
    held = KeyStore.build(tmp_path, language_model, [passage], key_format="int8").get(
        language_model.fingerprint, passage
    )
    [keys_TD] = language_model.encode([language_model.tokenizer.encode_passage(passage)])
    assert held is not None
    steps_T1 = keys_TD.abs().amax(-1, keepdim=True) / 127
    assert ((held.keys_TD - keys_TD).abs() <= steps_T1 * 0.501).all()


@pytest.mark.parametrize("key_format", FORMATS)
def test_an_engine_answers_without_reading_a_passage(
    tmp_path: Path, passages: list[Passage], key_format: Any
) -> None:
    language_model = ScriptedLanguageModel("Helium is a chemical element.")
    expected = NestEngine(language_model).generate("Tell me.", passages=passages[:20])
    store = KeyStore.build(tmp_path, language_model, passages[:20], key_format=key_format)
    before = language_model.num_encoded
    output = NestEngine(language_model, key_cache=KeyCache(store=store)).generate(
        "Tell me.", passages=passages[:20]
    )
    assert (output.stats.encoded_passages, language_model.num_encoded) == (0, before)
    assert output.text == expected.text
    assert output.citations == expected.citations


def test_what_the_store_lacks_is_computed(tmp_path: Path, passages: list[Passage]) -> None:
    language_model = ScriptedLanguageModel("Helium")
    store = KeyStore.build(tmp_path, language_model, passages[:3])
    engine = NestEngine(language_model, key_cache=KeyCache(store=store), config=WORD_BY_WORD)
    assert engine.generate("Tell me.", passages=passages[:5]).stats.encoded_passages == 2
    assert engine.generate("Tell me.", passages=passages[:5]).stats.encoded_passages == 0


class _KilledError(Exception):
    pass


@pytest.mark.parametrize("key_format", FORMATS)
@pytest.mark.parametrize("killed_after", [1, 2])
def test_a_killed_build_goes_on(
    tmp_path: Path,
    passages: list[Passage],
    key_format: Any,
    killed_after: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    language_model = ScriptedLanguageModel()
    encode = language_model.encode
    calls = iter(range(100))

    def encode_or_die(batch: Any) -> Any:
        if next(calls) == killed_after:
            raise _KilledError
        return encode(batch)

    monkeypatch.setattr(language_model, "encode", encode_or_die)
    with pytest.raises(_KilledError):
        KeyStore.build(tmp_path, language_model, passages, key_format=key_format)
    # The last write of a killed process may be cut anywhere.
    for name in ("keys", "tokens", "passages"):
        with (tmp_path / f"{name}.bin").open("ab") as file:
            file.write(b"\1\2\3")
    monkeypatch.setattr(language_model, "encode", encode)
    done = language_model.num_encoded
    told: list[tuple[int, int]] = []
    store = KeyStore.build(
        tmp_path,
        language_model,
        passages,
        key_format=key_format,
        progress=lambda *progress: told.append(progress),
    )
    assert language_model.num_encoded == len(set(passages))  # nothing twice
    assert told[0] == (done + 1, len(passages))  # one passage stands there twice
    assert told[-1] == (len(passages), len(passages))
    assert_holds(store, language_model, passages, atol=4e-2)
    fresh = KeyStore.build(
        tmp_path / "fresh", ScriptedLanguageModel(), passages, key_format=key_format
    )
    assert (tmp_path / "keys.bin").read_bytes() == (tmp_path / "fresh" / "keys.bin").read_bytes()
    assert store.nbytes == fresh.nbytes


def test_a_grown_index_costs_its_new_passages_only(tmp_path: Path, passages: list[Passage]) -> None:
    language_model = ScriptedLanguageModel()
    KeyStore.build(tmp_path, language_model, passages[:10])
    KeyStore.build(tmp_path, language_model, passages[5:20])
    assert language_model.num_encoded == 20


def test_keys_of_another_model_or_format_are_replaced(
    tmp_path: Path, passages: list[Passage]
) -> None:
    old, new = ScriptedLanguageModel(), ScriptedLanguageModel(memory=5)
    KeyStore.build(tmp_path, old, passages[:10])
    assert len(KeyStore.build(tmp_path, new, passages[:4])) == 4
    with pytest.raises(
        IndexMismatchError, match=r"scripted, me.*scripted, me.*build them with this model"
    ):
        KeyStore.open(tmp_path, language_model=old)
    store = KeyStore.build(tmp_path, new, passages[:4], key_format="int8")
    assert (store.format, len(store)) == ("int8", 4)


@pytest.mark.parametrize("name", ["keys", "tokens", "scales"])
def test_a_file_that_lost_its_end_is_refused(
    tmp_path: Path, passages: list[Passage], name: str
) -> None:
    language_model = ScriptedLanguageModel()
    KeyStore.build(tmp_path, language_model, passages[:3], key_format="int8")
    path = tmp_path / f"{name}.bin"
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(CorruptIndexError, match="remove the folder"):
        KeyStore.open(tmp_path)
    with pytest.raises(CorruptIndexError, match="remove the folder"):
        KeyStore.build(tmp_path, language_model, passages[:3], key_format="int8")
    path.unlink()
    with pytest.raises(CorruptIndexError, match="remove the folder"):
        KeyStore.open(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", '{"version": 9}', "[]"])
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(CorruptIndexError, match="damaged"):
        KeyStore.open(tmp_path)


def test_no_keys_is_an_error_that_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(PassageIndexError, match=r"nest index build DIR --out INDEX --keys"):
        KeyStore.open(tmp_path)


def test_one_builder_at_a_time(tmp_path: Path) -> None:
    with (
        hold(tmp_path / ".lock", "it"),
        pytest.raises(PassageIndexError, match="another process is building the keys"),
    ):
        KeyStore.build(tmp_path, ScriptedLanguageModel(), [Passage("text")])


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"key_format='fp8' is not valid: expected fp16 or int8"):
        KeyStore.build(tmp_path, ScriptedLanguageModel(), [Passage("text")], key_format="fp8")  # type: ignore[arg-type]


def test_keys_beyond_fp16_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    language_model = ScriptedLanguageModel()
    encode = language_model.encode
    monkeypatch.setattr(
        language_model, "encode", lambda batch: [1e6 * keys_TD for keys_TD in encode(batch)]
    )
    with pytest.raises(InputError, match="use int8"):
        KeyStore.build(tmp_path, language_model, [Passage("some text")])
    store = KeyStore.build(tmp_path, language_model, [Passage("some text")], key_format="int8")
    assert len(store) == 1


def test_a_full_disk_is_noticed_after_the_first_batch(
    tmp_path: Path, passages: list[Passage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(InputError, match=r"\d+ more passages need about .* GB"):
        KeyStore.build(tmp_path, ScriptedLanguageModel(), passages)
    assert len(KeyStore.open(tmp_path)) == 64


def test_the_manifest_says_what_the_files_hold(tmp_path: Path) -> None:
    store = KeyStore.build(tmp_path, ScriptedLanguageModel(), [Passage("text")])
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["width"] == store.width
    keys = np.fromfile(tmp_path / "keys.bin", np.float16).reshape(-1, store.width)
    assert len(keys) in (3, 4)
