"""Options that several commands take, and their values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from nest_engine.config import METHODS, NestConfig

DEFAULT_EMBEDDER = "sentence-transformers/all-MiniLM-L6-v2"
_WORDS = {"true": "true", "false": "false", "none": "null"}  # Python's spelling, any case, as JSON


class Search(str, Enum):
    """First-stage search."""

    BM25 = "bm25"
    DENSE = "dense"
    HYBRID = "hybrid"


class Keys(str, Enum):
    """Number format of keys on disk."""

    FP16 = "fp16"
    INT8 = "int8"


class Format(str, Enum):
    """How an answer is written."""

    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"
    JSON = "json"


Method = Annotated[
    str | None, typer.Option("--method", help=f"How to decode: {', '.join(METHODS)}.")
]
OwnWords = Annotated[
    float | None,
    typer.Option(
        "--own-words",
        min=0.0,
        max=1.0,
        help="The model's share in the choice of each sentence of nest and ra-nest: 0 nothing "
        "but quotations, 1 its own words. Default: 0.1.",
    ),
]
SearchOption = Annotated[
    Search | None,
    typer.Option(
        "--search",
        help="First-stage search: by keyword, by vector, or both. Default: bm25; hybrid with "
        "--embedder.",
    ),
]
EmbedderOption = Annotated[
    str | None,
    typer.Option("--embedder", help=f"Embedding model for vectors. Default: {DEFAULT_EMBEDDER}."),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object and nothing else on stdout.")
]
Model = Annotated[
    str | None,
    typer.Option("--model", help="Hub id, folder or .gguf file. Default: the demo model."),
]
Load = Annotated[
    list[str] | None,
    typer.Option(
        "--load",
        metavar="NAME=VALUE",
        help="How to load the model, repeatable: device=cuda, dtype=bfloat16, device_map=auto, "
        "static_cache=true, and whatever else NestEngine.from_pretrained takes.",
    ),
]
Tuned = Annotated[
    Path | None,
    typer.Option("--tuned", help="Settings that `nest tune` wrote, as the model's defaults."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; repeatable."),
]


def parse_settings(pairs: Sequence[str] | None = None, **options: Any) -> dict[str, Any]:
    """Return the given settings, checked before any slow step; ``--set`` wins over an option."""
    settings = {name: value for name, value in options.items() if value is not None}
    settings |= dict(parse_setting(pair) for pair in pairs or ())
    NestConfig.from_dict(settings)
    return settings


def parse_setting(pair: str, option: str = "--set") -> tuple[str, Any]:
    """Read ``name=value`` of an option, the value as JSON or in Python's spelling, else as text."""
    name, equals, value = pair.partition("=")
    if not equals:
        raise typer.BadParameter(f"{pair!r} is not of the form name=value", param_hint=option)
    try:
        return name.strip(), json.loads(_WORDS.get(value.strip().lower(), value))
    except ValueError:
        return name.strip(), value
