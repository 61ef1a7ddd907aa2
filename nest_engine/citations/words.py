"""The words of texts as they are compared for citing, and where a text may be cut.

Two texts read the same if their words have the same keys. Keys see through what type setting,
extraction and Markdown change: Unicode normalization, ligatures, full width, soft hyphens and
other invisible characters, words broken at a line end, typographic quotes and dashes, white space,
emphasis. They never see through another letter, digit or sign: superscripts, fractions and
circled digits stay what they are.

Where a word ends is decided on the text's *shape*: a string as long as the text, in which such
characters have become plain ones. So each word has exact offsets in its text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container
from functools import lru_cache
from typing import NamedTuple

# Scripts that do not separate words with spaces: each of their characters counts as a word.
_UNSPACED_SCRIPTS = (
    "CJK",
    "HIRAGANA",
    "KATAKANA",
    "HALFWIDTH KATAKANA",
    "BOPOMOFO",
    "THAI",
    "LAO",
    "KHMER",
    "MYANMAR",
    "TIBETAN",
)
APOSTROPHES = "'\N{RIGHT SINGLE QUOTATION MARK}"
_JOINERS = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"

# Signs of shapes.
_ATTACHED = "\x01"  # belongs to the character before it: a mark, or something invisible
_UNSPACED = "\x02"  # a word by itself
_JOINING = "\x03"  # joins two symbols to one emoji
_FOLDED = "x"  # a letter that stands for several

_SOFT_HYPHEN = "\N{SOFT HYPHEN}"
_INVISIBLE = {
    *"\u00ad\u034f\u061c\u180e\u200b\u200c\u200e\u200f\ufeff",
    *map(chr, (*range(0x202A, 0x202F), *range(0x2060, 0x2070), *range(0xFE00, 0xFE10))),
}
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63"
_SINGLE_QUOTES = "\u2018\u2019\u201a\u201b\u2032\u00b4\u02bc"
_DOUBLE_QUOTES = "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb"
# Compatibility forms that are another way to set the same letters; <super>, <sub>, <fraction> and
# <circle> would change what is said.
_WIDTHS = ("<wide>", "<narrow>")
_SAME_LETTERS = (*_WIDTHS, "<compat>", "<initial>", "<medial>", "<final>", "<isolated>")

_LETTERS = r"[^\W_]+[\x01\x03]*"
_WORD = re.compile(
    r"(?:(?<![^\s(\[{=<>≤≥≈:,/*^])[-+](?=[.,]?\d))?(?:(?<!\w)\.(?=\d))?"  # before a number
    rf"{_LETTERS}(?:(?:['_]+|(?<=\d)[.,:/](?=\d)|(?<=[\x01\x03])){_LETTERS})*"
    r"|\x02\x01*"
    r"|[\U0001f1e6-\U0001f1ff]{2}"
    r"|[^\w\s]\x01*\x03(?:[^\w\s]\x01*\x03?)*"
    r"|\.{2,}|-{2,}|`{2,}|'{2,}"
    r"|[^\w\s]\x01*|_"
)
_LINE_END_HYPHEN = re.compile(
    r"(?<=[^\W\d_])[-\u2010\u00ad][ \t]{0,80}\r?\n[ \t]{0,80}(?=[^\W\d_])"
)
_BREAKING = ("-", "\u2010", _SOFT_HYPHEN)
_HYPHENS = str.maketrans("\u2010\u2011", "--")
_COMPOUND = re.compile(r"(?<![\w-])[^\W\d_]+(?:[-\u2010\u2011][^\W\d_]+)+")
_LONGEST_PART = 40  # characters of a word in front of a line-end hyphen, or behind it
_LETTERS_BEFORE, _LETTERS_AFTER = re.compile(r"[^\W\d_]*\Z"), re.compile(r"[^\W\d_]*")
_CHUNK = re.compile(r"\S+")
_EMPHASIS = re.compile(r"\*+|_+|`+|~~|\n[ \t]*\n")
_MOST_OPEN = 8  # marks of emphasis that wait for their other half
# The same sign in other characters.
_IN_ASCII = {"--": "-", "---": "-", "``": '"', "''": '"', "...": "\N{HORIZONTAL ELLIPSIS}"}


class Word(NamedTuple):
    """A word, a number or a sign.

    Args:
        key: what it is compared by.
        start: first character in the text.
        end: one past the last.
    """

    key: str
    start: int
    end: int


def words_of(text: str, compounds: Container[str] = ()) -> list[Word]:
    """Return the words of a text, signs included.

    Args:
        text: the text.
        compounds: words such as ``price-determining`` whose hyphen stays at a line end; of other
            words that are broken there the parts are joined.
    """
    return words_in(_readable(text, compounds))


def chunks_of(text: str, compounds: Container[str] = ()) -> list[str]:
    """Return the stretches of a text between white space, for :func:`keys_in`.

    Together they have the keys of :func:`words_of`. Most chunks come again and again, so a caller
    that remembers their keys needs a tenth of the time.
    """
    return _readable(text, compounds).split()


def located_chunks(text: str, compounds: Container[str] = ()) -> list[tuple[int, str]]:
    """Return :func:`chunks_of` a text, each with its first character."""
    return [(chunk.start(), chunk[0]) for chunk in _CHUNK.finditer(_readable(text, compounds))]


def keys_in(chunk: str) -> list[str]:
    """Return the keys of the words in a stretch without white space."""
    if chunk.isascii():
        return [_IN_ASCII.get(key, key) for key in _WORD.findall(chunk)]
    return [word.key for word in words_in(chunk)]


def words_in(readable: str) -> list[Word]:
    """Return the words of a text that has neither broken words nor emphasis, such as a chunk."""
    shape = readable if readable.isascii() else readable.translate(_SHAPES)
    words = []
    for match in _WORD.finditer(shape):
        start, end = match.span()
        if key := _key(readable[start:end]):
            words.append(Word(key, start, end))
    return words


def is_word(key: str) -> bool:
    """Return whether a key has a letter or digit: whether it is not a sign."""
    return key.isalnum() or any(map(str.isalnum, key))


def compounds_of(text: str) -> set[str]:
    """Return the words of a text that have a hyphen: ``well-known``."""
    return {found.translate(_HYPHENS) for found in _COMPOUND.findall(text)}


def broken_words(text: str) -> set[str]:
    """Return the words that are broken at a line end, as if they had their hyphen anyway."""
    return {_unbroken(text, broken) for broken in _LINE_END_HYPHEN.finditer(text)}


def _unbroken(text: str, broken: re.Match[str]) -> str:
    start, end = broken.span()
    (before,) = _LETTERS_BEFORE.findall(text[max(0, start - _LONGEST_PART) : start])[:1]
    after, *_ = _LETTERS_AFTER.findall(text[end : end + _LONGEST_PART])
    return f"{before}-{after}"


@lru_cache(maxsize=1 << 16)
def _key(word: str) -> str:
    """Return the key of a word as it stands in a text."""
    if word.isascii():
        return _IN_ASCII.get(word, word)
    invisible = _INVISIBLE | {"\N{ZERO WIDTH JOINER}"} if word[:1].isalnum() else _INVISIBLE
    word = "".join(char for char in word if char not in invisible)
    word = "".join(map(_plain, unicodedata.normalize("NFC", word)))
    return _IN_ASCII.get(word, word)


@lru_cache(maxsize=1 << 12)
def _plain(char: str) -> str:
    """Return a character, or what it is another way to set."""
    for plain, others in (("-", _DASHES), ("'", _SINGLE_QUOTES), ('"', _DOUBLE_QUOTES)):
        if char in others:
            return plain
    tag, _, _ = unicodedata.decomposition(char).partition(" ")
    plain = unicodedata.normalize("NFKC", char)
    changes_number = tag not in _WIDTHS and any(map(str.isnumeric, plain))
    is_foldable = tag in _SAME_LETTERS and (len(plain) == 1 or char.isalnum())
    return plain if is_foldable and not changes_number else char


class _Shapes(dict[int, str]):
    """The shape of each character that is not ASCII, found out once."""

    def __missing__(self, code: int) -> str:
        self[code] = shape = _shape_of(chr(code))
        return shape


def _shape_of(char: str) -> str:
    if char.isascii():
        return char
    if char == "\N{ZERO WIDTH JOINER}":
        return _JOINING
    if char in _INVISIBLE or _extends(char):
        return _ATTACHED
    if is_unspaced(char):
        return _UNSPACED
    plain = _plain(char)
    return plain if len(plain) == 1 else _FOLDED


_SHAPES = _Shapes()


def _readable(text: str, compounds: Container[str]) -> str:
    """Return a text of the same length without broken words and emphasis."""
    joined = text
    if "\n" in text:
        joined = _LINE_END_HYPHEN.sub(lambda broken: _joint(text, broken, compounds), text)
    return _without_emphasis(joined)


def _joint(text: str, broken: re.Match[str], compounds: Container[str]) -> str:
    """Return what stands between the parts of a broken word: soft hyphens, or what was there."""
    stays = text[broken.end()].isupper() or _unbroken(text, broken) in compounds
    return broken[0] if stays and broken[0][0] != _SOFT_HYPHEN else _SOFT_HYPHEN * len(broken[0])


def _without_emphasis(text: str) -> str:
    """Blank the marks of Markdown's emphasis and code, which come in pairs around words."""
    pairs, _ = _emphasis(text)
    if not pairs:
        return text
    blanked = list(text)
    for start, end in pairs:
        blanked[start:end] = " " * (end - start)
    return "".join(blanked)


def _emphasis(text: str) -> tuple[list[tuple[int, int]], list[int]]:
    """Return the marks that come in pairs, and where those begin that wait for their other half."""
    if not any(mark in text for mark in "*_`~"):
        return [], []
    pairs: list[tuple[int, int]] = []
    opened: list[re.Match[str]] = []
    for mark in _EMPHASIS.finditer(text):
        before, after = text[mark.start() - 1 : mark.start()], text[mark.end() : mark.end() + 1]
        if mark[0][0] == "\n":  # another paragraph
            opened.clear()
        elif mark[0] in (other[0] for other in opened) and not (
            before.isspace() or _is_in_word(after)
        ):
            while (other := opened.pop())[0] != mark[0]:
                pass
            pairs += other.span(), mark.span()
        elif after and not (after.isspace() or _is_in_word(before)):
            opened = [*opened[1 - _MOST_OPEN :], mark]
    return pairs, [mark.start() for mark in opened]


def settled_length(text: str) -> int:
    """Return how many characters have words that stay the same, whatever follows the text."""
    bare = text.rstrip()
    settled = len(bare)
    if bare == text or bare.endswith(_BREAKING):  # the last chunk may go on
        settled = max(bare.rfind(space) for space in " \n\t") + 1
    return min([settled, *_emphasis(text)[1]])


def _is_in_word(char: str) -> bool:
    """Return whether emphasis beside a character would split a word; an empty one does not."""
    return char.isalnum() and not is_unspaced(char)


def is_inside_word(text: str, index: int) -> bool:
    """Return whether a cut before ``index`` would split a word or a combined character."""
    if not 0 < index < len(text):
        return False
    before, after = text[index - 1], text[index]
    if _extends(after) or before in _JOINERS:
        return True
    if _is_flag_half(before) and _is_flag_half(after):
        return True
    return _belongs_to_word(text, index - 1) and _belongs_to_word(text, index)


def is_unspaced(char: str) -> bool:
    """Return whether a character's script does not separate words with spaces."""
    return not char.isascii() and unicodedata.name(char, "").startswith(_UNSPACED_SCRIPTS)


def _belongs_to_word(text: str, index: int) -> bool:
    """Return whether the character is a letter, or an apostrophe between two: Halley's, O’Brien."""
    if text[index] in APOSTROPHES:
        return (
            0 < index < len(text) - 1
            and _is_letter(text[index - 1])
            and _is_letter(text[index + 1])
        )
    return _is_letter(text[index])


def _is_letter(char: str) -> bool:
    if char.isascii():
        return char.isalnum() or char == "_"
    if unicodedata.category(char)[0] == "M":
        return True
    return char.isalnum() and not is_unspaced(char)


def _extends(char: str) -> bool:
    """Return whether a character extends the one before it: mark, joiner, skin tone, emoji tag."""
    if char.isascii():
        return False
    is_modifier = "\U0001f3fb" <= char <= "\U0001f3ff" or "\U000e0020" <= char <= "\U000e007f"
    return unicodedata.category(char)[0] == "M" or char in _JOINERS or is_modifier


def _is_flag_half(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"
