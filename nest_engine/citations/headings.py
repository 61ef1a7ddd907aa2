"""What the sentences of a source stand below: a heading, or a question that they answer.

"How do I return a product?" is not answered by the heading of those words, but by what stands below
it, which may not say again what it is about ("Send it back within 30 days.").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

from nest_engine.citations.blocks import (
    BLANK_LINE,
    ENDS_PROSE,
    RULE,
    ends_of_headings,
    is_under_columns,
)
from nest_engine.citations.languages import is_question, language_of
from nest_engine.citations.sentences import CLOSING_SIGNS, Sentence

_LONGEST = 100  # characters of a heading, or of a question: longer ones may end with a title's mark
_MOST_IN_FRONT = 2  # headings at the beginning of a text; more would be a list
_SIGNS = re.compile(r"#{1,6}[ \t]")
_BOLD = re.compile(r"\*\*([^*]+)\*\*:?")
_ITEM = re.compile(r"[-*+•–]|\d{1,3}[.)]|[|>]")
_MARK = r"(?:[-*+•–]|\d{1,3}[.)])"
LIST_ITEM = re.compile(rf"[ \t]*(?=({_MARK})[ \t])")
_EMPHASIS = "*_"
_LEADS_IN = ":\N{FULLWIDTH COLON}"
_LED_IN = re.compile(
    rf"[{_LEADS_IN}][{_EMPHASIS}]{{0,3}}[ \t]*\r?\n(?:[ \t]*\r?\n)?[ \t]*{_MARK}[ \t]"
)
_IN_FRONT = -1  # the depth of what leads a list in
_CONTENTS = re.compile(r"(?:\.{4}|(?: \.){4}|…{2})[ .…]*\d{1,4}\Z")  # a heading and its page
_NO_LEVEL = 7  # that of headings without a number of signs
_TAG = re.compile(r"</?\w{1,10}>")
_MARKS = " \t\r\n#*_|=-"
_QUOTED = "\"'”’»」)]*_ "


Below = tuple[str, ...] | None
"""What a sentence stands below, the outermost first; None if it says nothing by itself."""


def standing_below(text: str, sentences: Sequence[Sentence], section: str = "") -> list[Below]:
    """Return what each sentence stands below.

    That is headings, or a question, the columns of a table, what leads a list in, and its items.
    None for headings, questions and columns themselves: they say nothing, unless there is nothing
    else.

    Args:
        text: the text.
        sentences: its sentences, in characters.
        section: the headings that its beginning stands below, a line each, with or without marks.
    """
    headings = _headings(text, sentences)
    below: list[Below] = []
    # The headings of each level.
    above = [(_level(line), without_marks(line)) for line in section.splitlines()]
    asked = columns = ""
    lists = _Lists(text)
    end = 0  # of the sentence before
    for number, sentence in enumerate(sentences):
        said = text[sentence.start : sentence.end]
        line, following = _lines(text, sentence)
        if "|" not in line:
            columns = ""
        begins_paragraph = BLANK_LINE.search(text, end, sentence.start) is not None
        is_marked = number in headings and _has_marks(text, sentence)
        lists.read(sentence, begins_paragraph=begins_paragraph, is_heading=is_marked)
        answers = bool(below) and below[-1] is not None
        if answers and begins_paragraph:
            asked = ""
        end = sentence.end
        if number in headings and not lists.leads_in:
            if said[-1:] != ",":  # Dear Sir,
                level = _level(line)
                above = [each for each in above if each[0] < level] + [(level, without_marks(line))]
            asked = ""
            below.append(None)
        elif "|" in line and is_under_columns(following):
            columns = without_marks(line)
            below.append(None)
        elif is_question(CLOSING_SIGNS.sub("", said)) and (len(said) <= _LONGEST or said == line):
            asked = without_marks(said)
            below.append(None)
        elif _CONTENTS.search(said) or (lists.begins and said[-1:] not in ENDS_PROSE):
            below.append(None)
        else:
            context = [asked] if asked else [heading for _, heading in above]
            below.append(tuple(filter(None, [*context, columns, *lists.within])))
    return below if any(each is not None for each in below) else [()] * len(sentences)


def num_led_in(
    text: str, sentences: Sequence[Sentence], below_S: Sequence[Below], number: int
) -> int:
    """Return how many of the next sentences are of a list that one leads in ("You need:").

    Args:
        text: the text.
        sentences: its sentences, in characters.
        below_S: what each stands below.
        number: which sentence may lead a list in.
    """
    said = text[sentences[number].start : sentences[number].end]
    if not said.rstrip(_EMPHASIS).endswith(tuple(_LEADS_IN)):
        return 0
    lead = without_marks(said)
    held = takewhile(lambda below: below is not None and lead in below, below_S[number + 1 :])
    return sum(1 for _ in held)


class _Lists:
    """Follow lists within lists, sentence by sentence.

    Args:
        text: the text.

    Attributes:
        within: the items that hold the sentence, the outermost first, behind what leads them in.
        begins: whether the sentence is an item that holds others.
        leads_in: whether the sentence leads a list in: "You need:".
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._items: list[tuple[int, str]] = []  # the last of each depth: how far in, what it says
        self.within: list[str] = []
        self.begins = self.leads_in = False

    def read(self, sentence: Sentence, *, begins_paragraph: bool, is_heading: bool) -> None:
        """Read the next sentence; a paragraph that is no item ends all lists.

        A heading, marked as one, leads none in.
        """
        text = self._text
        item = LIST_ITEM.match(text, text.rfind("\n", 0, sentence.start) + 1)
        self.leads_in = False
        if item is not None and item.start(1) == sentence.start:
            depth = len(item[0])
            self._items = [each for each in self._items if each[0] < depth]
            self.within = [said for _, said in self._items]
            self._items.append((depth, without_marks(text[sentence.start : sentence.end])))
            following = LIST_ITEM.match(text, text.find("\n", sentence.end) + 1)
            self.begins = following is not None and len(following[0]) > depth
        elif not is_heading and _leads_in(text, sentence):
            lead = without_marks(text[sentence.start : sentence.end])
            self._items, self.within, self.begins = [(_IN_FRONT, lead)], [], False
            self.leads_in = True
        elif begins_paragraph:
            self._items, self.within, self.begins = [], [], False


def _leads_in(text: str, sentence: Sentence) -> bool:
    """Return whether a sentence ends with a colon, and an item follows."""
    said = text[sentence.start : sentence.end].rstrip(_EMPHASIS)
    return _LED_IN.match(text, sentence.start + len(said) - 1) is not None


def _level(heading: str) -> int:
    """Return how many signs a heading is marked with; of one without any, as if of more."""
    return len(heading) - len(heading.lstrip("#")) or _NO_LEVEL


def without_marks(said: str) -> str:
    """Return a heading or a question without its marks."""
    return _TAG.sub("", said).strip(_MARKS)


def _headings(text: str, sentences: Sequence[Sentence]) -> set[int]:
    """Return which sentences are headings: by their marks, or as lines in front of prose."""
    ends = ends_of_headings(text, language_of(text))
    alone = [_stands_alone(text, sentences, number) for number in range(len(sentences))]
    found = {
        number
        for number, each in enumerate(sentences)
        if each.end in ends or _has_marks(text, each)
    }
    for number in range(len(sentences) - 1):
        in_front = number < _MOST_IN_FRONT and all(alone[: number + 1])
        is_last = alone[number] and not alone[number + 1]
        if is_last and (in_front or not alone[number - 1]):
            found |= set(range(number + 1)) if in_front else {number}
    return found


def _has_marks(text: str, sentence: Sentence) -> bool:
    """Return whether a sentence stands on a line that is marked as a heading."""
    line, following = _lines(text, sentence)
    if _SIGNS.match(line):
        return True
    bold = _BOLD.fullmatch(line)
    is_line = line == text[sentence.start : sentence.end]
    is_marked = bold is not None or (is_line and RULE.fullmatch(following) is not None)
    return is_marked and (bold[1] if bold else line).rstrip()[-1:] not in ENDS_PROSE


def _lines(text: str, sentence: Sentence) -> tuple[str, str]:
    """Return the line that a sentence ends on, and the next, without the space around them."""
    start = text.rfind("\n", 0, sentence.end) + 1
    end = text.find("\n", sentence.end)
    if end < 0:
        return text[start:].strip(), ""
    return text[start:end].strip(), text[end + 1 :].partition("\n")[0].strip()


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
