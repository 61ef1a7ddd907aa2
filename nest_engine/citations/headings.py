"""What the sentences of a source stand below: a heading, or a question that they answer.

"How do I return a product?" is not answered by the heading of those words, but by what stands below
it, which may not say again what it is about ("Send it back within 30 days.").
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from nest_engine.citations.sentences import (
    BLANK_LINE,
    CLOSING_SIGNS,
    ENDS_PROSE,
    Sentence,
    ends_of_headings,
    is_question,
)

_LONGEST = 100  # characters of a heading
_MOST_IN_FRONT = 2  # headings at the beginning of a text; more would be a list
_ITEM = re.compile(r"[-*+•–]|\d{1,3}[.)]|[|>]")
_CONTENTS = re.compile(r"(?:\.{4}|(?: \.){4}|…{2})[ .…]*\d{1,4}\Z")  # a heading and its page
_NO_LEVEL = 7  # that of headings without a number of signs
_TAG = re.compile(r"</?\w{1,10}>")
_MARKS = " \t\r\n#*_|=-"
_QUOTED = "\"'”’»」)]*_ "


def standing_below(text: str, sentences: Sequence[Sentence]) -> list[str | None]:
    """Return what each sentence stands below: nothing, headings, or a question.

    None for headings and questions themselves: they say nothing, unless there is nothing else.

    Args:
        text: the text.
        sentences: its sentences, in characters.
    """
    headings = _headings(text, sentences)
    below: list[str | None] = []
    above: list[tuple[int, str]] = []  # the headings of each level
    asked = ""
    end = 0  # of the sentence before
    for number, sentence in enumerate(sentences):
        said = text[sentence.start : sentence.end]
        answers = bool(below) and below[-1] is not None
        if answers and BLANK_LINE.search(text, end, sentence.start):
            asked = ""
        end = sentence.end
        if number in headings:
            level = len(said) - len(said.lstrip("#")) or _NO_LEVEL
            above = [each for each in above if each[0] < level] + [(level, _bare(said))]
            asked = ""
            below.append(None)
        elif is_question(CLOSING_SIGNS.sub("", said)):
            asked = _bare(said)
            below.append(None)
        elif _CONTENTS.search(said):
            below.append(None)
        else:
            below.append(asked or " ".join(heading for _, heading in above))
    return below if any(each is not None for each in below) else [""] * len(sentences)


def _bare(said: str) -> str:
    """Return a heading or a question without its marks."""
    return _TAG.sub("", said).strip(_MARKS)


def _headings(text: str, sentences: Sequence[Sentence]) -> set[int]:
    """Return which sentences are headings: by their marks, or as lines in front of prose."""
    marked = ends_of_headings(text)
    alone = [_stands_alone(text, sentences, number) for number in range(len(sentences))]
    found = {number for number, each in enumerate(sentences) if each.end in marked}
    for number in range(len(sentences) - 1):
        in_front = number < _MOST_IN_FRONT and all(alone[: number + 1])
        is_last = alone[number] and not alone[number + 1]
        if is_last and (in_front or not alone[number - 1]):
            found |= set(range(number + 1)) if in_front else {number}
    return found


def _stands_alone(text: str, sentences: Sequence[Sentence], number: int) -> bool:
    """Return whether a sentence is a short paragraph of one line without a full stop."""
    before = sentences[number - 1].end if number else 0
    after = sentences[number + 1].start if number + 1 < len(sentences) else len(text)
    sentence = sentences[number]
    said = text[sentence.start : sentence.end]
    return (
        len(said) <= _LONGEST
        and "\n" not in said
        and not _ITEM.match(said)
        and said.rstrip(_QUOTED)[-1:] not in {*ENDS_PROSE, ""}
        and (number == 0 or BLANK_LINE.search(text, before, sentence.start) is not None)
        and (after == len(text) or BLANK_LINE.search(text, sentence.end, after) is not None)
    )
