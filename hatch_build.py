"""Build hook: the wheel for a package index goes without the 7M model, most of its size."""

from __future__ import annotations

import os
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface[Any]):
    """Add the model of `nest_demo`, unless NEST_WITHOUT_MODEL says otherwise: see `make dist`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Say which files the wheel has beside its packages."""
        if version != "editable" and not os.environ.get("NEST_WITHOUT_MODEL"):
            build_data["force_include"]["nest_demo/model"] = "nest_demo/model"
