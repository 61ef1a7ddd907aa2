"""Fixtures of the LlamaIndex tests, which import LlamaIndex: its absence skips the tests."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

import nest_demo
from nest_engine import NestEngine
from tests.tiny_models import tiny_model, tiny_tokenizer


@pytest.fixture(scope="session")
def demo_llm(demo_engine: NestEngine) -> Any:
    """The shipped model as an LLM."""
    from nest_integrations.llama_index import NestLLM

    return NestLLM(engine=demo_engine, max_new_tokens=40)


@pytest.fixture(scope="session")
def chat_engine() -> NestEngine:
    """An engine on a tiny random model with a chat template."""
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content "
        "}}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return NestEngine(tiny_model("llama", max_position_embeddings=2048), tokenizer)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of text files: several passages of the shipped corpus and difficult characters."""
    folder = tmp_path_factory.mktemp("corpus")
    texts = {passage.id: passage.text for passage in nest_demo.load_passages()}
    for name, ids in {
        "planets.txt": ["mars", "jupiter", "saturn", "uranus", "neptune"],
        "moons.txt": ["moon", "titan", "europa"],
        "small bodies.txt": ["pluto", "ceres", "halleys-comet"],
    }.items():
        paragraphs = ["\ufeffKleine Körper 🪐 e\u0301", *(texts[number] for number in ids)]
        (folder / name).write_bytes("\r\n\r\n".join(paragraphs).encode())
    return folder


@pytest.fixture(scope="session")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one text file for each of a few passages of the shipped corpus."""
    folder = tmp_path_factory.mktemp("notes")
    for passage in nest_demo.load_passages():
        if passage.id in (
            "mars",
            "jupiter",
            "saturn",
            "uranus",
            "neptune",
            "moon",
            "titan",
            "europa",
            "pluto",
        ):
            (folder / f"{passage.title}.txt").write_text(passage.text, encoding="utf-8")
    return folder
