"""Answers with their sources for people: terminal, Markdown, HTML.

Sources are numbered from 1 in the order in which the answer first quotes them. Passages are untrusted: control
characters are replaced before anything else happens, each format escapes its own syntax, and only ``http`` and
``https`` addresses become links.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from html import escape
from typing import TYPE_CHECKING, TypeVar

from nest_engine.citation_formats import passage_of, split_answer, title_of
from nest_engine.errors import MissingDependencyError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from nest_engine.types import Citation, NestOutput, TracedToken

Default = TypeVar("Default", int, None)

_TERMINAL_COLORS = ("cyan", "green", "magenta", "yellow", "blue", "bright_red")
_HTML_COLORS = ("#b8e6ff", "#c8f0c0", "#ffd9ec", "#fff0a8", "#dcd4ff", "#ffd8b8", "#b9f2e6", "#e3e8b0")
_COPIED_COLOR = "#e4e4e4"  # of a token whose source the answer does not cite
_LONGEST_QUOTE = 100
_LONGEST_NAME = 200  # titles, addresses and licences are as untrusted as texts

# What a terminal obeys (C0, DEL, C1) or what reorders text (bidirectional overrides and isolates), and lone
# surrogates, which no encoding can carry. Line feed and tab stay.
_UNPRINTABLE = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: 0x2421,
    **dict.fromkeys(
        [*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)], 0xFFFD
    ),
}
_MARKDOWN_SYNTAX = re.compile(r"[\\`*_\[\]#!~$]")
_WEB_ADDRESS = re.compile(r"https?://[^\s<>\"'`\\^{|}]+", re.IGNORECASE)

_STYLE = """
.nest-output { line-height: 1.5; }
.nest-answer, .nest-context { white-space: pre-wrap; }
.nest-output mark { color: #111; border-radius: 3px; padding: 0 2px; }
.nest-badge { color: #fff; border-radius: 8px; padding: 1px 8px; }
.nest-stats, .nest-context, .nest-notice, .nest-tokens { font-size: 85%; }
.nest-stats, .nest-context, .nest-notice { opacity: 0.85; }
.nest-token { display: inline-block; vertical-align: top; margin: 1px; padding: 1px 3px; white-space: pre; }
.nest-token { border: 1px solid #8888; border-radius: 3px; }
.nest-token small { display: block; font-size: 75%; }
.nest-picked { border-style: dotted; }
.nest-rejected { border-color: #b42318; }
"""
_TOKEN_LEGEND = (
    "Every token with its λ and p_M. Dotted frame: picked from p_M; full frame: drafted and accepted; struck through: "
    "drafted and rejected; coloured: copied from that source."
)


@dataclass(frozen=True)
class Quote:
    """A quotation and the text around it, printable but not yet escaped.

    Args:
        text: the quoted text on one line, shortened in the middle when it is long.
        before: what stands before it in the source.
        after: what stands after it.
        start: first character in the source document, or in the passage if its place there is not known.
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
        """Where the quotation stands."""
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
    """A stretch of the answer: quoted from ``source``, or generated when there is none."""

    text: str
    source: Source | None = None
    quote: Quote | None = None


def to_terminal(output: NestOutput, *, context_chars: int = 40) -> RenderableType:
    """Return a rich renderable: the answer with coloured quotations, the sources used, one line of statistics.

    Args:
        output: the answer.
        context_chars: how much of the source to show on each side of a quotation.

    Raises:
        MissingDependencyError: if rich is not installed.
    """
    try:
        from rich.console import Group
        from rich.text import Text
    except ImportError as error:
        raise MissingDependencyError("rich", "cli") from error
    pieces, sources = lay_out(output, context_chars)
    answer = Text()
    for piece in pieces:
        answer.append(piece.text, style=f"bold {_terminal_color(piece.source)}" if piece.source else "")
        if piece.source:
            answer.append(f"[{piece.source.number}]", style=_terminal_color(piece.source))
    parts: list[RenderableType] = [answer, ""]
    if sources:
        parts += [_terminal_sources(sources), ""]
    return Group(*parts, Text(statistics_line(output), style="dim"))


def to_markdown(output: NestOutput, *, context_chars: int = 40) -> str:
    """Return the answer as Markdown with one footnote per source; the text is escaped, so it reads as it is.

    Args:
        output: the answer.
        context_chars: how much of the source to show on each side of a quotation.
    """
    pieces, sources = lay_out(output, context_chars)
    answer = "".join(_markdown_piece(piece) for piece in pieces)
    return "\n\n".join([answer, *(_markdown_footnote(source) for source in sources)]) + "\n"


def to_html(
    output: NestOutput, *, title: str = "Answer with sources", context_chars: int = 60, tokens: bool = False
) -> str:
    """Return a self-contained HTML page that fetches nothing and runs no script.

    Args:
        output: the answer.
        title: title of the page.
        context_chars: how much of the source to show on each side of a quotation.
        tokens: also show how decoding came to each token.
    """
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{escape(printable(title))}</title>\n"
        "<style>:root { color-scheme: light dark; } "
        "body { font-family: sans-serif; max-width: 48em; margin: 2em auto; padding: 0 1em; }</style>\n"
        f"</head>\n<body>\n{to_html_fragment(output, context_chars=context_chars, tokens=tokens)}\n</body>\n</html>\n"
    )


def to_html_fragment(output: NestOutput, *, context_chars: int = 60, tokens: bool = False) -> str:
    """Return the answer as one HTML element, for notebooks and for pages that bring their own frame.

    Args:
        output: the answer.
        context_chars: how much of the source to show on each side of a quotation.
        tokens: also show how decoding came to each token.
    """
    pieces, sources = lay_out(output, context_chars)
    answer = "".join(_html_piece(piece) for piece in pieces)
    listed = "\n".join(_html_source(source) for source in sources)
    notices = "".join(f'<p class="nest-notice">{escape(printable(notice))}</p>\n' for notice in output.notices)
    return (
        f'<div class="nest-output">\n<style>{_STYLE}</style>\n'
        f'<div class="nest-answer">{answer}</div>\n'
        + (f'<ol class="nest-sources">\n{listed}\n</ol>\n' if sources else "")
        + notices
        + (_html_tokens(output) if tokens else "")
        + f'<p class="nest-stats">{_html_badge(sources)} {escape(statistics_line(output))}</p>\n</div>'
    )


def lay_out(output: NestOutput, context_chars: int) -> tuple[list[Piece], list[Source]]:
    """Return the answer in pieces and its numbered sources: what every format shows."""
    pieces: list[Piece] = []
    sources: dict[str, Source] = {}
    for text, citation in split_answer(output):
        if citation is None:
            pieces.append(Piece(printable(text)))
            continue
        source = sources.setdefault(citation.passage_id, _source(len(sources) + 1, citation))
        quote = _quote(output, citation, context_chars)
        source.quotes.append(quote)
        pieces.append(Piece(printable(text), source, quote))
    return pieces, list(sources.values())


def statistics_line(output: NestOutput) -> str:
    """Return on one line how much was copied and what the answer cost."""
    stats = output.stats
    return " · ".join(
        (
            f"{stats.attributed_share:.0%} copied",
            f"{stats.tokens_per_forward:.1f} tokens per forward",
            f"{stats.lm_forwards} LM forwards",
            f"mean span {stats.mean_accepted_span:.1f}",
            f"{sum(astuple(stats.seconds)):.2f} s",
        )
    )


def printable(text: str) -> str:
    """Return text that is safe to print: control characters become visible signs, line feeds and tabs stay."""
    return text.replace("\r\n", "\n").translate(_UNPRINTABLE)


def _source(number: int, citation: Citation) -> Source:
    uri = _on_one_line(citation.uri or "")
    link = uri if uri == citation.uri and _WEB_ADDRESS.fullmatch(uri) else None
    title, uri, license = (
        _shorten(_on_one_line(name), _LONGEST_NAME) for name in (title_of(citation), uri, citation.license or "")
    )
    return Source(number, title, uri, link, license)


def _quote(output: NestOutput, citation: Citation, context_chars: int) -> Quote:
    passage = passage_of(output, citation)
    text = passage.text if passage else ""
    start, end = citation.source_start, citation.source_end
    first, last = max(0, start - context_chars), end + context_chars
    in_answer = output.text[citation.answer_start : citation.answer_end] == citation.cited_text
    return Quote(
        text=_shorten(_on_one_line(citation.cited_text), _LONGEST_QUOTE),
        before=_on_one_line(("…" if first > 0 else "") + text[first:start]) if text else "",
        after=_on_one_line(text[end:last] + ("…" if last < len(text) else "")),
        start=start + _whole_number(citation, "start_index", 0),
        end=end + _whole_number(citation, "start_index", 0),
        page=_whole_number(citation, "page", None),
        verified=passage is not None and in_answer,
    )


def _whole_number(citation: Citation, name: str, default: Default) -> int | Default:
    """Return a whole number from a citation's metadata, which may hold anything."""
    value = citation.metadata.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default


def _on_one_line(text: str) -> str:
    return printable(re.sub(r"\s+", " ", text))


def _shorten(text: str, longest: int) -> str:
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} … {text[-half:]}"


def _terminal_color(source: Source) -> str:
    return _TERMINAL_COLORS[(source.number - 1) % len(_TERMINAL_COLORS)]


def _terminal_sources(sources: Sequence[Source]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    for source in sources:
        color = _terminal_color(source)
        lines = Text(source.title, style="bold")
        lines.append("".join(f"  {detail}" for detail in source.details), style="not bold dim")
        for quote in source.quotes:
            lines.append("\n" + _terminal_offsets(quote) + quote.before, style="not bold dim")
            lines.append(quote.text, style=f"not bold {color}")
            lines.append(quote.after, style="not bold dim")
        table.add_row(Text(f"[{source.number}]", style=color), lines)
    return table


def _terminal_offsets(quote: Quote) -> str:
    return quote.place + (": " if quote.verified else " (not verified): ")


def _markdown_piece(piece: Piece) -> str:
    if piece.source is None:
        return _escape_markdown(piece.text)
    # The marker goes in front of trailing white space: at the start of a line it could begin a footnote's definition.
    quoted = piece.text.rstrip()
    return f"{_escape_markdown(quoted)}[^{piece.source.number}]{piece.text[len(quoted) :]}"


def _markdown_footnote(source: Source) -> str:
    title = _escape_markdown(source.title)
    heading = [f"[{title}](<{source.link}>)" if source.link else title]
    heading += [_escape_markdown(detail) for detail in source.details if detail != source.link]
    return f"[^{source.number}]: " + "; ".join([", ".join(heading), *map(_markdown_quote, source.quotes)])


def _markdown_quote(quote: Quote) -> str:
    # Emphasis must not begin or end with white space.
    before, text, after = map(_escape_markdown, (quote.before, quote.text.strip(), quote.after))
    opening = " **" if quote.text.startswith(" ") else "**"
    closing = "** " if quote.text.endswith(" ") else "**"
    return f"{quote.place}: “{before}{opening}{text}{closing}{after}”"


def _escape_markdown(text: str) -> str:
    return escape(_MARKDOWN_SYNTAX.sub(r"\\\g<0>", text), quote=False)


def _html_color(number: int) -> str:
    return _HTML_COLORS[(number - 1) % len(_HTML_COLORS)]


def _html_piece(piece: Piece) -> str:
    if piece.source is None or piece.quote is None:
        return escape(piece.text)
    quote, source = piece.quote, piece.source
    hover = f"{source.title}\n{quote.before}{quote.text}{quote.after}"
    marker = f"<sup>[{source.number}]</sup>"
    style = f"background: {_html_color(source.number)}"
    return f'<mark style="{style}" title="{escape(hover)}">{escape(piece.text)}</mark>{marker}'


def _html_source(source: Source) -> str:
    title = escape(source.title)
    if source.link:
        title = f'<a href="{escape(source.link)}" rel="noopener noreferrer nofollow" target="_blank">{title}</a>'
    details = "".join(f" <small>{escape(detail)}</small>" for detail in source.details)
    quotes = "".join(_html_quote(source, quote) for quote in source.quotes)
    return f"<li>{title}{details}{quotes}</li>"


def _html_quote(source: Source, quote: Quote) -> str:
    marked = f'<mark style="background: {_html_color(source.number)}">{escape(quote.text)}</mark>'
    return f'<div class="nest-context">{quote.place}: {escape(quote.before)}{marked}{escape(quote.after)}</div>'


def _html_tokens(output: NestOutput) -> str:
    quoted = dict.fromkeys(citation.passage_id for citation in output.citations)
    colors = {passage_id: _html_color(number) for number, passage_id in enumerate(quoted, 1)}
    shown = []
    for token in output.trace:
        passage = output.passages[token.provenance.passage] if token.provenance else None
        color = "" if passage is None else colors.get(passage.id, _COPIED_COLOR)
        source = "" if passage is None else _shorten(_on_one_line(passage.title or passage.id), _LONGEST_NAME)
        shown.append(_html_token(token, color, source))
    return f'<div class="nest-tokens"><p>{_TOKEN_LEGEND}</p>\n{"".join(shown)}</div>\n'


def _html_token(token: TracedToken, color: str, source: str) -> str:
    facts = [f"{token.status} in step {token.step}", f"λ {token.lambda_:.4f}", f"p_M {token.probability:.4g}"]
    if source:
        facts.append(f"copied from {source}")
    if token.dropped:
        facts.append(f"{token.dropped} drafted tokens fell")
    style = f' style="color: #111; background: {color}"' if color else ""
    label = escape(token_label(token))
    if token.status == "rejected":
        label = f"<del>{label}</del>"
    return (
        f'<span class="nest-token nest-{token.status}" title="{escape(", ".join(facts))}"{style}>{label}'
        f"<small>{token.lambda_:.2f} · {token.probability:.2f}</small></span>"
    )


def token_label(token: TracedToken) -> str:
    """Return a token's text so that it can be seen: line breaks and tabs as signs, its number when it has no text."""
    return printable(token.text).replace("\n", "⏎").replace("\t", "⇥") or f"#{token.token_id}"


def _html_badge(sources: Sequence[Source]) -> str:
    verified = [quote.verified for source in sources for quote in source.quotes]
    if not verified:
        return ""
    color = "#1a7f37" if all(verified) else "#b42318"
    label = f"{sum(verified)}/{len(verified)} spans verified"
    return f'<span class="nest-badge" style="background: {color}">{label}</span>'
