"""Render answers with their sources for people: terminal, Markdown, HTML."""

from nest_engine.citations.rendering.html import to_html, to_html_fragment
from nest_engine.citations.rendering.layout import lay_out, printable, statistics_line, token_label
from nest_engine.citations.rendering.markdown import to_markdown
from nest_engine.citations.rendering.terminal import to_terminal

__all__ = [
    "lay_out",
    "printable",
    "statistics_line",
    "to_html",
    "to_html_fragment",
    "to_markdown",
    "to_terminal",
    "token_label",
]
