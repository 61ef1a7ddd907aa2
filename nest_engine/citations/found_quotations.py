"""The quotations of a text, each with the sources that are named for it, ready to be judged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from nest_engine.citations.named_sources import Sources, is_sources_own, reference_of, signature_of
from nest_engine.citations.quotation_marks import APOSTROPHE, BLOCK, LETTER, in_marks, said_in
from nest_engine.citations.references import PAGES, REFERENCE
from nest_engine.records import Passage

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
_SOURCES_OWN = re.compile(rf"(?<=\S)(?:{REFERENCE.pattern})")
_MARK = re.compile(r"(?<!\d)[\"“”„‟«»״]|[「」『』﹁﹂]")


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
        sources = Sources(passages, quotations, numbered=numbered)
        for match in in_marks(quotations):
            yield _in_text(quotations, match, sources)
        return
    sources = Sources(passages)
    for given in quotations:
        text, source = (given, None) if isinstance(given, str) else given
        yield Found(text, named=None if source is None else sources.named(source))


def _in_text(text: str, match: re.Match[str], sources: Sources) -> Found:
    said, start = said_in(text, match), match.start(match.lastindex or 0)
    mark = rf"’(?!{LETTER})"
    if not re.compile(APOSTROPHE).match(text, start + len(said)):
        mark = rf"(?!{APOSTROPHE}){mark}"  # one that closes for certain follows
    ends = [each.start() for each in re.finditer(mark, said)]
    signed = signature_of(said, sources) if match.re is BLOCK else None
    if signed is None:
        named, reference, is_near = reference_of(text, match, sources)
    else:
        named, reference, is_near = sources.named(signed[0]), signed[0], True
    return Found(
        said,
        start,
        named,
        reference,
        is_near,
        is_block=match.re is BLOCK,
        ends=tuple(ends) if match[0].startswith("‘") else (),
        length=len(said) if signed is None else signed[1],
    )


def bare(found: Found, passages: Sequence[Passage]) -> str:
    """Return a quotation of the same length without what is not quoted.

    That are the marks of block quotations, who is quoted, and references, but for those that
    :func:`source_text` leaves in the source.
    """

    def blank(reference: re.Match[str]) -> str:
        is_set_off = reference.string[reference.start() - 1 : reference.start()].isspace()
        is_kept = is_set_off and is_sources_own(reference, passages)
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
