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

_LINE_END = r"(?:\r\n|[\n\r\u2028])"
_BROKEN_SOFTLY = regex.compile(rf"\xad[ \t]*{_LINE_END}[ \t]*")
_INVISIBLE = regex.compile(r"[\p{Default_Ignorable_Code_Point}\N{ARABIC TATWEEL}]")
_BROKEN_UNSPACED = regex.compile(
    rf"(?<=[{_UNSPACED}]\p{{M}}*)[ \t]*\r?\n[ \t]*(?=[{_UNSPACED}--\p{{Hangul}}])", regex.V1
)
# A compound, or a word that is broken at a line end: nobody knows, so both are found.
_HYPHENED = regex.compile(
    rf"[\p{{L}}\p{{M}}\p{{Nd}}]+(?:[-‐‑](?:[ \t]*{_LINE_END}[ \t]*)?[\p{{L}}\p{{M}}\p{{Nd}}]+)+"
)
# What is one word without its signs, for many people: Halley's, U.S., Node.js, 5,500, 12 000,
# 12,34,567.
_SIGNED = regex.compile(
    r"[\p{L}\p{M}]+(?:['’‘ʻʼʾʿ.][\p{L}\p{M}]+)+"
    r"|(?<![\d.,])\d{1,3}(?:[,.'’ \u00a0\u2009\u202f\u066c\uff0c]\d{3})+(?!\d)"
    r"|(?<![\d.,])\d{1,2}(?:,\d{2})+,\d{3}(?!\d)"
)
# Persian sets endings apart without a space; as people type it, with one or in one piece.
_HALF_SPACED = regex.compile(
    r"(?<![\p{Arabic}\p{M}])[\p{Arabic}\p{M}]++(?:\u200c[\p{Arabic}\p{M}]++)+"
)
_WITHIN_WORDS = regex.compile(r"[^\p{L}\p{M}\p{Nd}]+|[ʻʼʾʿ]")

# Marks that are read as part of their letter, but often left out: capitals and keyboards lack them.
_ACCENTED = regex.compile(r"[\p{Latin}\p{Greek}\p{Cyrillic}]")
_ACCENT = regex.compile(r"\p{Mn}")
# Vowel signs and other marks that Hebrew and Arabic mostly leave out; hamza and madda are among
# them.
_POINTED = regex.compile(r"[\p{Arabic}\p{Hebrew}]")
_POINT = regex.compile(r"[\p{Mn}&&[\u0590-\u06ff]]", regex.V1)
# The dotless i, whose capital is that of the other; letters that Arabic, Persian and Urdu set
# differently, or whose dots are left out.
_ALIKE = str.maketrans("ıىیېکةۃہەٱ", "iيييكهههها") | {
    # letters without their vowel, for which there are characters of their own
    **{ord(sign): f"{letter}\u0d4d" for sign, letter in zip("ൺൻർൽൾൿ", "ണനരലളക", strict=True)},
    ord("ৎ"): "ত\u09cd",
}
# "And", "in", "as", "for" and the article, which "for" merges with: the language (اللغة), for the
# language (للغة). Without the article, shorter words are rather words that begin so.
_ARABIC_PREFIX = regex.compile(
    r"[وف]?(?:[بك]?ال|لل)(?=\p{Arabic}{2})|و(?=\p{Arabic}{3})|[وف]?[بل](?=\p{Arabic}{4})"
)
_MERGED_ARTICLE = regex.compile(r"[وف]?لل(?=\p{Arabic}{2})")
# A hamza sits on one letter or another: by the custom of the country (مسؤول, مسئول), or by none.
_SEATED_HAMZA = regex.compile("يء|[ؤئ]")
_HAMZA_WORD = regex.compile(r"[\p{Arabic}\p{M}]*?(?:يء|[ؤئ])[\p{Arabic}\p{M}]*")
_MEASURE = regex.compile(r"(\d+)(\p{L}\p{M}*\p{L}+)|(\p{L}\p{M}*\p{L}+)(\d+)")  # 10km, Windows11
_TWO_AS_ONE = ("เเ", "แ")  # of Thai, which look the same
_HEBREW_PREFIX = regex.compile(r"ו?(?:[בכלמ]|ש?ה|ש)(?=\p{Hebrew}{3})|ו(?=\p{Hebrew}{3})")
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
_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "æ": "ae"})
# Both spellings are in use in Hindi: borrowed sounds with a dot or without, nasals as a letter or
# as one of two marks.
_DEVANAGARI = regex.compile(r"\p{Devanagari}")
_NASAL = regex.compile("[\u0919\u091e\u0923\u0928\u092e]\u094d(?=[\u0915-\u092e])|\u0901")
_NUKTA, _ANUSVARA = "\u093c", "\u0902"
# Signs inside words: of Hebrew abbreviations, and apostrophes.
_APOSTROPHES = regex.compile("[ʻʼʾʿ]")
_GERSHAYIM = regex.compile("(?<=[\u05d0-\u05ea])[\"'״׳’”](?=[\u05d0-\u05ea])")
_OTHER_DIGIT = regex.compile(r"[\p{Nd}--[0-9]]", regex.V1)


def folded_words(text: str) -> list[str]:
    """Return the words of a text, folded, in their order; of unspaced scripts, pairs.

    Nothing is left out: a query may be the name of a band or of a programming language.
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    return [word for stretch in _stretches(text) for word in _words_in(stretch)]


def spaced_words(text: str) -> list[str]:
    """Return :func:`folded_words`, but of unspaced scripts single characters.

    Two stretches of unspaced scripts have a mark between them, so that nothing reaches from one
    into the other.
    """
    if text.isascii():
        return folded_words(text)
    words, was_unspaced = [], False
    for stretch in _stretches(text):
        is_unspaced = _IS_UNSPACED.match(stretch) is not None
        words += ["|"] * (is_unspaced and was_unspaced)
        words += _characters(stretch) if is_unspaced else [stretch]
        was_unspaced = is_unspaced
    return words


def bare_words(text: str) -> list[str]:
    """Return :func:`folded_words` without accents, which many people leave out."""
    words = folded_words(text)
    if text.isascii():
        return words
    return [_without(_ACCENT, word) if _ACCENTED.match(word) else word for word in words]


def terms_of(text: str) -> list[str]:
    """Return the terms by which a text is found: its words, and other ways to write them.

    Those are: compounds and words broken at a line end, in one piece; a word and the number that it
    is written with; words without their accents, apostrophes and full stops, numbers without what
    groups their digits; Arabic words without their article, "and", "in" or "for", and with any seat
    of a hamza; Hebrew ones without their prefix, parts of Persian ones; single characters of
    unspaced scripts.
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
    if "\N{ZERO WIDTH NON-JOINER}" in text:
        for piece in _HALF_SPACED.findall(text):
            words += folded_words(piece.replace("\N{ZERO WIDTH NON-JOINER}", " "))
    for word in _HAMZA_WORD.findall(text):
        words += folded_words(_SEATED_HAMZA.sub("ء", word))
    pieces = _SIGNED.findall(text)
    if "-" in text or "‐" in text or "‑" in text:
        pieces += _HYPHENED.findall(text)
    words += [word for piece in pieces for word in folded_words(_WITHIN_WORDS.sub("", piece))]
    return words + [other for word in words for other in _other_forms(word)]


def _other_forms(word: str) -> Iterator[str]:
    if "_" in word and len(parts := word.split("_")) > 1:
        yield from filter(None, parts)
    if (measure := _MEASURE.fullmatch(word)) is not None:
        yield from filter(None, measure.groups())
    if word.isascii():
        return
    if _ACCENTED.match(word):
        others = {_without(_ACCENT, word).translate(_SIMPLER), word.translate(_UMLAUTS)}
        yield from sorted(others - {word})
    for prefix in (_ARABIC_PREFIX, _HEBREW_PREFIX):
        if (found := prefix.match(word)) is not None:
            yield word[found.end() :]
    if (found := _MERGED_ARTICLE.match(word)) is not None:
        yield word[found.end() - 1 :]


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
    text = _APOSTROPHES.sub("'", _INVISIBLE.sub("", text))
    text = unicodedata.normalize("NFKC", text).casefold()
    text = unicodedata.normalize("NFKC", text).replace("i\N{COMBINING DOT ABOVE}", "i")
    text = _BROKEN_UNSPACED.sub("", text)
    if _POINTED.search(text):
        text = _GERSHAYIM.sub("", _without(_POINT, text))
    if _DEVANAGARI.search(text):
        text = unicodedata.normalize("NFD", text).replace(_NUKTA, "")
        text = _NASAL.sub(_ANUSVARA, unicodedata.normalize("NFC", text))
    text = text.translate(_ALIKE).replace(*_TWO_AS_ONE)
    return _OTHER_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)


def _without(marks: regex.Pattern[str], text: str) -> str:
    """Return a text without some marks, composed."""
    return unicodedata.normalize("NFC", marks.sub("", unicodedata.normalize("NFD", text)))
