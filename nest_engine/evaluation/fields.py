"""Fields of a record of a data set, in every shape that people write them, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nest_engine._validation import require_text
from nest_engine.records import Passage

_SHOWN = 60  # characters of a value that does not suit


class LayoutError(ValueError):
    """What is wrong with a data set; the message follows the name of the file."""


def text_in(record: Mapping[str, Any], name: str) -> str:
    """Return a field that must hold text.

    Raises:
        KeyError: if the field is missing.
        LayoutError: if it holds something else, or nothing.
    """
    return _text(record[name], name)


def texts_in(record: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return a field that holds a text, a list of texts, or nothing, each text once.

    Numbers are texts, too, and so is ``{"text": ...}``: SQuAD's answers are a list of these, or of
    the library datasets one with a list.

    Raises:
        LayoutError: if it holds anything else.
    """
    given = _unwrapped(record.get(name))
    several = [_unwrapped(each) for each in (given if isinstance(given, list) else [given])]
    expected = "a text, or a list of texts"
    return tuple(
        dict.fromkeys(_text(each, name, expected) for each in several if not _is_blank(each))
    )


def passages_in(record: Mapping[str, Any]) -> tuple[Passage, ...]:
    """Return the passages that come with a question, without blank ones.

    They are a list in ``passages``; or ``context`` is a text, one passage, as in SQuAD.

    Raises:
        KeyError: if a passage has no text.
        LayoutError: if they are of another shape.
    """
    given = record.get("passages")
    if given is None and isinstance(record.get("context"), str):
        given = [{"text": record["context"], "title": _spaced_title(record)}]
    if given is None:
        return ()
    if not isinstance(given, list):
        raise LayoutError(
            f"passages is {_shown(given)}; expected a list of texts, or of objects with a text and "
            "a title"
        )
    passages = (_passage(each) for each in given)
    return tuple(passage for passage in passages if passage.text.strip())


def paragraph_in(record: Mapping[str, Any], article: Mapping[str, Any]) -> Passage:
    """Return a paragraph of SQuAD, titled like its article where that has a title."""
    return _passage({"text": record["context"], "title": _spaced_title(article)})


def _unwrapped(given: Any) -> Any:
    return given["text"] if isinstance(given, Mapping) and "text" in given else given


def _is_blank(given: Any) -> bool:
    return given is None or (isinstance(given, str) and not given.strip())


def _spaced_title(record: Mapping[str, Any]) -> str:
    return "".join(texts_in(record, "title")).replace("_", " ")


def _passage(given: Any) -> Passage:
    if not isinstance(given, Mapping):
        given = {"text": given}
    text = given["text"]
    if not isinstance(text, str):
        raise LayoutError(f"a passage is {_shown(text)}; expected a text")
    title, name = ("".join(texts_in(given, field)) for field in ("title", "id"))
    return Passage(text, title=title, id=name)


def _text(given: Any, name: str, expected: str = "a text") -> str:
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        given = str(given)
    if not isinstance(given, str) or not given.strip():
        raise LayoutError(f"{name} is {_shown(given)}; expected {expected}")
    require_text(name, given)
    return given


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
