"""The title of a reStructuredText file; by the parser docutils."""

from __future__ import annotations

from nest_engine._optional import require

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
