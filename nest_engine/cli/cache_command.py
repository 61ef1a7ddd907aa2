"""The command ``nest cache``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from nest_engine._cache_folder import models_folder
from nest_engine.cli.console import STDERR, STDOUT, remark, reports_errors, show_rows
from nest_engine.errors import InputError


@reports_errors
def cache(
    remove: Annotated[
        list[str] | None,
        typer.Option("--remove", metavar="NAME", help="Delete this model; repeatable."),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Delete all of them.")] = False,
) -> None:
    """Show the models that were converted, where they are, and delete them."""
    models = {path.name: path for path in sorted(models_folder().glob("*")) if path.is_dir()}
    for name in remove or ():
        if name not in models:
            raise InputError(
                f"there is no model {name!r} in {models_folder()}; it has "
                f"{', '.join(models) or 'none'}"
            )
    for name in models if clear else remove or ():
        shutil.rmtree(models[name])
        remark("deleted", str(models[name]))
    if clear or remove:
        return
    if not models:
        STDERR.print(f"no models in {models_folder()}", soft_wrap=True)
        return
    rows = [{"model": name, "MB": round(_size(path) / 1e6)} for name, path in models.items()]
    show_rows(str(models_folder()), rows)
    STDOUT.print("nest cache --remove MODEL deletes one; it is converted again when it is needed")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
