"""Models that do not decode in steps what they compute in one pass are refused."""

from __future__ import annotations

import pytest
import transformers as hf

from nest_engine import UnsupportedModelError
from nest_engine.models.huggingface import HuggingFaceLanguageModel
from tests.tiny_models import tiny_tokenizer


def test_positions_derived_from_padding_are_refused():
    """BLOOM builds its position bias from a 2D padding mask: the exactness check has to notice."""
    config = hf.BloomConfig(vocab_size=336, hidden_size=32, n_layer=2, n_head=4)
    with pytest.raises(UnsupportedModelError, match="BloomForCausalLM"):
        HuggingFaceLanguageModel(hf.BloomForCausalLM(config), tiny_tokenizer())
