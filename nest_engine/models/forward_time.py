"""What a token more costs a model's forward, measured on the machine it runs on."""

from __future__ import annotations

import statistics
import time

from nest_engine.interfaces import LanguageModel

_WIDE = 32  # tokens of the forward that tells what wide forwards cost
_REPEATS = 5


def marginal_token_cost(language_model: LanguageModel) -> float:
    """Measure the time of one more token in a forward, relative to a forward over two tokens.

    Two tokens are the shortest draft: the second costs a CPU far more than those after it, and
    every draft has it. A line through the medians at both ends is enough: choosing a draft length
    needs no better, and a noisy machine offers no better.

    Args:
        language_model: the model.

    Returns:
        the cost, kept between a GPU's and a slow CPU's.
    """
    two, wide = _seconds(language_model, 2), _seconds(language_model, _WIDE)
    return min(max((wide / two - 1) / (_WIDE - 2), 0.001), 0.2)


def _seconds(language_model: LanguageModel, width: int) -> float:
    """Return the median time of a forward over ``width`` tokens behind a short prompt."""
    context_length = language_model.context_length
    prompt_length = min(_WIDE, (context_length or _WIDE + 1) - 1)
    session, _ = language_model.prefill([[0] * prompt_length])
    width = min(width, (context_length or prompt_length + width) - prompt_length)
    seconds = []
    for _ in range(_REPEATS):
        session.truncate([prompt_length])
        start = time.perf_counter()
        outputs = session.extend([[0] * width])
        float(outputs[0].logits_TV[-1, 0])  # reading a number waits for the device
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
