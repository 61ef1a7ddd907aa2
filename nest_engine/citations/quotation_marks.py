"""What stands in quotation marks in a text, and the source that is named for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple
from unicodedata import normalize

from nest_engine.citations.comparison import num_words
from nest_engine.citations.literals import without_literals
from nest_engine.citations.references import (
    AND,
    LABEL,
    PAGES,
    RAISED,
    REFERENCE,
    SEE,
    names_of,
    read_name,
)
from nest_engine.citations.words import words_of
from nest_engine.records import Passage

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
_APOSTROPHE = r"(?<=s)['’](?=\s[^\W\d_A-Z])"  # at the end of a word: the students' work
# Straight marks open and close alike: they open in front of a word, and close behind one. Single
# ones are mostly apostrophes, and typographic single ones may be, within.
_STRAIGHT = re.compile(
    # Inches within (5'10" tall), where another mark closes.
    rf'(?<!{LETTER})(?<!")"(?=\S)([^"]+(?:(?<=\d)"(?=\s\w)[^"]+)+)(?<=[^\s(\[])\\?"(?!{LETTER})'
    rf'|(?<!{LETTER})(?<!")"(?=\S)([^"]+?)(?<=\S)\\?"(?!{LETTER})|(?<!\S)" ([^"\n]+) "(?!{LETTER})'
    rf"|(?<!{LETTER})(?<![²³¹⁰-⁹‘'])‘([^‘’]+(?:’[^‘’“”]+)*)’(?!{LETTER})"
    # The students' work within, where another mark closes.
    rf"|(?<!{LETTER})(?<![²³¹⁰-⁹'])'(?=\w){_NO_ELISION}((?:[^']|'(?={LETTER})){{1,1000}}"
    rf"(?:{_APOSTROPHE}(?:[^']|(?<={LETTER})'(?={LETTER})){{1,1000}})+)(?<=[^\s(\[])"
    rf"(?!{_APOSTROPHE})'(?!{LETTER}|')"
    rf"|(?<!{LETTER})(?<![²³¹⁰-⁹'])'(?=\w){_NO_ELISION}((?:[^']|'(?={LETTER})){{1,1000}})(?<=\S)'(?!{LETTER}|')"
)
_BLOCK = re.compile(r"(?m:^[ \t]*(?:[-*+][ \t]+|\d+[.)][ \t]+)?>[ ]?(.+(?:\n[ \t]*>.*)*))")
_QUOTE_MARK = re.compile(r"(?m)^[ \t]*(?:>[ \t]?)+|^\[!\w+\]")
_LINE_BREAK = re.compile("\n|<br ?/?>")
_BULLET = re.compile(r"\A[ \t]*(?:[-*+•]|#{1,6})[ \t]+")
# The source of a block, as people name it: (p. 4), (Smith, 1999, p. 4).
_AT_END = re.compile(
    rf"(?<=[.!?…\"”»])[ \t]*[(\[](?:[^\W\d_][^()\[\]\n\d]{{0,80}})?"
    rf"(?:\d{{4}}[a-z]?(?:, {PAGES})?|{PAGES})[)\]][*_\s]*\Z"
)
# Words left out, and what an editor says of the others, in brackets; a sign may follow.
_OMISSION = re.compile(
    r"(?:\[[ ]?(?:…|⋯|\.[ ]?\.(?:[ ]?\.){0,2})[ ]?\]|<(?:…|\.{3})>|⟨(?:…|\.{3})⟩"
    r"|\((?:…|\.{3}|\. \. \.)\))[,.;:]?|(?<![.\w])\. \. \.(?: \.)?|⋯"
)
_EDITORS = re.compile(
    r"[\[(](?:sic[.!?]?|emphasis (?:added|mine|ours)|(?:my|our) emphasis)[\])]", re.IGNORECASE
)
_REOPENED = re.compile(r"\n[ \t]*\n[ \t]*“")
# Who is quoted, below a block quotation: a name, no sentence.
_ATTRIBUTION = re.compile(
    r"[\s>]*(?:[—–]|--|-[ ])[ \t]*[*_\[(]*([^\W\d_][^\n]{0,99})(?<![.!?])\s*\Z"
)
# The source of a quotation, in brackets behind it, in the same sentence: [2], [1][3], [Helium],
# (Helium), 【2†source】, [[2]](#2), ².
_IN_BRACKETS = (
    r"\\?\[{1,2}\^?[^\[\]\n]{1,200}\]{1,2}(?:\(#?[^()\s]{1,200}\))?"
    rf"|【[^】\n]{{1,60}}】|［[^］\n]{{1,60}}］|\([^()\n]{{1,200}}\)|（[^（）\n]{{1,200}}）|[⁽]?[¹²³⁰⁴-⁹]{{1,3}}[⁾]?|{RAISED}"
)
_REFERENCES = re.compile(
    rf"([.,;:]?\s?\(?(?:{PAGES},?\s?\(?)?|[^\n\[(.!?“”„«»\"]{{1,60}}?)"
    rf"((?:{_IN_BRACKETS})(?:[,;]?\s?(?:{_IN_BRACKETS})){{0,30}})"
)
# The source at the end of a quotation, within: (Helium), — *Helium*.
_SIGNED = re.compile(rf"[ \t]*(?:(?:{_IN_BRACKETS})|(?:[—–]|--)[ \t]*([^\n—–]{{1,200}}))[*_\s]*\Z")
_ONE_REFERENCE = re.compile(_IN_BRACKETS)
_BEFORE = re.compile(r"(\[\^?\d{1,3}\])[ ]?[,:]?[ ]?\Z")  # a quotation: [1]: "..."
_NUMBER = re.compile(rf"(?:{SEE})?(?:{LABEL}[ .:#_-]{{0,2}})?(\d{{1,3}})(?:†.*)?\Z")
_PAGES = re.compile(rf",?\s?{PAGES}(?!\w)")
_AROUND_NUMBERS = re.compile(r"</?\w+>|[\[\]{}［］【】()（）⁽⁾$^#\\]")
_RANGE = re.compile(r"(?<!\d)(\d{1,3})\s?[–-]\s?(\d{1,3})(?!\d)")
# A text's own list of sources, or footnotes: [1] Helium, [^1]: helium.txt, p. 3; below a heading
# also 1. Helium.
_LISTED = re.compile(
    r"(?m)^[ \t]*(?:[-*][ \t]+)?(?:\[{1,2}(?P<note>\^)?(\d{1,3})\]{1,2}:?|(\d{1,3})[.):]"
    r"|([¹²³⁴-⁹]))[ \t]*(?P<source>[^\s:].*)"
)
_HEADING_OF_LIST = re.compile(
    rf"(?im)^[ \t#*_]*(?:{LABEL}|footnotes?|notes?|works cited|bibliograph\w*|bibliografía"
    r"|literatur\w*|références|einzelnachweise|fußnoten)(?:[ ](?:used|cited|list))?[ \t:*_]*$"
)
_LABEL = re.compile(rf"{LABEL}[ .:]{{1,2}}(?=\D)")
_SOURCES_OWN = re.compile(rf"(?<=\S)(?:{REFERENCE.pattern})")
_MARK = re.compile(r"(?<!\d)[\"“”„‟«»״]|[「」『』﹁﹂]")
_MOST_WORDS_BETWEEN = 4  # a quotation and its source; one farther away is perhaps another's
LEAST_WORDS = 3  # of what stands in doubtful marks, or of a part that was really copied


class Found(NamedTuple):
    """A quotation, before it is judged.

    Args:
        text: what stands in the marks.
        start: its first character in the text that is judged.
        named: indices of the passages that are named beside it, or None.
        reference: how they are named.
        is_near: whether they are certainly named for this quotation.
        is_block: whether it is a block quotation of Markdown.
        length: how much of the text is quoted: the name of its source may stand at its end.
        ends: where it may end, too, in characters: at a mark that may be an apostrophe.
    """

    text: str
    start: int = 0
    named: tuple[int, ...] | None = None
    reference: str = ""
    is_near: bool = True
    is_block: bool = False
    ends: tuple[int, ...] = ()
    length: int | None = None


def quotations_in(
    quotations: str | Iterable[str | tuple[str, str]],
    passages: Sequence[Passage],
    *,
    numbered: bool = True,
) -> Iterator[Found]:
    """Yield the quotations of a text, or those that are given.

    Args:
        quotations: as for :func:`nest_engine.citations.quotations.judge_quotations`.
        passages: the sources that may be named.
        numbered: likewise.
    """
    if isinstance(quotations, str):
        sources = _Sources(passages, quotations, numbered=numbered)
        for match in _in_marks(quotations):
            yield _in_text(quotations, match, sources)
        return
    sources = _Sources(passages)
    for given in quotations:
        text, source = (given, None) if isinstance(given, str) else given
        yield Found(text, named=None if source is None else sources.named(source))


class _Sources:
    """The sources that may be named.

    Args:
        passages: the passages.
        text: names them; its own list of sources says what its numbers mean.
        numbered: whether a number names one, where the text has no such list.
    """

    def __init__(
        self, passages: Sequence[Passage], text: str = "", *, numbered: bool = True
    ) -> None:
        self.passages = passages
        self._text = text
        self._numbered = numbered

    @cached_property
    def _names(self) -> dict[str, list[int]]:
        """What passages are called; those of one document have a name in common."""
        names: dict[str, list[int]] = {}
        for number, passage in enumerate(self.passages):
            for name in names_of(passage):
                names.setdefault(name, []).append(number)
        return names

    @cached_property
    def _listed(self) -> dict[int, tuple[int, ...]]:
        """The passages that the text's own list has for each number; none for other sources."""
        listed = {}
        heading = max((each.end() for each in _HEADING_OF_LIST.finditer(self._text)), default=None)
        for line in _LISTED.finditer(self._text):
            _, in_brackets, before_sign, raised = line.groups()[:4]
            number = int(normalize("NFKC", in_brackets or before_sign or raised))
            is_below = heading is not None and line.start() > heading
            is_below &= not REFERENCE.search(line["source"])  # it would be a sentence
            passages = self._set_off_in(line["source"]) if is_below or not before_sign else ()
            if passages or is_below or line["note"]:
                listed[number] = passages
        return listed

    def _set_off_in(self, line: str) -> tuple[int, ...]:
        """Return the passages whose name a line has between signs: *Helium*, p. 3."""
        found = [
            name
            for name in self._names
            if name in line
            and re.search(rf"(?:^|[^\w\s]\s?){re.escape(name)}(?=\s?(?:[^\w\s]|$))", line)
        ]
        return tuple(self._names[max(found, key=len)]) if found else ()

    def by_name(self, reference: str) -> tuple[int, ...]:
        """Return the passages that have a name."""
        name, _, link = reference.partition("](")
        name = _LABEL.sub("", name.strip("[]^［］【】()（）"))
        found = [self._names[each] for each in read_name(name, link) if each in self._names]
        return tuple(found[0]) if found else ()

    def named(self, reference: str, *, is_near: bool = True) -> tuple[int, ...] | None:
        """Return the passages that a reference means, none if there are none such.

        None if it may mean anything.
        """
        is_in_parentheses = reference.startswith(("(", "（")) and "[" not in reference
        is_in_brackets = reference[:1] in "[［【"
        if passages := self.by_name(reference):
            return passages
        if not self._numbered and not self._listed:
            return None
        name = normalize("NFKC", _AROUND_NUMBERS.sub("", reference.partition("](")[0]))
        name = _PAGES.sub("", name).strip()
        if is_in_parentheses and name.isdecimal():
            return None  # a year, or anything else
        name = _RANGE.sub(_written_out, name)
        parts = [name] if _NUMBER.match(name) else re.split(AND, name)
        numbers = [_NUMBER.match(each.strip()) for each in parts]
        if not name or not all(numbers):
            return None
        indices = [int(number[1]) - 1 for number in numbers if number]
        if self._listed:
            return sum((self._listed.get(index + 1, ()) for index in indices), ()) or None
        known = tuple(index for index in indices if 0 <= index < len(self.passages))
        return known if known or (is_near and is_in_brackets) else None


def _in_marks(text: str) -> Iterator[re.Match[str]]:
    """Yield what stands in marks of quotation; of those that overlap the first."""
    text = without_literals(text)
    matches = [*_PAIRED.finditer(text)]
    for paragraph in _PARAGRAPH.finditer(text):
        for pattern in (_STRAIGHT, _BLOCK):
            matches += pattern.finditer(text, *paragraph.span())
    end = 0
    for match in sorted(matches, key=lambda match: match.start()):
        is_doubtful = match[0].startswith("'") and match.re is _STRAIGHT
        if match.start() < end or (is_doubtful and num_words(_said(text, match)) < LEAST_WORDS):
            continue
        end = match.end()
        yield match


def _said(text: str, match: re.Match[str]) -> str:
    start, end = match.span(match.lastindex or 0)
    return text[start:end]


def _in_text(text: str, match: re.Match[str], sources: _Sources) -> Found:
    said, start = _said(text, match), match.start(match.lastindex or 0)
    mark = rf"’(?!{LETTER})"
    if not re.compile(_APOSTROPHE).match(text, start + len(said)):
        mark = rf"(?!{_APOSTROPHE}){mark}"  # one that closes for certain follows
    ends = [each.start() for each in re.finditer(mark, said)]
    signed = _signature(said, sources) if match.re is _BLOCK else None
    if signed is None:
        named, reference, is_near = _reference_of(text, match, sources)
    else:
        named, reference, is_near = sources.named(signed[0]), signed[0], True
    return Found(
        said,
        start,
        named,
        reference,
        is_near,
        is_block=match.re is _BLOCK,
        ends=tuple(ends) if match[0].startswith("‘") else (),
        length=len(said) if signed is None else signed[1],
    )


def _signature(said: str, sources: _Sources) -> tuple[str, int] | None:
    """Return what names the source at the end of a block quotation, and where that begins.

    Only what certainly does: the source may have the same.
    """
    signed = _SIGNED.search(said)
    if signed is None:
        return None
    begin, reference = signed.start(), (signed[1] or signed[0]).strip(" *_")
    is_known = sources.by_name(reference) or REFERENCE.fullmatch(f"[{reference}]")
    if is_known and not any(said[begin:].strip() in each.text for each in sources.passages):
        return reference, begin
    return None


def _reference_of(
    text: str, quotation: re.Match[str], sources: _Sources
) -> tuple[tuple[int, ...] | None, str, bool]:
    """Return the passages that are named for a quotation, how, and whether certainly for it.

    At its end, behind it, or right in front of it.
    """
    said = _said(text, quotation).rstrip(" .,;:")
    own = [*REFERENCE.finditer(said)]
    if own and own[-1].end() == len(said) and not _is_sources_own(own[-1], sources.passages):
        return sources.named(own[-1][0]), own[-1][0], True
    behind = _REFERENCES.match(text, quotation.end())
    if behind is not None:
        is_near = len(words_of(_PAGES.sub("", behind[1]))) <= _MOST_WORDS_BETWEEN
        named = [
            sources.named(each[0], is_near=is_near) for each in _ONE_REFERENCE.finditer(behind[2])
        ]
        known = [each for each in named if each is not None]
        return (tuple(sum(known, ())) if known else None), behind[2], is_near
    before = _BEFORE.search(text, max(0, quotation.start() - 20), quotation.start())
    if before is not None:
        return sources.named(before[1]), before[1], False
    return None, "", True


def _written_out(range_: re.Match[str]) -> str:
    """Return 1,2,3 for 1-3."""
    return ",".join(map(str, range(int(range_[1]), int(range_[2]) + 1)))


def _is_sources_own(reference: re.Match[str], passages: Sequence[Passage]) -> bool:
    """Return whether a source has the same reference behind the same words."""
    tail = reference.string[max(0, reference.start() - 20) : reference.end()]
    return any(tail in passage.text for passage in passages)


def bare(found: Found, passages: Sequence[Passage]) -> str:
    """Return a quotation of the same length without what is not quoted.

    That are the marks of block quotations, who is quoted, and references, but for those that
    :func:`source_text` leaves in the source.
    """

    def blank(reference: re.Match[str]) -> str:
        is_set_off = reference.string[reference.start() - 1 : reference.start()].isspace()
        is_kept = is_set_off and _is_sources_own(reference, passages)
        return reference[0] if is_kept else _blank(reference)

    text = _REOPENED.sub(_blank, found.text[: found.length])
    if found.is_block:
        text = _BULLET.sub(_blank, _QUOTE_MARK.sub(_blank, text))
        at_end = _AT_END.search(text)
        name = re.split(r"\d", at_end[0].strip())[0] if at_end else ""
        if at_end and not any(name in passage.text for passage in passages):
            text = text[: at_end.start()]
        *_, last = [None, *_LINE_BREAK.finditer(found.text)]
        attribution = _ATTRIBUTION.match(found.text, last.end()) if last else None
        if last and attribution and not attribution[1][0].islower():
            text = text[: last.start()]
    return _comparable(REFERENCE.sub(blank, text)).ljust(len(found.text))


def source_text(text: str) -> str:
    """Return the text of a source without references that stand right behind a word."""
    return _comparable(_SOURCES_OWN.sub(_blank, text))


def _comparable(text: str) -> str:
    """Return a text of the same length as texts are quoted.

    Its quotation marks are single, as they have to be within others, omissions are marked alike,
    and what an editor says is left out.
    """
    text = _OMISSION.sub(lambda omission: "…".ljust(len(omission[0])), text)
    return _MARK.sub("'", _EDITORS.sub(_blank, text))


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])
