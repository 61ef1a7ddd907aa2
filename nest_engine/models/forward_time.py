"""What a token more costs a model's forward, measured once on the machine it runs on.

The figure is kept in the cache folder: in bfloat16 the width of a forward decides how it rounds, so
that answers would differ from run to run with the clock.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import statistics
import time

import torch

from nest_engine._cache_folder import cache_folder, write_whole
from nest_engine.interfaces import ForwardCost, LanguageModel, Session

_WIDE = 32  # tokens of the forward that tells what wide forwards cost
_REPEATS = 7


def forward_cost(language_model: LanguageModel) -> ForwardCost:
    """Return how the time of a forward grows with its tokens.

    Two tokens are the shortest draft: the second costs a CPU far more than those after it. From
    there a line through the medians at both ends is enough: choosing a draft length needs no
    better, and a noisy machine offers no better.

    Args:
        language_model: the model.

    Returns:
        the cost, kept between a GPU's and a slow CPU's; what was measured first for this model on
        this device, where the cache folder can keep it.
    """
    file = cache_folder() / "forward_time" / f"{_identity(language_model)}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # none yet, or spoilt
        kept = json.loads(file.read_text(encoding="utf-8"))
        return ForwardCost(two=float(kept["two"]), more=float(kept["more"]))
    cost = _measured(language_model)
    with contextlib.suppress(OSError):
        write_whole(file, json.dumps(cost._asdict()))
    return cost


def _identity(language_model: LanguageModel) -> str:
    """Return a name for the model on its device, with the release of torch that computes."""
    device = language_model.device
    where = [torch.__version__, device.type, platform.node(), platform.machine()]
    where.append(getattr(language_model, "execution", "torch"))
    where.append(
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{torch.get_num_threads()} threads"
    )
    return hashlib.sha256("\n".join([language_model.fingerprint, *where]).encode()).hexdigest()


def _measured(language_model: LanguageModel) -> ForwardCost:
    """Time forwards over one, two and many tokens, in turns: a busy moment meets all."""
    context = language_model.context_length or 2 * _WIDE + 1
    prompt_length = min(_WIDE, context - 1)
    session, _ = language_model.prefill([[0] * prompt_length])
    widths = [min(width, context - prompt_length) for width in (1, 2, _WIDE)]
    seconds = [[_seconds(session, width) for width in widths] for _ in range(_REPEATS)]
    one, two, wide = (statistics.median(of_width) for of_width in zip(*seconds, strict=True))
    more = (wide / two - 1) / (_WIDE - 2)
    return ForwardCost(two=min(max(two / one, 1.0), 2.0), more=min(max(more, 0.001), 0.5))


def _seconds(session: Session, width: int) -> float:
    """Return the time of a forward over ``width`` tokens behind a session's only prompt."""
    [prompt_length] = session.lengths
    start = time.perf_counter()
    outputs = session.extend([[0] * width])
    float(outputs[0].logits_TV[-1, 0])  # reading a number waits for the device
    elapsed = time.perf_counter() - start
    session.truncate([prompt_length])
    return elapsed
