"""What only looks like a quotation: literals of code, JSON, HTML and Markdown."""

from __future__ import annotations

import json
import re

_INLINE = re.compile(r"(?<!`)`(?![`\s])[^`\n]*(?<![`\s])`(?!`)")
_CODE = re.compile(
    r"^[ \t]*(?P<fence>`{3,}|~{3,})[ \t]*(?P<language>[^\s`]*)[^\n`]*\n(?P<block>.*?)"
    rf"(?:^[ \t]*(?P=fence)[`~]*[ \t]*$|\Z)|{_INLINE.pattern}",
    re.DOTALL | re.MULTILINE,
)
# What is in a block is no code.
_PROSE = frozenset(["markdown", "md", "text", "txt"])
_TAG = re.compile(
    r"<[A-Za-z][\w-]*(?:\s+[\w:-]+(?:\s*=\s*(?:\"[^\"<>\n]*\"|'[^'<>\n]*'|[^\s\"'<>]+))?)+\s*/?>"
)
_LINK_TITLE = re.compile(
    r"(?:(?<=\]\()|^[ \t]*\[[^\[\]\n]{1,100}\]:[ \t]+<?(?:https?:|www\.|[/#]))[^()\s]{1,500}[ \t]+"
    r"(?:\"[^\"\n]*\"|'[^'\n]*')(?=\)|[ \t]*$)",
    re.MULTILINE,
)
_ATTRIBUTE = re.compile(r"\"[^\"]*\"|'[^']*'")
_JSON = re.compile(r"(?m:^[ \t]*)(?=[{\[]\s*[\"{\[])")
_OBJECT = re.compile(r'(?:\[\s*)?\{\s*"(?:[^"\\\n]|\\.)*"\s*:')
_DECODER = json.JSONDecoder()
_MOST_FAILED = 8
_STRING = re.compile(r'"((?:[^"\\\n]|\\.)*)"(\s*:)?')
# What keys call a string that is quoted.
_QUOTED = re.compile(r"quot|excerpt|verbatim|evidence|cited_?text|zitat", re.IGNORECASE)
_HIDDEN = "\0"


def without_literals(text: str) -> str:
    """Hide what is a literal in a text, so that the marks that are left are marks of quotation.

    Code, the keys and strings of JSON (but those that are called quotations), the attributes of
    HTML's tags and the titles of Markdown's links.

    Args:
        text: the text.

    Returns:
        a text of the same length.
    """
    text = _without_json(text)
    text = _CODE.sub(_without_code, text)
    text = _TAG.sub(lambda tag: _ATTRIBUTE.sub(_hidden, tag[0]), text)
    return _LINK_TITLE.sub(_hidden, text)


def _without_code(code: re.Match[str]) -> str:
    block, language = code["block"], (code["language"] or "").lower()
    if block is None:
        return _hidden(code)
    begin, end = (position - code.start() for position in code.span("block"))
    if language in _PROSE:
        inner = _INLINE.sub(_hidden, block)
    elif language.startswith("json"):
        inner = block  # JSON has been seen to
    else:
        return _hidden(code)
    return _hide(code[0][:begin]) + inner + _hide(code[0][end:])


def _without_json(text: str) -> str:
    """Hide the strings of objects and lists of JSON that begin a line."""
    pieces: list[str] = []
    end = failed = 0
    for begin in _JSON.finditer(text):
        if begin.end() < end or failed > _MOST_FAILED:
            continue
        try:
            _, after = _DECODER.raw_decode(text, begin.end())
        except (ValueError, RecursionError):
            failed += 1
            if not _OBJECT.match(text, begin.end()):
                continue
            after = len(text)  # it is cut off, or has a comma too many
        pieces += text[end : begin.end()], _without_strings(text[begin.end() : after])
        end = after
    return "".join((*pieces, text[end:]))


def _without_strings(text: str) -> str:
    """Hide the marks of JSON's own strings; those that are escaped within one are its text's."""
    shown, key = list(text), ""
    for string in _STRING.finditer(text):
        if string[2] is not None:
            key = string[1]
            start, end = string.span(1)
            shown[start - 1 : end + 1] = _HIDDEN * (end - start + 2)
        elif not _QUOTED.search(key):
            start, end = string.span(1)
            shown[start - 1] = shown[end] = _HIDDEN
    return "".join(shown)


def _hidden(match: re.Match[str]) -> str:
    return _hide(match[0])


def _hide(text: str) -> str:
    return re.sub(r"\S", _HIDDEN, text)
