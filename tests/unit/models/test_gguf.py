"""GGUF files are models: converted once, whole or not at all, and refused with the reason."""

from __future__ import annotations

import errno
import os
import warnings
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from nest_engine import MissingDependencyError, ModelLoadError, Passage
from nest_engine.cli import app
from nest_engine.models import gguf
from nest_engine.models.huggingface import HuggingFaceLanguageModel
from tests.tiny_models import tiny_tokenizer
from tests.unit.models.tiny_gguf import model_of_the_file, write_gguf


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("NEST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def left_behind(cache: Path) -> list[str]:
    return [path.name for part in ("models", "partial") for path in (cache / part).glob("*")]


def test_a_file_is_the_model_it_was_made_from(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf")
    lm = HuggingFaceLanguageModel.from_pretrained(str(file), dtype="float32")
    ids = torch.tensor([[5, 60, 7, 100, 9, 44]])
    with torch.inference_mode():
        expected = model_of_the_file()(ids).logits
        torch.testing.assert_close(lm.model(ids).logits, expected, rtol=1e-4, atol=1e-4)


def test_tokenizer_template_and_ends_of_turns_come_from_the_file(tmp_path: Path) -> None:
    lm = HuggingFaceLanguageModel.from_pretrained(str(write_gguf(tmp_path / "tiny.gguf")))
    text = "Helium was seen in 1868, 🌙 said the river.\n\nDon't  you know?"
    encoded = lm.tokenizer.encode_prompt(text)
    assert list(encoded.token_ids) == tiny_tokenizer()(text)["input_ids"]
    assert text[encoded.starts[3] : encoded.ends[3]] in text
    assert lm.tokenizer.decode(encoded.token_ids) == text
    asked = lm.tokenizer.format_question("Why?")
    assert asked == "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    end = tiny_tokenizer().convert_tokens_to_ids("<|im_end|>")
    assert end in lm.eos_ids
    assert end not in lm.tokenizer.encode_passage(Passage("a <|im_end|> b")).token_ids


def test_it_is_converted_once(tmp_path: Path, cache: Path, monkeypatch) -> None:
    file = write_gguf(tmp_path / "tiny.gguf")
    first = HuggingFaceLanguageModel.from_pretrained(str(file))
    assert len(left_behind(cache)) == 1
    monkeypatch.setattr(gguf, "_convert", lambda *_: pytest.fail("converted again"))
    again = HuggingFaceLanguageModel.from_pretrained(str(file))
    assert again.fingerprint == first.fingerprint
    [folder] = (cache / "models").iterdir()
    (folder / "gguf.json").unlink()  # deleted by somebody, in part
    monkeypatch.undo()
    monkeypatch.setenv("NEST_CACHE", str(cache))
    HuggingFaceLanguageModel.from_pretrained(str(file))
    assert left_behind(cache) == [folder.name]


def test_a_file_is_hashed_once_until_it_changes(tmp_path: Path, monkeypatch) -> None:
    file = write_gguf(tmp_path / "tiny.gguf")
    folder = gguf.converted(file)
    monkeypatch.setattr(gguf, "_read_digest", lambda _: "0" * 64)
    assert gguf.converted(file) == folder
    with pytest.raises(ModelLoadError, match="and 1234 was expected"):
        gguf.converted(file, "1234")
    os.utime(file, ns=(1, 1))
    assert gguf._digest(file) == "0" * 64


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: b"PK" + data[2:], "is not a GGUF file"),
        (lambda data: data[: len(data) // 2], "cannot be loaded .*may be cut off"),
        (lambda data: data[:200], "cannot be loaded .*may be cut off"),
    ],
)
def test_a_damaged_file_leaves_nothing(tmp_path: Path, cache: Path, spoil, message: str) -> None:
    file = write_gguf(tmp_path / "tiny.gguf")
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(ModelLoadError, match=message):
        HuggingFaceLanguageModel.from_pretrained(str(file))
    assert left_behind(cache) == []


@pytest.mark.parametrize("spoiled", [{"architecture": "abacus"}, {"has_tokenizer": False}])
def test_what_transformers_cannot_read_is_refused(tmp_path: Path, cache: Path, spoiled) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", **spoiled)
    with pytest.raises(ModelLoadError, match=r"tiny\.gguf cannot be loaded"):
        HuggingFaceLanguageModel.from_pretrained(str(file))
    assert left_behind(cache) == []


def test_a_full_disk_leaves_nothing(tmp_path: Path, cache: Path, monkeypatch) -> None:
    file = write_gguf(tmp_path / "tiny.gguf")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(gguf, "_convert", full)
    with pytest.raises(ModelLoadError, match=r"the disk is full: .*NEST_CACHE"):
        HuggingFaceLanguageModel.from_pretrained(str(file))
    assert left_behind(cache) == []


def test_a_file_that_is_not_there_and_a_package_that_is_not(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(ModelLoadError, match=r"nowhere\.gguf cannot be read: No such file"):
        HuggingFaceLanguageModel.from_pretrained(str(tmp_path / "nowhere.gguf"))
    file = write_gguf(tmp_path / "tiny.gguf")
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'nest-engine\[gguf\]'"):
        HuggingFaceLanguageModel.from_pretrained(str(file))


def test_another_way_to_split_text_is_said(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", split="tekken")
    for _ in range(2):  # not when it is converted alone
        with pytest.warns(UserWarning, match=r"tiny\.gguf: the file splits text as 'tekken'"):
            HuggingFaceLanguageModel.from_pretrained(str(file))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        HuggingFaceLanguageModel.from_pretrained(str(write_gguf(tmp_path / "same.gguf")))


def test_the_command_shows_and_deletes(tmp_path: Path, cache: Path) -> None:
    run = CliRunner().invoke
    assert "no models in" in run(app, ["cache"]).stderr
    HuggingFaceLanguageModel.from_pretrained(str(write_gguf(tmp_path / "tiny.gguf")))
    [name] = left_behind(cache)
    assert name in run(app, ["cache"]).stdout
    refused = run(app, ["cache", "--remove", "other"])
    assert (refused.exit_code, left_behind(cache)) == (1, [name])
    assert "there is no model 'other'" in refused.stderr
    assert run(app, ["cache", "--remove", name]).exit_code == 0
    assert left_behind(cache) == []
