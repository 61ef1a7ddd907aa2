"""Tiny language models: whole, saved, or in parts of which accelerate keeps some on disk."""

from __future__ import annotations

from pathlib import Path

import torch

from nest_engine import NestEngine, Passage
from nest_engine.models.huggingface import HuggingFaceLanguageModel
from tests.tiny_models import tiny_model, tiny_tokenizer

QUOTING = {
    "by_sentence": False,
    "plausibility": 0.0,
    "delta": 1.0,
    "gamma": 0.0,
    "max_new_tokens": 24,
    "adaptive_draft": False,
}
PLANETS = [
    Passage(
        "A planet is a body that moves around a star. A moon is a body that moves around a planet."
    )
]


def language_model(name: str = "llama", **changes) -> HuggingFaceLanguageModel:
    return HuggingFaceLanguageModel(tiny_model(name, **changes), tiny_tokenizer())


def saved(folder: Path, **changes) -> str:
    tiny_model("llama", **changes).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def in_parts(folder: Path, *on_disk: str) -> NestEngine:
    """Return an engine of which accelerate keeps the named parts on disk, the others in memory."""
    parts = [
        f"model.{part}"
        for part in ("embed_tokens", "layers.0", "layers.1", "layers.2", "norm", "rotary_emb")
    ]
    return NestEngine.from_pretrained(
        str(folder),
        dtype=torch.float32,
        device_map={part: "disk" if part in on_disk else "cpu" for part in [*parts, "lm_head"]},
        offload_folder=str(folder / "offloaded"),
    )
