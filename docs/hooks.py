"""What the site needs beyond `docs/`: pictures of benchmarks; and no links that lead out of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
_PICTURE = re.compile(r"\]\(\.\./benchmarks/results/(\w+\.png)\)")
_OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\(\.\./([^)#]+)(?:#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pictures that benchmarks have drawn."""
    for picture in RESULTS.glob("*.png"):
        files.append(File.generated(config, f"images/{picture.name}", abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead to those pictures, and name files of the repository instead of linking to them."""
    return _OUTSIDE.sub(r"\1 (`\2`)", _PICTURE.sub(r"](images/\1)", markdown))
