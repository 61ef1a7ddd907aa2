"""Names for objects, so that caches never confuse two of them."""

from __future__ import annotations

import uuid
import weakref
from collections.abc import Callable

_NAMES: dict[int, tuple[Callable[[], object], str]] = {}


def name_of(thing: object) -> str:
    """Return the fingerprint of an object; without one, a name that is unique for all time."""
    known = _NAMES.get(id(thing))
    if known is None or known[0]() is not thing:
        fingerprint = getattr(thing, "fingerprint", None)
        address, name = id(thing), fingerprint if isinstance(fingerprint, str) else uuid.uuid4().hex
        try:
            known = weakref.ref(thing, lambda _: _NAMES.pop(address, None)), name
        except TypeError:  # no weak reference: kept alive, so that its address is not reused
            known = (lambda: thing), name
        _NAMES[address] = known
    return known[1]
