"""The sources that a text names for what it quotes, and its own list of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from unicodedata import normalize

from nest_engine.citations.quotation_marks import said_in
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
_MOST_WORDS_BETWEEN = 4  # a quotation and its source; one farther away is perhaps another's


class Sources:
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


def signature_of(said: str, sources: Sources) -> tuple[str, int] | None:
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


def reference_of(
    text: str, quotation: re.Match[str], sources: Sources
) -> tuple[tuple[int, ...] | None, str, bool]:
    """Return the passages that are named for a quotation, how, and whether certainly for it.

    At its end, behind it, or right in front of it.
    """
    said = said_in(text, quotation).rstrip(" .,;:")
    own = [*REFERENCE.finditer(said)]
    if own and own[-1].end() == len(said) and not is_sources_own(own[-1], sources.passages):
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


def is_sources_own(reference: re.Match[str], passages: Sequence[Passage]) -> bool:
    """Return whether a source has the same reference behind the same words."""
    tail = reference.string[max(0, reference.start() - 20) : reference.end()]
    return any(tail in passage.text for passage in passages)


def _written_out(range_: re.Match[str]) -> str:
    """Return 1,2,3 for 1-3."""
    return ",".join(map(str, range(int(range_[1]), int(range_[2]) + 1)))
