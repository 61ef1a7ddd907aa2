"""Factual precision without a judge: are an answer's numbers, dates and names in the article?

It cannot tell who did what: a right name in a wrong role counts as right. It does find an award, a
year or a place from somebody else's life, in every answer, at no cost, and reproducibly. FActScore
(Tables 1b and 3 of the paper) asks a large model instead; ``factscore_records`` exports its input.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from nest_engine.evaluation.matching import names, words_of
from nest_engine.evaluation.metrics import Measures
from nest_engine.retrieval.terms import STOP_WORDS, folded_words

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DAYS = frozenset(["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"])
_DATE = re.compile(
    rf"\b(?:(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?)?(?P<month>{'|'.join(_MONTHS)})\b"
    r"(?:\s+(?P<late_day>\d{1,2})(?:st|nd|rd|th)?(?![\d.,]*\d|\s+(?:%|percent)))?(?:,?\s+(?P<year>\d{3,4})\b)?"
)
_NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)*(?:(?:st|nd|rd|th|s)(?!\w))?(?!\d)")
_WORD = re.compile(r"[^\W_]+(?:['’.&-][^\W_]+)*")
_SENTENCE_START = re.compile(r"(?:^|[.!?:;…\n][\"'”’)\]]*\s*|[\"“‘(\[]\s*)$")
_INITIAL = re.compile(r"(?:^|[\s.(])[^\W\d_a-z]\.\s*$")  # "J. " ends no sentence
_PARTICLES = frozenset(
    folded_words(
        "of the de da di do du del della der den des van von und le la las los y al bin ibn"
    )
)
_HONORIFICS = frozenset(["Dr", "Mr", "Mrs", "Ms", "Prof"])
# A full stop after these ends no sentence.
_ABBREVIATED = _HONORIFICS | {"St", "Mt", "Ft", "Jr", "Sr"}
# Words that begin sentences and name nothing; a name may follow directly ("However Smith").
_OPENERS = STOP_WORDS | frozenset(
    folded_words(
        "he she we you i one his her its our your my they them after before during since while "
        "although though because however also later early many most some several other another "
        "each every all both either neither such than until upon under over between among through "
        "about against despite following according born first second third two three four five "
        "six seven eight nine ten not no yes so if thus hence when where who what today now here "
        "soon once only even still yet together including like unlike within without"
    )
)


class Date(NamedTuple):
    """A date, as completely as a text gives it."""

    year: int | None
    month: int
    day: int | None

    def agrees(self, other: Date) -> bool:
        """Return whether another date has all parts of this one."""
        return all(mine is None or mine == its for mine, its in zip(self, other, strict=True))


@dataclass(frozen=True)
class Facts:
    """The facts in a text that can be looked up, each once."""

    numbers: frozenset[str]
    dates: frozenset[Date]
    names: frozenset[str]

    def __len__(self) -> int:
        return len(self.numbers) + len(self.dates) + len(self.names)


def factual_precision(
    answer: str, article: str, subjects: Iterable[str], *, is_cut: bool = False
) -> Measures:
    """Count the facts of an answer, and those of them that the article contains.

    Args:
        answer: the answer.
        article: the whole article.
        subjects: names of the subject, which do not count as facts.
        is_cut: the answer ended at its maximum length; a name or number that was cut off does not
            count against it.
    """
    facts = facts_of(_without_last_fact(answer) if is_cut else answer, subjects)
    return {
        "factual_precision": (len(facts) - len(unsupported(facts, article)), len(facts)),
        "facts": (len(facts), 1),
    }


def unsupported(facts: Facts, article: str) -> list[str | Date]:
    """Return the facts that an article does not contain."""
    article_numbers = {_normal(match[0]) for match in _NUMBER.finditer(article)}
    article_dates = {date for date, _, _ in _dates(article)}
    article_words = words_of(article)
    return [
        *sorted(number for number in facts.numbers if number not in article_numbers),
        *(
            date
            for date in sorted(facts.dates, key=str)
            if not any(date.agrees(other) for other in article_dates)
        ),
        *sorted(name for name in facts.names if not names(article_words, name)),
    ]


def facts_of(text: str, subjects: Iterable[str] = ()) -> Facts:
    """Find the numbers, dates and proper names of a text.

    A name is a run of capitalised words, joined by initials and words like "of" or "van". A single
    capitalised word at the start of a sentence does not count, since any word may stand there.

    Args:
        text: the text.
        subjects: names that do not count, nor do parts of them.
    """
    dates = list(_dates(text))
    rest = text
    for _, start, end in dates:
        rest = rest[:start] + "\0" * (end - start) + rest[end:]
    numbers = frozenset(_normal(match[0]) for match in _NUMBER.finditer(rest))
    known = [words_of(subject) for subject in subjects]
    found = frozenset(
        name for name in _names(rest) if not any(words_of(name) in subject for subject in known)
    )
    return Facts(numbers, frozenset(date for date, _, _ in dates), found)


def _without_last_fact(answer: str) -> str:
    """Return an answer without the capitalised words and numbers at its end."""
    row = answer
    while (last := re.search(r"(\S+)\s*$", row)) and (first := last[1].lstrip("\"'“‘(["))[:1]:
        if not (first[0].isupper() or first[0].isdigit()):
            break
        row = row[: last.start()]
        if first != last[1]:  # a bracket or quotation mark: the run begins here
            break
    return row


def _dates(text: str) -> Iterator[tuple[Date, int, int]]:
    for match in _DATE.finditer(text):
        day, year = match["day"] or match["late_day"], match["year"]
        if day or year:
            month = _MONTHS.index(match["month"]) + 1
            yield (
                Date(int(year) if year else None, month, int(day) if day else None),
                match.start(),
                match.end(),
            )


def _normal(number: str) -> str:
    return re.sub(r",(?=\d{3}\b)", "", number)


def _names(text: str) -> Iterator[str]:
    row: list[re.Match[str]] = []
    for word in [*_WORD.finditer(text), None]:
        if word is not None and row and _continues(row[-1], word, text):
            row.append(word)
            continue
        yield from _name(text, row)
        row = [word] if word is not None and word[0][0].isupper() else []


def _continues(before: re.Match[str], word: re.Match[str], text: str) -> bool:
    gap = text[before.end() : word.start()]
    is_joined = gap == " " or (
        gap in (". ", ".") and (len(before[0]) == 1 or before[0] in _ABBREVIATED)
    )
    return is_joined and (word[0][0].isupper() or word[0] in _PARTICLES)


def _name(text: str, row: list[re.Match[str]]) -> Iterator[str]:
    """Yield the name that a run of words forms, if it is one."""
    while row and not row[-1][0][0].isupper():
        row = row[:-1]  # "University of" ends with a particle
    if row and _begins_sentence(text[: row[0].start()]):
        if len(row) == 1:
            return
        if row[0][0].casefold() in _OPENERS:
            row = row[1:]
            while row and not row[0][0][0].isupper():
                row = row[1:]
    if row and row[0][0] in _HONORIFICS:
        row = row[1:]
    if row:
        name = re.sub(r"['’]s$", "", text[row[0].start() : row[-1].end()])
        if name != "I" and name not in _DAYS and name not in _MONTHS:
            yield name


def _begins_sentence(before: str) -> bool:
    return bool(_SENTENCE_START.search(before)) and not _INITIAL.search(before)
