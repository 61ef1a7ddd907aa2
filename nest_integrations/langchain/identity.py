"""Names for objects, so that caches never take one for another."""

from __future__ import annotations

import uuid
import weakref

_NAMES: dict[int, tuple[weakref.ref[object], str]] = {}


def name_of(thing: object) -> str:
    """Return the fingerprint of an object, computed once; else a name that no other object has or will have."""
    known = _NAMES.get(id(thing))
    if known is None or known[0]() is not thing:
        fingerprint = getattr(thing, "fingerprint", None)
        address, name = id(thing), fingerprint if isinstance(fingerprint, str) else uuid.uuid4().hex
        known = weakref.ref(thing, lambda _: _NAMES.pop(address, None)), name
        _NAMES[address] = known
    return known[1]
