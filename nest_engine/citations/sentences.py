"""The sentences of texts: what people quote, and where a copy ends.

Boundaries are those of the library sentencex, which knows the full stops of many scripts and, by
language, the abbreviations that end no sentence; and some that it takes for ends are none.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import sentencex

from nest_engine.citations.blocks import (
    AROUND_CUTS,
    FENCED,
    RULE,
    cuts_in_answer,
    cuts_in_source,
    is_under_columns,
)
from nest_engine.citations.languages import language_of

if TYPE_CHECKING:
    from nest_engine.interfaces import TokenizedPassage

_LONGEST_TAIL = 400  # characters that tell whether a text ends with a sentence
# Where a full stop makes an ordinal of a number: am 5. Januar, der 2. Weltkrieg.
_WITH_ORDINALS = frozenset(
    ["de", "da", "no", "sv", "cs", "pl", "fi", "hu", "tr", "hr", "sk", "sl", "et", "lv", "is"]
)
_LAST_WORD = re.compile(r"(?<!\w)(\w+)\.\Z")
_ORDINAL, _ROMAN = re.compile(r"\d{1,2}"), re.compile("[IVX]{1,6}")
# In front of a figure or a small letter.
_ABBREVIATIONS = frozenset(
    [
        *("abb", "approx", "art", "avg", "bd", "ca", "ch", "chap", "ed", "eq", "esp", "est"),
        *("fig", "figs", "incl", "max", "min", "no", "nos", "nr", "p", "pp", "sec", "temp"),
        *("vol", "vols", "г", "т", "cl", "para", "paras", "ext", "mwst", "ust", "av", "ul", "ул"),
        *("jan", "feb", "apr", "jun", "jul", "aug", "sept", "oct", "nov", "dec", "okt", "dez"),
        *("lun", "mer", "jeu", "ven", "sam", "dim", "д", "кв", "руб"),
    ]
)
# Likewise, but also words: with a capital letter.
_WEEKDAYS = frozenset(["Mon", "Tue", "Tues", "Wed", "Thu", "Thur", "Thurs", "Fri", "Sat"])
_STREET = "str"  # the end of a street's name in German
# Of Markdown's emphasis, and of notes: [^1], [citation needed], ², ^2^, <sup>2</sup>.
CLOSING_SIGNS = re.compile(
    r"(?:[*_~]|</\w{1,10}>|\[[^\]\n]{1,30}\]|[¹²³⁰⁴-⁹]|\^\d{1,3}\^|<sup>[^<\n]{1,9}</sup>){1,12}(?=\s|\Z)"
)
_FEW_BOLD_WORDS = re.compile(
    r"(?:(?:[-*+•]|\d{1,3}[.)])[ \t]+)?\*\*[^\s*]+(?:[ \t]+[^\s*]+){0,3}\*\*"
)
_NOT_SPACE = re.compile(r"\S")
# What stands in front of a heading, a clause or an item, and is no sentence.
_NUMBER = re.compile(r"[#*_\s]*(?:\d{1,3}(?:\.\d{1,3})*|[IVXLC]{1,6}|[A-Za-z])[.)]")
_ITEM = re.compile(r"(?:[-*+•]|\d{1,3}[.)])[ \t]")
_MARKS_OF_ITEMS = " \t-*+•"
_NAMED = frozenset(  # in front of a name, or a noun
    [
        *("fa", "ul", "np", "gen", "bp", "św", "attn", "bd", "mme", "mmes", "mlle", "tel", "tél"),
        *("excl", "incl", "inkl", "exkl", "zzgl", "tsp", "tbsp", "dept", "ref", "ул", "им"),
        *("mr", "mrs", "ms", "dr", "prof"),
    ]
)
_NAMED_IN = {
    "fr": frozenset(["M"]),
    "vi": frozenset(["BS", "GS", "KS", "PGS", "ThS", "TP", "TS"]),
}
# Full stops that the library does not know: of Khmer, but for "and so on", Tibetan and Mongolian.
_MORE_ENDS = re.compile(r"(?:(?<!។ល)[។៕](?!ល។)|[།༎](?:\s*[།༎])*|[᠃᠉])[\"'”’»)\]]*\s*(?=\S)")


class Sentence(NamedTuple):
    """A sentence of a passage.

    Args:
        start: first character in ``Passage.text``; in a :class:`TokenIndex`, first token.
        end: one past the last.
        trust: how far it can be trusted to answer what was asked, in (0, 1]; 0 if nobody knows what
            was asked.
        introduces: how far it says whom the others of its passage mean, in [0, 1]: how much of the
            document's title the first names of the passage that introduces it; 0 of others.
    """

    start: int
    end: int
    trust: float = 0.0
    introduces: float = 0.0


def sentences_of(
    text: str, language: str | None = None, *, is_answer: bool = False
) -> list[Sentence]:
    """Return the sentences of a text, without the space around them.

    Args:
        text: the text.
        language: its language, as :func:`language_of` tells it, if it is known.
        is_answer: whether a model wrote it, in Markdown: then headings, bold lead-ins and the cells
            of tables stand by themselves.
    """
    language = language or language_of(text)
    sentences: list[Sentence] = []
    start = 0
    for code in FENCED.finditer(text):
        sentences += _of_prose(text, start, code.start(), language, is_answer)
        start = code.end()
        begin = start - len(code[0].lstrip())
        sentences.append(Sentence(begin, begin + len(code[0].strip())))
    return sentences + _of_prose(text, start, len(text), language, is_answer)


def _of_prose(whole: str, first: int, last: int, language: str, is_answer: bool) -> list[Sentence]:
    """Return the sentences of a stretch of a text that holds no code."""
    text = whole[first:last]
    sentences: list[Sentence] = []
    for start, end in _pieces(text, language):
        if sentences and _goes_on(text, sentences[-1], start, language):
            sentences[-1] = sentences[-1]._replace(end=end)
        else:
            sentences.append(Sentence(start, end))
    cuts = cuts_in_answer(text) if is_answer else cuts_in_source(text, language)
    whole_sentences = _with_closing_signs(text, _apart(text, sentences, cuts))
    if not is_answer:
        whole_sentences = _with_lead_ins(text, whole_sentences)
    return [Sentence(first + each.start, first + each.end) for each in whole_sentences]


def _apart(text: str, sentences: Sequence[Sentence], cuts: Sequence[int]) -> Iterator[Sentence]:
    """Yield sentences that are cut at some places; nothing without a word is one."""
    for sentence in sentences:
        inner = cuts[bisect_right(cuts, sentence.start) : bisect_left(cuts, sentence.end)]
        if not inner:
            yield sentence
            continue
        for start, end in pairwise([sentence.start, *inner, sentence.end]):
            piece = text[start:end].rstrip(AROUND_CUTS)
            said = piece.strip(AROUND_CUTS)
            if said and not (RULE.fullmatch(said) or is_under_columns(said)):
                begin = start + len(piece) - len(piece.lstrip(AROUND_CUTS))
                yield Sentence(begin, start + len(piece))


def _pieces(text: str, language: str) -> Iterator[tuple[int, int]]:
    for boundary in sentencex.get_sentence_boundaries(language, text):
        piece, first = boundary["text"], boundary["start_index"]
        ends = [end.end() for end in _MORE_ENDS.finditer(piece)]
        for start, end in pairwise([0, *ends, len(piece)]):
            part = piece[start:end]
            if part.strip():
                start += first + len(part) - len(part.lstrip())
                yield start, start + len(part.strip())


def _goes_on(text: str, sentence: Sentence, following: int, language: str) -> bool:
    """Return whether what seems to be another sentence goes on with the one before it."""
    between = text[sentence.end : following]
    if "\n" not in between and _NUMBER.fullmatch(text, sentence.start, sentence.end):
        return True
    last = _LAST_WORD.search(text, sentence.start, sentence.end)
    begins_item = "\n" in between and _ITEM.match(text, following)
    if last is None or "\n\n" in between or begins_item:
        return False
    word, begins = last[1], text[following]
    if _ORDINAL.fullmatch(word) and language in _WITH_ORDINALS:
        return begins.isalpha()
    if begins.isupper():
        return word.lower() in _NAMED or word in _NAMED_IN.get(language, ())
    bare = word.lower()
    return (
        bare in _ABBREVIATIONS
        or bare in _NAMED
        or word in _WEEKDAYS
        or (begins.isdigit() and bare.endswith(_STREET))
        or (begins.islower() and (len(word) == 1 or _ROMAN.fullmatch(word) is not None))
    )


def _with_closing_signs(text: str, sentences: Iterable[Sentence]) -> Iterator[Sentence]:
    """Yield sentences with what closes them, as in **Why?**, and without the rules below them."""
    last: Sentence | None = None
    for sentence in sentences:
        if last is not None:
            if RULE.fullmatch(text, sentence.start, sentence.end):
                continue
            if sentence.start == last.end:
                closing = CLOSING_SIGNS.match(text, sentence.start, sentence.end)
                last = last._replace(end=closing.end() if closing else last.end)
                start = _NOT_SPACE.search(text, last.end, sentence.end)
                if start is None:
                    continue
                sentence = sentence._replace(start=start.start())
            yield last
        last = sentence
    if last is not None:
        yield last


def _with_lead_ins(text: str, sentences: Iterable[Sentence]) -> Iterator[Sentence]:
    """Yield sentences with the few bold words that their line begins with: **Dogs.** They may."""
    last: Sentence | None = None
    for sentence in sentences:
        if last is not None:
            is_same_line = "\n" not in text[last.end : sentence.start]
            if is_same_line and _is_lead_in(text, last):
                sentence = sentence._replace(start=last.start)
            else:
                yield last
        last = sentence
    if last is not None:
        yield last


def _is_lead_in(text: str, sentence: Sentence) -> bool:
    """Return whether a sentence is nothing but a few bold words, and begins its line."""
    if _FEW_BOLD_WORDS.fullmatch(text, sentence.start, sentence.end) is None:
        return False
    line = text.rfind("\n", 0, sentence.start) + 1
    return not text[line : sentence.start].strip(_MARKS_OF_ITEMS)


def ends_sentence(text: str) -> bool:
    """Return whether a text ends where a sentence ends, or a line: what follows begins another."""
    tail = text[-_LONGEST_TAIL:]
    if not tail.strip() or tail.endswith("\n"):
        return True
    last = _LAST_WORD.search(tail.rstrip())
    if last is not None and last[1].lower() in _ABBREVIATIONS:  # a figure may follow
        return False
    # A name behind it: an abbreviation goes on with one.
    followed = f"{tail.rstrip()} Smith"
    return sentences_of(followed)[-1].start == len(followed) - len("Smith")


def in_tokens(sentences: Sequence[Sentence], tokens: TokenizedPassage) -> list[Sentence]:
    """Return sentences by the tokens of their passage; a token belongs where it ends."""
    ranges, token = [], 0
    for sentence in sentences:
        while token < len(tokens.ends) and tokens.ends[token] <= sentence.start:
            token += 1
        first = token
        while token < len(tokens.ends) and tokens.starts[token] < sentence.end:
            token += 1
        if token > first:
            ranges.append(sentence._replace(start=first, end=token))
    return ranges
