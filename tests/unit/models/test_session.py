"""Rows of different length are read as if each were alone."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from tests.tiny_models import EVERY
from tests.unit.models.tiny_language_models import language_model


@pytest.mark.filterwarnings("ignore:.*rows of this batch are decoded one after the other")
@pytest.mark.parametrize("name", EVERY)
def test_uneven_rows_equal_plain_forwards(name):
    """Extend, cut back within a draft, drop a row, extend again: as if read in one pass."""
    lm = language_model(name)
    texts = [list(range(5, 45)), list(range(60, 90)), list(range(100, 125))]
    with torch.no_grad():
        expected = [lm.model(torch.tensor([text]), use_cache=False).logits[0] for text in texts]
    session, prefills = lm.prefill([text[:n] for text, n in zip(texts, (20, 3, 9), strict=True)])
    for prefill, logits_TV, n in zip(prefills, expected, (20, 3, 9), strict=True):
        torch.testing.assert_close(
            prefill.frontier.logits_V, logits_TV[n - 1], rtol=1e-4, atol=1e-4
        )
    session.extend([[*texts[0][20:22], 1, 1], texts[1][3:9], [*texts[2][9:10], 7]])
    session.truncate([22, 9, 10])
    assert session.lengths == (22, 9, 10)
    session.keep([0, 2])
    outputs = session.extend([texts[0][22:40], texts[2][10:12]])
    torch.testing.assert_close(outputs[0].logits_TV, expected[0][22:40], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(outputs[1].logits_TV, expected[2][10:12], rtol=1e-4, atol=1e-4)
    assert session.lengths == (40, 12)
    with pytest.raises(ValueError, match="row 1 holds 12 tokens and cannot be cut back to 13"):
        session.truncate([40, 13])


def test_a_dropped_session_frees_its_memory_at_once():
    """Keys and values of a long answer would else stay until cycles are collected."""
    session, _ = language_model().prefill([[5, 6, 7]])
    session.extend([[8]])
    keys = weakref.ref(session._cache.layers[0].keys)
    gc.disable()
    try:
        del session
        assert keys() is None
    finally:
        gc.enable()
