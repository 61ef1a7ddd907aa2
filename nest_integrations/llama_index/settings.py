"""Settings under the names of other APIs, translated to NEST's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nest_engine import ConfigError

_ALIASES = {"max_tokens": "max_new_tokens", "stop_strings": "stop"}


def nest_settings(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Translate settings of other APIs to fields of ``NestConfig``, which checks the names.

    Args:
        kwargs: fields of ``NestConfig``, ``max_tokens``, and from transformers ``do_sample``,
            ``stop_strings`` and a ``top_k`` of 0.

    Raises:
        ConfigError: if two names of one setting disagree.
    """
    settings = dict(kwargs)
    for alias, name in _ALIASES.items():
        if alias in settings:
            value = settings.pop(alias)
            if settings.setdefault(name, value) != value:
                raise ConfigError(
                    f"{alias}={value!r} and {name}={settings[name]!r} are one setting; give one of "
                    f"them"
                )
    if settings.get("top_k") == 0:
        settings["top_k"] = None
    if "do_sample" in settings:
        do_sample = settings.pop("do_sample")
        if do_sample and settings.setdefault("temperature", 1.0) == 0:
            raise ConfigError(
                "do_sample=True and temperature=0 contradict each other; give a temperature above 0"
            )
        if not do_sample:
            settings["temperature"] = 0.0
    return settings
