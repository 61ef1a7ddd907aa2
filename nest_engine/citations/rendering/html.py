"""Render answers as HTML that fetches nothing and runs no script."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files

from nest_engine.citations.rendering.layout import (
    LONGEST_NAME,
    SPLICE_MARK,
    SPLICE_NOTE,
    Piece,
    Quote,
    Source,
    as_decoded,
    lay_out,
    on_one_line,
    printable,
    quotation_lines,
    shorten,
    summary_line,
    token_label,
)
from nest_engine.records import CitedText, DecodedText, TracedToken

_COLORS = ("#b8e6ff", "#c8f0c0", "#ffd9ec", "#fff0a8", "#dcd4ff", "#ffd8b8", "#b9f2e6", "#e3e8b0")
_COPIED_COLOR = "#e4e4e4"  # of a token whose source the answer does not cite
_TOKEN_LEGEND = (
    "Every token with its λ and p_M. Dotted frame: picked from p_M; full frame: drafted and "
    "accepted; struck through: "
    "drafted and rejected; coloured: copied from that source."
)


def to_html(
    output: CitedText,
    *,
    title: str = "Answer with sources",
    context_chars: int = 60,
    tokens: bool = False,
) -> str:
    """Return a self-contained HTML page that fetches nothing and runs no script.

    Args:
        output: the answer.
        title: title of the page.
        context_chars: how much of the source to show on each side of a quotation.
        tokens: also show how each token was decoded.
    """
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{escape(printable(title))}</title>\n"
        "<style>:root { color-scheme: light dark; } "
        "body { font-family: sans-serif; max-width: 48em; margin: 2em auto; padding: 0 1em; "
        "}</style>\n"
        f"</head>\n<body>\n{to_html_fragment(output, context_chars=context_chars, tokens=tokens)}\n"
        "</body>\n</html>\n"
    )


def to_html_fragment(output: CitedText, *, context_chars: int = 60, tokens: bool = False) -> str:
    """Return the answer as one HTML element, for notebooks and for embedding in other pages.

    Args:
        output: the answer.
        context_chars: how much of the source to show on each side of a quotation.
        tokens: also show how each token was decoded.
    """
    pieces, sources = lay_out(output, context_chars)
    answer = "".join(_piece(piece) for piece in pieces)
    listed = "\n".join(_source(source) for source in sources)
    decoded = as_decoded(output)
    remarks = [f"{SPLICE_MARK} {SPLICE_NOTE}"] if any(p.ends_splice for p in pieces) else []
    remarks += quotation_lines(output)
    remarks += map(printable, decoded.notices if decoded else ())
    notices = "".join(f'<p class="nest-notice">{escape(remark)}</p>\n' for remark in remarks)
    reasoning = (
        '<details style="white-space: pre-wrap; font-size: 85%"><summary>Reasoning</summary>'
        f"{escape(printable(decoded.reasoning))}</details>\n"
        if decoded and decoded.reasoning
        else ""
    )
    return (
        f'<div class="nest-output mathjax_ignore tex2jax_ignore">\n<style>{_style()}</style>\n'
        f'{reasoning}<div class="nest-answer">{answer}</div>\n'
        + (f'<ol class="nest-sources">\n{listed}\n</ol>\n' if sources else "")
        + notices
        + (_tokens(decoded) if tokens and decoded else "")
        + f'<p class="nest-stats">{_badge(sources)} {escape(summary_line(output))}</p>\n</div>'
    )


@cache
def _style() -> str:
    return "\n" + files(__package__).joinpath("answer.css").read_text(encoding="utf-8")


def _color(number: int) -> str:
    return _COLORS[(number - 1) % len(_COLORS)]


def _piece(piece: Piece) -> str:
    splice = f'<sup title="{SPLICE_NOTE}">{SPLICE_MARK}</sup>' if piece.ends_splice else ""
    if piece.source is None or piece.quote is None:
        return escape(piece.text) + splice
    quote, source = piece.quote, piece.source
    hover = f"{source.title}\n{quote.before}{quote.text}{quote.after}"
    marker = f"<sup>[{source.number}]</sup>"
    style = f"background: {_color(source.number)}"
    return (
        f'<mark style="{style}" title="{escape(hover)}">{escape(piece.text)}</mark>{marker}{splice}'
    )


def _source(source: Source) -> str:
    title = escape(source.title)
    if source.link:
        title = (
            f'<a href="{escape(source.link)}" rel="noopener noreferrer nofollow" '
            f'target="_blank">{title}</a>'
        )
    details = "".join(f" <small>{escape(detail)}</small>" for detail in source.details)
    quotes = "".join(_quote(source, quote) for quote in source.quotes)
    return f"<li>{title}{details}{quotes}</li>"


def _quote(source: Source, quote: Quote) -> str:
    marked = f'<mark style="background: {_color(source.number)}">{escape(quote.text)}</mark>'
    return (
        f'<div class="nest-context">{quote.place}: <bdi>{escape(quote.before)}{marked}'
        f"{escape(quote.after)}</bdi></div>"
    )


def _tokens(output: DecodedText) -> str:
    quoted = dict.fromkeys(citation.source_key for citation in output.citations)
    colors = {source: _color(number) for number, source in enumerate(quoted, 1)}
    shown = []
    for token in output.trace:
        passage = output.passages[token.provenance.passage] if token.provenance else None
        color = "" if passage is None else colors.get((passage.id, passage.sha256), _COPIED_COLOR)
        source = (
            ""
            if passage is None
            else shorten(on_one_line(passage.title or passage.id), LONGEST_NAME)
        )
        shown.append(_token(token, color, source))
    return f'<div class="nest-tokens"><p>{_TOKEN_LEGEND}</p>\n{"".join(shown)}</div>\n'


def _token(token: TracedToken, color: str, source: str) -> str:
    facts = [
        f"{token.status} in step {token.step}",
        f"λ {token.lambda_:.4f}",
        f"p_M {token.probability:.4g}",
    ]
    if source:
        facts.append(f"copied from {source}")
    if token.dropped:
        facts.append(f"{token.dropped} drafted tokens fell")
    style = f' style="color: #111; background: {color}"' if color else ""
    label = escape(token_label(token))
    if token.status == "rejected":
        label = f"<del>{label}</del>"
    return (
        f'<span class="nest-token nest-{token.status}" '
        f'title="{escape(", ".join(facts))}"{style}>{label}'
        f"<small>{token.lambda_:.2f} · {token.probability:.2f}</small></span>"
    )


def _badge(sources: Sequence[Source]) -> str:
    verified = [quote.verified for source in sources for quote in source.quotes]
    if not verified:
        return ""
    color = "#1a7f37" if all(verified) else "#b42318"
    label = f"{sum(verified)}/{len(verified)} citations verified"
    return f'<span class="nest-badge" style="background: {color}">{label}</span>'
