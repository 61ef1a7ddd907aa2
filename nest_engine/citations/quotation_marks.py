"""What stands in quotation marks in a text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nest_engine.citations.comparison import num_words
from nest_engine.citations.literals import without_literals

_PARAGRAPH = re.compile(r"\S(?:[^\n]|\n(?![ \t]*\n))*")
# A letter that no mark of quotation stands right beside. Scripts that do not separate words do it,
# and Korean sets its particles behind the mark.
_BESIDE_MARKS = (
    r"\u0e00-\u0eff\u1000-\u11ff\u1780-\u17ff\u3005-\u318f\u31a0-\u31ff\u3400-\u9fff"
    r"\uac00-\ud7ff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
LETTER = rf"[^\W_²³¹⁰-⁹{_BESIDE_MARKS}]"
# Marks that open and close; each paragraph of a long quotation opens it again.
_PAIRED = re.compile(
    r"“((?:[^“”]|“[^“”]*”){1,5000})”|“([^“”]{1,5000}(?:\n[ \t]*\n[ \t]*“[^“”]{1,5000})+)”"
    r"|“([^“”\"\n]+)\"|«((?:[^«»]|«[^«»]*»){1,5000})»|»([^«»]{1,5000})«"
    r"|„((?:[^„“”\"]|„[^„“”\"]*[“”\"]){1,5000})[“”\"]|”([^”“\"\n]+)[”“]"
    r"|‹([^‹›\n]+)›|›([^‹›\n]+)‹|「([^「」]{1,5000})」|『([^『』]{1,5000})』|﹁([^﹁﹂]{1,5000})﹂"
    r"|〝([^〝〞〟]{1,5000})[〞〟]|❝([^❝❞]{1,5000})❞|＂([^＂\n]+)＂|‚([^‚‘’\n]+)[‘’]"
    rf"|(?<!{LETTER})״(?=\S)([^״\n]+)(?<=\S)״(?!{LETTER})"
    rf"|(?<!{LETTER})\"(?=\S)([^\"“”\n]+)”"
    r"|``([^`\n]+?)(?:''|``)|,,([^,\n]+?)(?:''|“|”)|(?<!')''([^'\n]+)''(?!')"
    r"|<<([^<>\n]+)>>|&quot;([^&\n]+)&quot;|&[lb]dquo;([^&\n]+)&[lr]dquo;"
    r"|<(?:q|blockquote)(?:\s[^<>\n]*)?>([^<>]{1,5000})</(?:q|blockquote)>"
)
# An apostrophe may begin a word: the '90s, 'tis, rock 'n' roll.
_NO_ELISION = r"(?!\d\ds?\b|(?i:n['’]|t(?:is|was|il)\b|em\b|cause\b|round\b|bout\b))"
APOSTROPHE = r"(?<=s)['’](?=\s[^\W\d_A-Z])"  # at the end of a word: the students' work
# Straight marks open and close alike: they open in front of a word, and close behind one. Single
# ones are mostly apostrophes, and typographic single ones may be, within.
_STRAIGHT = re.compile(
    # Inches within (5'10" tall), where another mark closes.
    rf'(?<!{LETTER})(?<!")"(?=\S)([^"]+(?:(?<=\d)"(?=\s\w)[^"]+)+)(?<=[^\s(\[])\\?"(?!{LETTER})'
    rf'|(?<!{LETTER})(?<!")"(?=\S)([^"]+?)(?<=\S)\\?"(?!{LETTER})|(?<!\S)" ([^"\n]+) "(?!{LETTER})'
    rf"|(?<!{LETTER})(?<![²³¹⁰-⁹‘'])‘([^‘’]+(?:’[^‘’“”]+)*)’(?!{LETTER})"
    # The students' work within, where another mark closes.
    rf"|(?<!{LETTER})(?<![²³¹⁰-⁹'])'(?=\w){_NO_ELISION}((?:[^']|'(?={LETTER})){{1,1000}}"
    rf"(?:{APOSTROPHE}(?:[^']|(?<={LETTER})'(?={LETTER})){{1,1000}})+)(?<=[^\s(\[])"
    rf"(?!{APOSTROPHE})'(?!{LETTER}|')"
    rf"|(?<!{LETTER})(?<![²³¹⁰-⁹'])'(?=\w){_NO_ELISION}((?:[^']|'(?={LETTER})){{1,1000}})(?<=\S)'(?!{LETTER}|')"
)
BLOCK = re.compile(r"(?m:^[ \t]*(?:[-*+][ \t]+|\d+[.)][ \t]+)?>[ ]?(.+(?:\n[ \t]*>.*)*))")
LEAST_WORDS = 3  # of what stands in doubtful marks, or of a part that was really copied


def in_marks(text: str) -> Iterator[re.Match[str]]:
    """Yield what stands in marks of quotation; of those that overlap the first."""
    text = without_literals(text)
    matches = [*_PAIRED.finditer(text)]
    for paragraph in _PARAGRAPH.finditer(text):
        for pattern in (_STRAIGHT, BLOCK):
            matches += pattern.finditer(text, *paragraph.span())
    end = 0
    for match in sorted(matches, key=lambda match: match.start()):
        is_doubtful = match[0].startswith("'") and match.re is _STRAIGHT
        if match.start() < end or (is_doubtful and num_words(said_in(text, match)) < LEAST_WORDS):
            continue
        end = match.end()
        yield match


def said_in(text: str, match: re.Match[str]) -> str:
    """Return what stands in the marks."""
    start, end = match.span(match.lastindex or 0)
    return text[start:end]
