"""Models with different keys have different fingerprints, wherever their weights are."""

from __future__ import annotations

from nest_engine.models.huggingface import HuggingFaceLanguageModel
from tests.tiny_models import tiny_model, tiny_tokenizer
from tests.unit.models.tiny_language_models import in_parts, language_model, saved


def test_fingerprint_tells_models_and_key_layers_apart():
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    fingerprints = {
        HuggingFaceLanguageModel(model, tokenizer).fingerprint,
        HuggingFaceLanguageModel(model, tokenizer, key_layer="penultimate").fingerprint,
        language_model(seed=1).fingerprint,
        language_model("gemma").fingerprint,
    }
    assert len(fingerprints) == 4
    assert HuggingFaceLanguageModel(tiny_model("llama"), tokenizer).fingerprint in fingerprints


def test_the_fingerprint_reads_what_is_on_disk(tmp_path):
    """Two models that differ only in what is offloaded must not take each other's keys."""
    engines = []
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        saved(folder, seed=seed)
        engines.append(
            in_parts(
                folder, "model.embed_tokens", *(f"model.layers.{n}" for n in range(3)), "lm_head"
            )
        )
    first, second = (engine.language_model.fingerprint for engine in engines)
    assert first != second
