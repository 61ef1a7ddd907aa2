"""The title of a reStructuredText file, by the parser docutils, and what of it may be quoted."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nest_engine._optional import require
from nest_engine.retrieval.formats.ranges import Ranges, complement

_LOOKED_AT = 1 << 15  # characters: docutils reads some hundred thousand a second
# Nothing is read from other files, nothing is printed, and no mistake is fatal.
_SETTINGS = {
    "_disable_config": True,
    "doctitle_xform": False,
    "file_insertion_enabled": False,
    "halt_level": 5,
    "raw_enabled": False,
    "report_level": 5,
}
# Explicit markup that is no comment: a target, a note, a substitution, a directive.
_COMMENT = re.compile(
    r"\.\.(?: (?!\s*(?:_\S|\[[^\]\s]+\](?:\s|\Z)|\|\S|\w[\w:.+-]*? ?::(?:\s|\Z)))|\s*\Z)"
)
_LITERAL = re.compile(r"(?!\.\. ).*::\s*\Z|\.\. (?:code|code-block|parsed-literal|sourcecode)::")


def quotable_in(source: str) -> Ranges:
    """Return the character ranges of a file without its comments."""
    return complement(_comments(source), 0, len(source))


def _comments(source: str) -> Iterator[tuple[int, int]]:
    """Yield where comments stand: blocks behind two full stops that are nothing else."""
    block = literal = -1  # columns of the comment, and of what a block of code stands below
    may_begin = True  # behind an empty line or another block of explicit markup
    start = end = 0
    lines = source.splitlines(keepends=True)
    for number, line in enumerate(lines):
        here, end = end, end + len(line)
        text = line.strip()
        if not text:
            may_begin = True
            continue
        column = len(line.expandtabs()) - len(line.expandtabs().lstrip())
        if block >= 0 and column <= block:
            yield start, here
            block, may_begin = -1, True
        if literal >= 0 and column <= literal:
            literal = -1
        if block >= 0 or literal >= 0:
            continue
        if may_begin and _COMMENT.match(text):
            following = lines[number + 1].strip() if number + 1 < len(lines) else ""
            if len(text) > 2 or following:  # a comment without text ends at once
                block, start = column, here
        elif _LITERAL.match(text):
            literal = column
        may_begin = text.startswith(".. ")
    if block >= 0:
        yield start, end


def title_of(source: str) -> str:
    """Return the title of the first section; empty if there is none.

    Raises:
        MissingDependencyError: if docutils is not installed.
    """
    core = require("docutils.core", "docutils", "documents")
    nodes = require("docutils.nodes", "docutils", "documents")
    tree = core.publish_doctree(source[:_LOOKED_AT], settings_overrides=_SETTINGS)
    titles = (section.next_node(nodes.title) for section in tree.findall(nodes.section))
    title = next(titles, None)
    return title.astext() if title is not None else ""
