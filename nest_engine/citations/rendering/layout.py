"""Lay out what every format shows: the answer in pieces, its numbered sources, their quotations.

Sources are numbered from 1 in the order in which the answer first quotes them. Passages are
untrusted: control characters are replaced here, before any format escapes its own syntax, and only
``http`` and ``https`` addresses become links.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from itertools import pairwise
from typing import TypeVar, cast

from nest_engine.citations.formats import passage_of, split_answer, title_of
from nest_engine.citations.quotations import Quotation
from nest_engine.records import Citation, CitedText, DecodedText, TracedToken

Default = TypeVar("Default", int, None)

SPLICE_MARK = "‡"
SPLICE_NOTE = "put together from several places: the citations prove phrases, not the sentence"

_LONGEST_QUOTE = 100
LONGEST_NAME = 200  # titles, addresses and licences are as untrusted as texts

# What a terminal obeys (C0, DEL, C1) or what reorders text (bidirectional overrides and isolates),
# and lone surrogates, which no encoding can carry. Line feed and tab stay.
_UNPRINTABLE = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: 0x2421,
    **dict.fromkeys(
        [
            *range(0x80, 0xA0),
            *range(0x202A, 0x202F),
            *range(0x2066, 0x206A),
            *range(0xD800, 0xE000),
        ],
        0xFFFD,
    ),
}
_WEB_ADDRESS = re.compile(r"https?://[^\s<>\"'`\\^{|}]+", re.IGNORECASE)


@dataclass(frozen=True)
class Quote:
    """A quotation and the text around it, printable but not yet escaped.

    Args:
        text: the quoted text on one line, shortened in the middle when it is long.
        before: the text before it in the source.
        after: the text after it.
        start: first character in the source document, or in the passage if its place there is not
            known.
        end: one past the last character.
        page: page of the document, or None.
        verified: whether answer and source both hold the quoted text at the given offsets.
    """

    text: str
    before: str
    after: str
    start: int
    end: int
    page: int | None
    verified: bool

    @property
    def place(self) -> str:
        """Where the quotation is in its source."""
        page = "" if self.page is None else f"page {self.page}, "
        return f"{page}characters {self.start}–{self.end}"


@dataclass(frozen=True)
class Source:
    """A source that the answer quotes, printable but not yet escaped.

    Args:
        number: position among the sources, from 1, by first use.
        title: name of the source, never empty.
        uri: its location, or an empty string.
        link: ``uri`` if it is an ``http`` or ``https`` address, otherwise None.
        license: its licence, or an empty string.
        quotes: what is quoted from it, in the order of the answer.
    """

    number: int
    title: str
    uri: str
    link: str | None
    license: str
    quotes: list[Quote] = field(default_factory=list)

    @property
    def details(self) -> list[str]:
        """What to show beside the title."""
        return [detail for detail in (self.uri, self.license) if detail and detail != self.title]


@dataclass(frozen=True)
class Piece:
    """A stretch of the answer: quoted from ``source``, or generated when there is none.

    Args:
        text: the stretch, printable but not yet escaped.
        source: where it is quoted from.
        quote: the quotation.
        ends_splice: whether a sentence ends here that was put together from several places.
    """

    text: str
    source: Source | None = None
    quote: Quote | None = None
    ends_splice: bool = False


def lay_out(output: CitedText, context_chars: int) -> tuple[list[Piece], list[Source]]:
    """Return the answer in pieces and its numbered sources: what every format shows."""
    pieces: list[Piece] = []
    sources: dict[tuple[str, str], Source] = {}
    splices = [sentence.end for sentence in output.sentences if sentence.kind == "spliced"]
    position = 0
    for text, citation in split_answer(output):
        start, position = position, position + len(text)
        ends = [end for end in splices if start < end <= position]
        if citation is None:
            cuts = [start, *ends, *([position] if position not in ends else [])]
            for first, last in pairwise(cuts):
                piece = printable(output.text[first:last])
                pieces.append(Piece(piece, ends_splice=last in ends))
            continue
        source = sources.setdefault(citation.source_key, _source(len(sources) + 1, citation))
        quote = _quote(output, citation, context_chars)
        source.quotes.append(quote)
        pieces.append(Piece(printable(text), source, quote, ends_splice=bool(ends)))
    return pieces, list(sources.values())


def as_decoded(output: CitedText) -> DecodedText | None:
    """Return the output if it says how it was decoded: text that others wrote does not."""
    return cast(DecodedText, output) if hasattr(output, "trace") else None


def summary_line(output: CitedText) -> str:
    """Return one line on an answer: what it cost, or how many of its sentences are quoted."""
    if (decoded := as_decoded(output)) is not None:
        return statistics_line(decoded)
    return _counted("sentences", [sentence.kind for sentence in output.sentences])


def quotation_lines(output: CitedText) -> list[str]:
    """Return a line on the quotation marks of a text that was judged, and one on each fault."""
    quotations: Sequence[Quotation] = getattr(output, "quotations", ())
    if not quotations:
        return []
    verdicts = [quotation.verdict for quotation in quotations]
    faults = [quotation for quotation in quotations if quotation.verdict != "verbatim"]
    return [_counted("quotation marks", verdicts), *map(_fault, faults)]


def _fault(quotation: Quotation) -> str:
    text = shorten(on_one_line(quotation.text), _LONGEST_QUOTE)
    changes = "; ".join(
        f"“{on_one_line(changed.quotation)}” for “{on_one_line(changed.source)}”"
        if changed.source and changed.quotation
        else f"left out “{on_one_line(changed.source)}”"
        if changed.source
        else f"added “{on_one_line(changed.quotation)}”"
        for changed in quotation.differences
    )
    return f"{quotation.verdict}: “{text}”" + (f" ({changes})" if changes else "")


def _counted(what: str, kinds: Sequence[str]) -> str:
    return f"{what}: " + ", ".join(f"{count} {kind}" for kind, count in Counter(kinds).items())


def cited_share(outputs: Sequence[CitedText]) -> float:
    """Return the share of the answers' characters that citations cover, drafted or typed."""
    cited = sum(c.answer_end - c.answer_start for output in outputs for c in output.citations)
    return cited / max(sum(len(output.text) for output in outputs), 1)


def statistics_line(output: DecodedText) -> str:
    """Return one line on how much of the answer is cited and what it cost."""
    stats = output.stats
    is_cut_off = output.finish_reason == "length"
    return " · ".join(
        (
            *([f"cut off after {stats.completion_tokens} tokens"] if is_cut_off else []),
            f"{cited_share([output]):.0%} of the text cited",
            f"{stats.tokens_per_forward:.1f} tokens per forward",
            f"{stats.lm_forwards} LM forwards",
            f"mean span {stats.mean_accepted_span:.1f}",
            f"{sum(astuple(stats.seconds)):.2f} s",
        )
    )


def token_label(token: TracedToken) -> str:
    """Return a token's text made visible: signs for line breaks and tabs, its id if it has none."""
    return printable(token.text).replace("\n", "⏎").replace("\t", "⇥") or f"#{token.token_id}"


def printable(text: str) -> str:
    """Return text that is safe to print: control characters but tab and line feed become signs."""
    return text.replace("\r\n", "\n").translate(_UNPRINTABLE)


def on_one_line(text: str) -> str:
    """Return printable text without line breaks."""
    return printable(re.sub(r"\s+", " ", text))


def shorten(text: str, longest: int) -> str:
    """Return the text, with its middle left out if it is too long."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} … {text[-half:]}"


def _source(number: int, citation: Citation) -> Source:
    uri = on_one_line(citation.uri or "")
    link = uri if uri == citation.uri and _WEB_ADDRESS.fullmatch(uri) else None
    title, uri, license = (
        shorten(on_one_line(name), LONGEST_NAME)
        for name in (title_of(citation), uri, citation.license or "")
    )
    return Source(number, title, uri, link, license)


def _quote(output: CitedText, citation: Citation, context_chars: int) -> Quote:
    passage = passage_of(output, citation)
    text = passage.text if passage else ""
    start, end = citation.source_start, citation.source_end
    first, last = max(0, start - context_chars), end + context_chars
    in_answer = output.text[citation.answer_start : citation.answer_end] == citation.text_in_answer
    return Quote(
        text=shorten(on_one_line(citation.cited_text), _LONGEST_QUOTE),
        before=on_one_line(("…" if first > 0 else "") + text[first:start]) if text else "",
        after=on_one_line(text[end:last] + ("…" if last < len(text) else "")),
        start=start + _whole_number(citation, "start_index", 0),
        end=end + _whole_number(citation, "start_index", 0),
        page=_whole_number(citation, "page", None),
        verified=passage is not None and in_answer,
    )


def _whole_number(citation: Citation, name: str, default: Default) -> int | Default:
    """Return a whole number from a citation's metadata, which may hold anything."""
    value = citation.metadata.get(name)
    return (
        value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default
    )
