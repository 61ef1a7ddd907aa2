"""The words of texts as they are compared for citing.

Two texts read the same if their words have the same keys. Keys see through what type setting,
extraction and Markdown change: Unicode normalization, ligatures, full width, soft hyphens and
other invisible characters, words broken at a line end, typographic quotes and dashes, white space,
emphasis, HTML's tags for it and its character references, Markdown's backslashes, the brackets of
``[T]he`` and ``<http://...>``. They never see through another letter, digit or sign: superscripts,
fractions and circled digits stay what they are.

Where a word ends is decided on the text's *shape*: a string as long as the text, in which such
characters have become plain ones. So each word has exact offsets in its text.
"""

from __future__ import annotations

import html
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
JOINERS = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"

# Signs of shapes.
_ATTACHED = "\x01"  # belongs to the character before it: a mark, or something invisible
_UNSPACED = "\x02"  # a word by itself
_JOINING = "\x03"  # joins two symbols to one emoji
_FOLDED = "x"  # a letter that stands for several

_SOFT_HYPHEN = "\N{SOFT HYPHEN}"
_INVISIBLE = {
    *"\u00ad\u034f\u061c\u0640\u180e\u200b\u200c\u200e\u200f\ufeff",
    # Overrides (U+202D, U+202E) show other words than they hold.
    *map(chr, (*range(0x202A, 0x202D), *range(0x2060, 0x2070), *range(0xFE00, 0xFE10))),
    *map(chr, range(0xE0100, 0xE01F0)),
}
_DASHES = "\u05be\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63"
_SINGLE_QUOTES = "\u00b4\u02bb\u02bc\u05f3\u2018\u2019\u201a\u201b\u2032\u2039\u203a"
_DOUBLE_QUOTES = "\u00ab\u00bb\u05f4\u201c\u201d\u201e\u201f\u2033"
# Compatibility forms that are another way to set the same letters; <super>, <sub>, <fraction> and
# <circle> would change what is said.
_WIDTHS = ("<wide>", "<narrow>")
_SAME_LETTERS = (*_WIDTHS, "<compat>", "<initial>", "<medial>", "<final>", "<isolated>")

# Vowels that are set as one character or as two: the second is a letter by itself.
_SARA_AM = ("\N{THAI CHARACTER SARA AM}", "\N{LAO VOWEL SIGN AM}")
_HALVES_OF_SARA_AM = re.compile("(?<=\u0e4d)\u0e32|(?<=\u0ecd)\u0eb2")
_VOICED_MARKS = "\uff9e\uff9f"  # of half-width katakana

_LETTERS = r"[^\W_]+[\x01\x03]*"
_WORD = re.compile(
    r"(?<![\w-])--(?=[^\W\d_])[\w-]+|"  # an option of a command
    r"(?:(?<![^\s()\[{=<>≤≥≈:,/*^\"'~±|$€£¥])[-+](?=[.,]?\d))?"  # before a number
    r"(?:(?<!\w)\.(?=\d))?"
    rf"{_LETTERS}(?:(?:['_]+|(?<=\d)[.,:/](?=\d)|(?<=[\x01\x03])){_LETTERS})*"
    r"|\x02\x01*"
    r"|[\U0001f1e6-\U0001f1ff]{2}"
    r"|[^\w\s]\x01*\x03(?:[^\w\s]\x01*\x03?)*"
    r"|\.{2,}|-{2,}|`{2,}|'{2,}"
    r"|[^\w\s]\x01*|_"
)
_LINE_ENDS = "\n\r\u2028"
_LINE_END_HYPHEN = re.compile(
    r"(?:(?<=[^\W\d_])|(?<=[\u0300-\u036f]))[-\u2010\u00ad]"
    r"[ \t]{0,80}(?:\r\n|[\n\r\u2028])[ \t]{0,80}(?=[^\W\d_])"
)
_BREAKING = ("-", "\u2010", _SOFT_HYPHEN)
_HYPHENS = str.maketrans("\u2010\u2011", "--")
# well-known; and short- and long-term, whose first hyphen stays at a line end, too.
_COMPOUND = re.compile(r"(?<![\w-])[^\W\d_]+(?:[-\u2010\u2011] ?[^\W\d_]+)+")
_LONGEST_PART = 40  # characters of a word in front of a line-end hyphen, or behind it
_LETTERS_BEFORE, _LETTERS_AFTER = re.compile(r"[^\W\d_]*\Z"), re.compile(r"[^\W\d_]*")
_CHUNK = re.compile(r"\S+")
_CHARACTER_REFERENCE = re.compile(  # &amp; &#8217; &#x2019;
    r"&(?:#\d{1,7}|#[xX][\da-fA-F]{1,6}|[A-Za-z][A-Za-z\d]{1,30});"
)
_ESCAPE = re.compile(r"([^\W_])?\\([!\"#$%&'*+\-.<=>@\[\]^_`{|}~])")

_LINK = re.compile(  # Markdown's: what is shown, and where it leads
    r"(?<![\w!\]])\[((?=[^\[\]]*[^\W\d_])[^\[\]\n]{1,300})\]"
    r"\((?:[^()\s]|\([^()\s]{0,100}\)){0,500}(?:[ \t]\"[^\"\n]{0,200}\")?\)"
)
_AUTOLINK = re.compile(r"<((?:https?://|mailto:)[^\s<>]{1,500}|[\w.+-]{1,64}@[\w.-]{1,255})>")
_EDITED_LETTER = re.compile(r"(?<![^\W_])\[([^\W\d_])\](?=[^\W\d_])")  # [T]he
# HTML's, of emphasis, paragraphs, lists and tables; <sub>, <sup> and <del> change what is said.
_TAG = "</?(?:em|strong|mark|small|span|div|[uo]l|li|table|thead|tbody|t[rdh]|h[1-6]|[biup])>"
_BREAK = re.compile("<br ?/?>")
_EMPHASIS = re.compile(rf"\*+|_+|`+|\n[ \t]*\n|{_TAG}")
TAG = re.compile(f"{_TAG}|{_BREAK.pattern}")
_TAG_MAY_FOLLOW = "<br "
_LINK_MAY_FOLLOW = re.compile(r"\[[^\[\]\n]{0,300}(?:\](?:\([^()\n]{0,700})?)?\Z")
_OPENING, _CLOSING = "([{“„«‘「『", ")]}””»’」』"
_LONGEST_ENCLOSED = 1000  # characters
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
    shape = readable
    if not readable.isascii():
        shape = _HALVES_OF_SARA_AM.sub(_ATTACHED, readable).translate(_SHAPES)
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
    found = _COMPOUND.findall(text)
    return {compound.translate(_HYPHENS).replace(" ", "") for compound in found}


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
    word = unicodedata.normalize("NFC", word)  # of marks that were half as wide
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
    if char in _INVISIBLE or extends(char):
        return _ATTACHED
    if is_unspaced(char):
        return _UNSPACED
    plain = _plain(char)
    return plain if len(plain) == 1 else _FOLDED


_SHAPES = _Shapes()


def _readable(text: str, compounds: Container[str]) -> str:
    """Return a text of the same length without broken words, emphasis, escapes and so on."""
    text = joined = _without_escapes(text)
    if has_line_end(text):
        joined = _LINE_END_HYPHEN.sub(lambda broken: _joint(text, broken, compounds), text)
    return _without_links(without_emphasis(_without_edits(joined)))


def _without_escapes(text: str) -> str:
    """Return a text of the same length with the characters that others stand for."""
    if "&" in text:
        text = _CHARACTER_REFERENCE.sub(_of_same_length, text)
    if "\\" in text:
        text = _ESCAPE.sub(_escaped, text)
    return text


def unescaped(text: str) -> str:
    """Return a text with the characters that HTML's character references stand for."""
    return _CHARACTER_REFERENCE.sub(lambda reference: html.unescape(reference[0]), text)


def _of_same_length(reference: re.Match[str]) -> str:
    text, (start, end) = reference.string, reference.span()
    char = html.unescape(reference[0])
    if char in APOSTROPHES and text[start - 1 : start].isalpha() and text[end : end + 1].isalpha():
        return char.rjust(end - start, _SOFT_HYPHEN)
    return char.ljust(end - start, " " if char.isspace() else _SOFT_HYPHEN)


def _escaped(escape: re.Match[str]) -> str:
    """Return a sign that a backslash keeps from being Markdown; within a word it stays there."""
    before, sign = escape.groups(default="")
    if not before:
        return f" {sign}"
    return f"{before}{_SOFT_HYPHEN}_" if sign == "_" else f"{before}{sign}{_SOFT_HYPHEN}"


def _blank(text: str, start: int, end: int) -> str:
    """Return what a mark becomes: nothing within a word, otherwise white space."""
    is_within = _is_in_word(text[start - 1 : start]) and _is_in_word(text[end : end + 1])
    return (_SOFT_HYPHEN if is_within else " ") * (end - start)


def _without_edits(text: str) -> str:
    """Take the brackets off first letters: they tell that a source's may be a capital or none."""
    if "[" not in text:
        return text
    return _EDITED_LETTER.sub(
        # Only letters that there are capitals of: [注] is a note.
        lambda edit: (
            edit[1].ljust(3, _SOFT_HYPHEN) if edit[1].lower() != edit[1].upper() else edit[0]
        ),
        text,
    )


def has_line_end(text: str) -> bool:
    """Return whether a word may be broken at a line end in a text."""
    return any(end in text for end in _LINE_ENDS)


def _without_links(text: str) -> str:
    """Blank where Markdown's links lead; nothing separates what they show from letters behind."""
    if "<" in text:
        text = _AUTOLINK.sub(r" \1 ", text)
    if "](" not in text:
        return text
    return _LINK.sub(
        lambda link: f" {link[1]}".ljust(
            len(link[0]), _SOFT_HYPHEN if text[link.end() : link.end() + 1].isalnum() else " "
        ),
        text,
    )


def _joint(text: str, broken: re.Match[str], compounds: Container[str]) -> str:
    """Return what stands between the parts of a broken word: soft hyphens, or what was there."""
    stays = text[broken.end()].isupper() or _unbroken(text, broken) in compounds
    return broken[0] if stays and broken[0][0] != _SOFT_HYPHEN else _SOFT_HYPHEN * len(broken[0])


@lru_cache(maxsize=64)
def without_emphasis(text: str) -> str:
    """Blank the marks of emphasis and code, which come in pairs around words, and line breaks."""
    pairs, _ = _emphasis(text)
    if "<br" in text:
        text = _BREAK.sub(lambda tag: " " * len(tag[0]), text)
    if not pairs:
        return text
    blanked = list(text)
    for start, end in pairs:
        blanked[start:end] = _blank(text, start, end)
    return "".join(blanked)


def _emphasis(text: str) -> tuple[list[tuple[int, int]], list[int]]:
    """Return the marks that come in pairs, and where those begin that wait for their other half."""
    if not any(mark in text for mark in "*_`~<"):
        return [], []
    pairs: list[tuple[int, int]] = []
    opened: list[re.Match[str]] = []
    for mark in _EMPHASIS.finditer(text):
        if mark[0][0] == "\n":  # another paragraph
            opened.clear()
            continue
        opens, closes = _may_open_and_close(mark)
        if closes and any(_are_pair(other, mark) for other in opened):
            while not _are_pair(other := opened.pop(), mark):
                pass
            pairs += other.span(), mark.span()
        elif opens:
            opened = [*opened[1 - _MOST_OPEN :], mark]
    return pairs, [
        mark.start()
        for mark in opened
        if not _is_within_word(mark) or _is_in_one_word(text, mark.end(), len(text))
    ]


def _may_open_and_close(mark: re.Match[str]) -> tuple[bool, bool]:
    """Return whether something emphasized may begin, and end, with a mark."""
    before, after = _beside(mark)
    if mark[0][0] == "<":
        is_closing = mark[0][1] == "/"
        return bool(after) and not is_closing, is_closing
    is_within = _is_within_word(mark)
    opens = bool(after) and not (after.isspace() or (_is_in_word(before) and not is_within))
    return opens, not (before.isspace() or (_is_in_word(after) and not is_within))


def _is_within_word(mark: re.Match[str]) -> bool:
    """Return whether a mark stands between two letters, as in the **N**ational **A**ssembly."""
    is_doubled = mark[0].startswith("**")  # a*b is a product
    return is_doubled and all(char.isalpha() and _is_in_word(char) for char in _beside(mark))


def _beside(mark: re.Match[str]) -> tuple[str, str]:
    start, end = mark.span()
    return mark.string[start - 1 : start], mark.string[end : end + 1]


def _are_pair(opening: re.Match[str], closing: re.Match[str]) -> bool:
    """Return whether two marks are alike, and in one word if one of them stands within a word."""
    if opening[0].replace("<", "</") != closing[0]:
        return False
    is_within = _is_within_word(opening) or _is_within_word(closing)
    return not is_within or _is_in_one_word(opening.string, opening.end(), closing.start())


def _is_in_one_word(text: str, start: int, end: int) -> bool:
    return end - start <= _LONGEST_PART and not any(map(str.isspace, text[start:end]))


def settled_length(text: str) -> int:
    """Return how many characters have words and sentences that stay, whatever follows the text."""
    bare = text.rstrip()
    settled = len(bare)
    if bare == text or bare.endswith(_BREAKING):  # the last chunk may go on
        settled = max(bare.rfind(space) for space in " \n\t") + 1
    limits = [settled, *_emphasis(text)[1], *_enclosing(text)[:1]]
    if link := _LINK_MAY_FOLLOW.search(text):
        limits.append(link.start())
    if text.endswith(_TAG_MAY_FOLLOW):
        limits.append(len(text) - len(_TAG_MAY_FOLLOW))
    return min(limits)


def tags_in(text: str) -> list[tuple[int, int]]:
    """Return where HTML's tags stand in a text that are no words of it."""
    pairs, _ = _emphasis(text) if "<" in text else ([], [])
    tags = [(start, end) for start, end in pairs if text[start] == "<"]
    return tags + [tag.span() for tag in _BREAK.finditer(text)]


def emphasized(text: str) -> list[tuple[int, int]]:
    """Return what stands between marks of emphasis, those included."""
    pairs, _ = _emphasis(text)
    return [(pairs[i][0], pairs[i + 1][1]) for i in range(0, len(pairs), 2)]


def _enclosing(text: str) -> list[int]:
    """Return where marks begin that enclose the end of a text: brackets, quotation marks.

    Sentences end elsewhere once these are closed.
    """
    begin = max(text.rfind("\n\n") + 1, len(text) - _LONGEST_ENCLOSED)
    open_: list[tuple[int, str]] = []
    for index in range(begin, len(text)):
        char = text[index]
        if (at := _OPENING.find(char)) >= 0:
            open_.append((index, _CLOSING[at]))
        elif any(char == closing for _, closing in open_):
            while open_.pop()[1] != char:
                pass
        elif char == '"' or (char == "'" and not text[index - 1 : index].isalnum()):
            open_.append((index, char))
    return [index for index, _ in open_]


def _is_in_word(char: str) -> bool:
    """Return whether emphasis beside a character would split a word; an empty one does not."""
    return char.isalnum() and not is_unspaced(char)


def is_unspaced(char: str) -> bool:
    """Return whether a character's script does not separate words with spaces."""
    return not char.isascii() and unicodedata.name(char, "").startswith(_UNSPACED_SCRIPTS)


def extends(char: str) -> bool:
    """Return whether a character extends the one before it: mark, joiner, skin tone, emoji tag."""
    if char.isascii():
        return False
    is_modifier = "\U0001f3fb" <= char <= "\U0001f3ff" or "\U000e0020" <= char <= "\U000e007f"
    is_set_behind = char in JOINERS or char in _SARA_AM or char in _VOICED_MARKS
    return unicodedata.category(char)[0] == "M" or is_set_behind or is_modifier
