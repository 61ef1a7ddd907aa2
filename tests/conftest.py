"""Shared fixtures. Nothing here or in any test reaches the network."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import pytest
import torch
import transformers

from nest_engine import NestEngine
from tests.tiny_models import tiny_model, tiny_tokenizer

torch.set_num_threads(1)  # tiny models spend more time waking threads than computing
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """LangChain's standard tests bring a benchmark plugin; the test command measures nothing."""
    if hasattr(config.option, "benchmark_disable"):
        config.option.benchmark_disable = True


@pytest.fixture(scope="session")
def tiny_engine() -> NestEngine:
    """An engine on a tiny random Llama."""
    return NestEngine(tiny_model("llama"), tiny_tokenizer())


@pytest.fixture(scope="session")
def demo_engine() -> NestEngine:
    """An engine on the shipped model, in float32."""
    import nest_demo

    return nest_demo.load_engine()
