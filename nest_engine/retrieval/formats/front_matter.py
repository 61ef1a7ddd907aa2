"""What stands in front of a Markdown file about it: YAML, TOML, JSON, or lines of Pandoc."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from typing import Any

from nest_engine._optional import require

if sys.version_info >= (3, 11):
    import tomllib

# Two rules with a blank line behind the first have text between them.
_FRONT_MATTER = re.compile(
    r"(---|\+\+\+)[ \t]*\r?\n(?![ \t]*\r?\n)(.*?)^(?:\1|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.S | re.M
)
# Title, authors and date, of which the latter may be missing.
_TITLE_BLOCK = re.compile(r"%[ \t]+(\S[^\r\n]*)\r?\n(?:%[^\r\n]*\r?\n){0,2}(?=[ \t]*\r?\n)")
_TOML_TITLE = re.compile(r"""^\s*title\s*=\s*(?:"([^"\n]*)"|'([^'\n]*)')""", re.MULTILINE)
_FIELD = re.compile(r"""(?:"[^"\n]+"|'[^'\n]+'|[^\s:#"'\-][^:\n]*):(?:\s|\Z)""")
_NO_FIELD = re.compile(r"\s|#|[-*] |[\]}]")  # what may stand on a line of its own beside fields
_QUOTED_VALUE = re.compile(r"""(:[ \t]+)(?:"[^"]*"|'[^']*')(?=\s)""")
_TITLE_FIELD = re.compile(r"""^["']?title["']?:[ \t]*(.+)""", re.MULTILINE | re.IGNORECASE)
_NO_TITLE = re.compile(r"^title:[ \t]*(?:~|null)[ \t]*(?:#.*)?\r?$", re.MULTILINE | re.IGNORECASE)
_LINE_END = re.compile(r"[ \t]*\r?\n")
_LONGEST = 1 << 16  # characters of YAML: parsing without libyaml takes some seconds


def front_matter(source: str) -> tuple[str, int]:
    """Return the title that front matter gives a file, and where it ends; 0 if there is none."""
    if source.startswith("{"):
        return _json(source)
    if block := _TITLE_BLOCK.match(source):
        return block[1].strip(), block.end()
    found = _FRONT_MATTER.match(source)
    if found is None:
        return "", 0
    title = _toml_title(found[2]) if found[1] == "+++" else _yaml_title(found[2])
    return ("", 0) if title is None else (title, found.end())


def _json(source: str) -> tuple[str, int]:
    try:
        fields, end = json.JSONDecoder().raw_decode(source)
    except (ValueError, RecursionError):
        return "", 0
    is_in_front = bool(fields and _LINE_END.match(source, end) and source[end:].strip())
    return (_title_of(fields), end) if is_in_front else ("", 0)


def _toml_title(source: str) -> str:
    source = source.replace("\r\n", "\n")
    if sys.version_info >= (3, 11):
        try:
            return _title_of(tomllib.loads(source))
        except (ValueError, RecursionError):  # a slip
            pass
    title = _TOML_TITLE.search(f"\n{source}".partition("\n[")[0])
    return (title[1] or title[2]) if title else ""


def _yaml_title(source: str) -> str | None:
    """Return the title as it is written; None if this is no front matter."""
    yaml = require("yaml", "pyyaml")
    if len(source) <= _LONGEST:
        try:
            # Without types: 2.10 is not a number, nor No a truth value.
            fields = yaml.load(source, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
        except (yaml.YAMLError, ValueError, RecursionError):
            pass
        else:
            is_front_matter = isinstance(fields, dict) or not source.strip()
            title = "" if _NO_TITLE.search(source) else _title_of(fields)
            return title if is_front_matter else None
    # A colon too many is a common slip; anything else is a text between two rules.
    source = textwrap.dedent(source)
    lines = [line for line in _QUOTED_VALUE.sub(r"\1", source).splitlines() if line.strip()]
    fields = [line for line in lines if _FIELD.match(line)]
    if not fields or not all(_FIELD.match(line) or _NO_FIELD.match(line) for line in lines):
        return None
    slip = _TITLE_FIELD.search(source)
    title = slip[1].strip() if slip else ""
    quote = title[:1]
    return title.strip(f" {quote}") if quote in "\"'" and title.count(quote) <= 2 else title


def _title_of(fields: Any) -> str:
    if not isinstance(fields, dict):
        return ""
    title = {str(name).lower(): value for name, value in fields.items()}.get("title")
    return str(title) if isinstance(title, (str, int, float)) else ""
