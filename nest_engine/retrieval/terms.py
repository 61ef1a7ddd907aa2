"""The terms of texts in any language: what keyword search compares.

Words are Unicode's: letters with their marks, digits, connectors. They are compared as people type
them: NFKC, full case folding, without invisible characters, optional vowel signs and Arabic's
variants of a letter. Where a script does not separate words with spaces, and in Korean, whose words
take endings, every two neighbouring characters are a term, as in Lucene's CJK analyzer.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from itertools import pairwise

import regex

# Lucene's English stop words and question words, except those that are also names ("The Who",
# "IT").
STOP_WORDS = frozenset(
    [
        *("a", "an", "and", "are", "as", "at", "be", "but", "by", "did", "do", "does", "for"),
        *("from", "had", "has", "have", "how", "in", "into", "is", "its", "of", "on", "or"),
        *("that", "the", "their", "then", "there", "these", "they", "this", "to", "was", "were"),
        *("what", "when", "where", "which", "why", "will", "with"),
    ]
)

# Without spaces between words: East Asian scripts, and those whose line breaks need a dictionary.
_UNSPACED = (
    r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Hangul}\p{Tibetan}\p{Line_Break=SA}ー々〆"
)
_STRETCH = regex.compile(rf"[{_UNSPACED}][{_UNSPACED}\p{{M}}]*|[\w--{_UNSPACED}]+", regex.V1)
_IS_UNSPACED = regex.compile(rf"[{_UNSPACED}]", regex.V1)
_ASCII_WORD = regex.compile(r"\w+", regex.ASCII)

_BROKEN_SOFTLY = regex.compile(r"\xad[ \t]*\r?\n[ \t]*")
_INVISIBLE = regex.compile(r"[\p{Default_Ignorable_Code_Point}\N{ARABIC TATWEEL}]")
_BROKEN_UNSPACED = regex.compile(
    rf"(?<=[{_UNSPACED}]\p{{M}}*)[ \t]*\r?\n[ \t]*(?=[{_UNSPACED}--\p{{Hangul}}])", regex.V1
)
# A compound, or a word that is broken at a line end: nobody knows, so both are found.
_HYPHENED = regex.compile(r"[\p{L}\p{M}\p{Nd}]+(?:[-‐‑](?:[ \t]*\r?\n[ \t]*)?[\p{L}\p{M}\p{Nd}]+)+")
_NOT_LETTERS = regex.compile(r"[^\p{L}\p{M}\p{Nd}]+")

# Marks that are read as part of their letter, but often left out: capitals and keyboards lack them.
_ACCENTED = regex.compile(r"[\p{Latin}\p{Greek}\p{Cyrillic}]")
_ACCENT = regex.compile(r"\p{Mn}")
# Vowel signs and other marks that Hebrew and Arabic mostly leave out; hamza and madda are among
# them.
_POINTED = regex.compile(r"[\p{Arabic}\p{Hebrew}]")
_POINT = regex.compile(r"[\p{Mn}&&[\u0590-\u06ff]]", regex.V1)
# The dotless i, whose capital is that of the other; letters that Arabic, Persian and Urdu set
# differently, or whose dots are left out.
_ALIKE = str.maketrans("ıىیېکةۃ", "iيييكهه")
_ARABIC_ARTICLE = regex.compile(r"[وفبك]?(?:ال|لل)(?=\p{Arabic}{2})")
# Words of one character: ideographs between kana, or between the particles and question words of
# Chinese; a syllable in front of a particle of Korean.
_PARTICLES = "的是在了吗呢和与或及为有被从到对这那哪谁什么怎几多少"
_SINGLE = regex.compile(
    rf"(?<![\p{{Han}}--[{_PARTICLES}]])[\p{{Han}}--[{_PARTICLES}]](?![\p{{Han}}--[{_PARTICLES}]])"
    r"|\A\p{Hangul}(?=[은는이가을를에의도로와과]\Z)",
    regex.V1,
)
# Letters that Unicode does not take apart, as keyboards without them write them.
_SIMPLER = str.maketrans(
    {"đ": "d", "ð": "d", "ł": "l", "ø": "o", "ħ": "h", "þ": "th", "œ": "oe", "æ": "ae"}
)
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})
# Both spellings are in use in Hindi: borrowed sounds with a dot or without, nasals as a letter or
# as one of two marks.
_DEVANAGARI = regex.compile(r"\p{Devanagari}")
_NASAL = regex.compile("[\u0919\u091e\u0923\u0928\u092e]\u094d(?=[\u0915-\u092e])|\u0901")
_NUKTA, _ANUSVARA = "\u093c", "\u0902"
# Signs inside words: of Hebrew abbreviations, and apostrophes.
_GERSHAYIM = regex.compile("(?<=[\u05d0-\u05ea])[\"'״׳’”](?=[\u05d0-\u05ea])")
_OTHER_DIGIT = regex.compile(r"[\p{Nd}--[0-9]]", regex.V1)


def folded_words(text: str) -> list[str]:
    """Return the words of a text, folded, in their order; of unspaced scripts, pairs.

    Nothing is left out: a query may be the name of a band or of a programming language.
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    return [word for stretch in _stretches(text) for word in _words_in(stretch)]


def terms_of(text: str) -> list[str]:
    """Return the terms by which a text is found: its words, and other ways to write them.

    Those are: compounds and words broken at a line end, in one piece; words without their accents;
    Arabic words without their article; single characters of unspaced scripts.
    """
    return [*_found_by(text), *(single for run in _unspaced_runs(text) for single in run)]


def query_terms(query: str) -> list[str]:
    """Return the terms of a query without stop words, unless it has no other terms."""
    terms = [*_found_by(query), *_single_words(query)]
    return [term for term in terms if term not in STOP_WORDS] or terms


def _found_by(text: str) -> list[str]:
    """Return the words of a text and other ways to write them, but for single characters."""
    words = folded_words(text)
    if "\N{ZERO WIDTH SPACE}" in text:  # a word break, or a break inside a long word
        words += folded_words(text.replace("\N{ZERO WIDTH SPACE}", " "))
    if "-" in text or "‐" in text or "‑" in text:
        words += [
            word
            for hyphened in _HYPHENED.findall(text)
            for word in folded_words(_NOT_LETTERS.sub("", hyphened))
        ]
    return words + [other for word in words for other in _other_forms(word)]


def _other_forms(word: str) -> Iterator[str]:
    if "_" in word and len(parts := word.split("_")) > 1:
        yield from filter(None, parts)
    if word.isascii():
        return
    if _ACCENTED.match(word):
        others = {_without(_ACCENT, word).translate(_SIMPLER), word.translate(_UMLAUTS)}
        yield from sorted(others - {word})
    if (article := _ARABIC_ARTICLE.match(word)) is not None:
        yield word[article.end() :]


def _single_words(query: str) -> list[str]:
    """Return the words of a query that are one character long."""
    if query.isascii():
        return []
    return [
        single
        for stretch in _stretches(query)
        if len(stretch) > 1 and _IS_UNSPACED.match(stretch)
        for single in _SINGLE.findall(stretch)
    ]


def _unspaced_runs(text: str) -> Iterator[list[str]]:
    """Yield the characters of stretches that yield pairs."""
    if text.isascii():
        return
    for stretch in _stretches(text):
        if _IS_UNSPACED.match(stretch) and len(characters := _characters(stretch)) > 1:
            yield characters


def _stretches(text: str) -> list[str]:
    found: list[str] = _STRETCH.findall(_folded(text))
    return found


def _words_in(stretch: str) -> list[str]:
    """Return a word, or the pairs of neighbouring characters of an unspaced stretch."""
    if not _IS_UNSPACED.match(stretch):
        return [stretch]
    characters = _characters(stretch)
    if len(characters) == 1:
        return characters
    return [before + after for before, after in pairwise(characters)]


def _characters(stretch: str) -> list[str]:
    """Return user-perceived characters: grapheme clusters."""
    found: list[str] = regex.findall(r"\X", stretch)
    return found


def _folded(text: str) -> str:
    """Return a text as it is compared."""
    text = _BROKEN_SOFTLY.sub("", text)
    text = _INVISIBLE.sub("", text).replace("ʼ", "'")
    text = unicodedata.normalize("NFKC", text).casefold()
    text = unicodedata.normalize("NFKC", text).replace("i\N{COMBINING DOT ABOVE}", "i")
    text = _BROKEN_UNSPACED.sub("", text)
    if _POINTED.search(text):
        text = _GERSHAYIM.sub("", _without(_POINT, text))
    if _DEVANAGARI.search(text):
        text = unicodedata.normalize("NFD", text).replace(_NUKTA, "")
        text = _NASAL.sub(_ANUSVARA, unicodedata.normalize("NFC", text))
    text = text.translate(_ALIKE)
    return _OTHER_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)


def _without(marks: regex.Pattern[str], text: str) -> str:
    """Return a text without some marks, composed."""
    return unicodedata.normalize("NFC", marks.sub("", unicodedata.normalize("NFD", text)))
