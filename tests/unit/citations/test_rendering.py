"""Quotations are marked and numbered; nothing in a passage can act on what shows it."""

import io
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from nest_engine import cite
from nest_engine.citations import rendering
from nest_engine.errors import MissingDependencyError
from nest_engine.output import NestOutput
from nest_engine.records import (
    Citation,
    CitedText,
    DecodeStats,
    Passage,
    PhaseSeconds,
    Provenance,
    TracedToken,
)

HELIUM = Passage(
    "The gas helium was found in 1868 by an astronomer.",
    "Helium",
    "he",
    "https://a.org/he",
    license="CC-BY-4.0",
)
NEON = Passage("Neon was found in 1898, thirty years later.", "Neon", "ne", "notes/neon.md")
STATS = DecodeStats(
    completion_tokens=20,
    lm_forwards=8,
    mean_accepted_span=4.25,
    attributed_share=0.75,
    seconds=PhaseSeconds(0.1, 0.2, 0.3, 0.4, 0.5),
)
POISON = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "](javascript:alert(1)) [x](javascript:alert(1))",
    "![pixel](https://evil.org/p.png)",
    "<javascript:alert(1)>",
    "\x1b[31mred\x1b]8;;https://evil.org\x07click\x1b]8;;\x07",
    "\x9b31m\x00\x7f\rhidden\b\b",
    "\u202etxt.exe\u2066",
    "[red]markup[/red] [link=https://evil.org]x[/link] :smile:",
    '" onmouseover="alert(1)" style=\'',
    "[^1]: forged note",
    "&lt;b&gt; &amp; `code` **bold** _em_ # h",
]


def output_of(*pieces: str | tuple[str, Passage], notices: tuple[str, ...] = ()) -> NestOutput:
    """Return an answer made of pieces: generated text, or a quotation and its passage."""
    text, citations, passages = "", [], {}
    for piece in pieces:
        quoted, passage = piece if isinstance(piece, tuple) else (piece, None)
        if passage:
            start, source_start = len(text), passage.text.index(quoted)
            end, source_end = start + len(quoted), source_start + len(quoted)
            citation = Citation(
                start,
                end,
                passage.id,
                source_start,
                source_end,
                quoted,
                passage.title,
                passage.uri,
                passage.sha256,
            )
            citations.append(replace(citation, license=passage.license, metadata=passage.metadata))
            passages[passage.id] = passage
        text += quoted
    return NestOutput(
        text, tuple(citations), "eos", STATS, passages=tuple(passages.values()), notices=notices
    )


ANSWER = output_of(
    "It is known: ",
    ("found in 1898", NEON),
    ", but ",
    ("helium was found in 1868", HELIUM),
    "; ",
    ("later", NEON),
    ".",
)


def terminal(
    output: CitedText, *, color: bool = False, width: int = 200, soft: bool = False
) -> str:
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
    )
    console.print(rendering.to_terminal(output), soft_wrap=soft)
    printed: str = console.file.getvalue()  # type: ignore[attr-defined]
    return printed


class Page(HTMLParser):
    """What a browser makes of a page: tags with their attributes, and the text of the answer."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.answer = ""
        self.text = ""
        self._open: list[str] = []
        self._in_answer = 0
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if dict(attrs).get("class") == "nest-answer":
            self._in_answer = len(self._open) + 1
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if len(self._open) < self._in_answer:
            self._in_answer = 0

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if self._in_answer and "sup" not in self._open:
            self.answer += data

    def attributes(self, tag: str, name: str) -> list[str | None]:
        return [
            attributes[name]
            for opened, attributes in self.tags
            if opened == tag and name in attributes
        ]


def poisoned(poison: str) -> NestOutput:
    """Return an answer that quotes poison from a passage poisoned all over."""
    passage = Passage(
        f"before {poison} after",
        f"title {poison}",
        f"id {poison}",
        f"javascript:{poison}",
        license=f"licence {poison}",
    )
    return output_of("It says ", (poison, passage), " and more.", notices=(f"notice {poison}",))


def test_numbers_follow_first_use_in_every_format() -> None:
    assert terminal(ANSWER).startswith(
        "It is known: found in 1898[1], but helium was found in 1868[2]; later[1]."
    )
    assert rendering.to_markdown(ANSWER).startswith(
        "It is known: found in 1898[^1], but helium was found in 1868[^2]; later[^1]."
    )
    assert re.findall(r"<sup>\[(\d)\]</sup>", rendering.to_html_fragment(ANSWER)) == ["1", "2", "1"]


def test_terminal_lists_each_source_once_with_its_quotations() -> None:
    listed = terminal(ANSWER)

    assert len(re.findall(r"^\[1\] ", listed, re.MULTILINE)) == 1
    assert re.search(r"\[1\] Neon  notes/neon\.md", listed)
    assert re.search(r"\[2\] Helium  https://a\.org/he  CC-BY-4\.0", listed)
    assert "characters 9–22: Neon was found in 1898, thirty years later." in listed
    assert "characters 8–32: The gas helium was found in 1868 by an astronomer." in listed


def test_terminal_ends_with_one_line_of_statistics() -> None:
    last = terminal(ANSWER).rstrip("\n").splitlines()[-1]

    cost = "2.5 tokens per forward · 8 LM forwards · mean span 4.2 · 1.50 s"
    assert last == f"{42 / len(ANSWER.text):.0%} of the text cited · {cost}"


def test_an_answer_that_is_cut_off_says_so() -> None:
    cut_off = replace(ANSWER, finish_reason="length")
    cut = f"cut off after {STATS.completion_tokens} tokens · "
    assert rendering.statistics_line(cut_off) == cut + rendering.statistics_line(ANSWER)
    assert cut in terminal(cut_off)
    assert cut in rendering.to_html(cut_off)


def test_what_is_cited_counts_whether_it_was_drafted_or_typed() -> None:
    """Methods that do not draft are cited afterwards, by their words."""
    typed = replace(ANSWER, stats=replace(STATS, attributed_share=0.0))

    assert rendering.statistics_line(typed) == rendering.statistics_line(ANSWER)
    assert "of the text cited" in rendering.to_html_fragment(typed)


JAPANESE = "日本語の文章には空白がないので、どこで折り返してもよい。" * 3
FAR = Passage(JAPANESE, "Far", "far", "https://example.org/" + "a" * 100)


def test_a_narrow_terminal_cuts_nothing_off() -> None:
    shown = "".join(terminal(output_of((JAPANESE[:90], FAR)), width=30).split())

    assert FAR.uri in shown
    assert "…" not in shown.replace(JAPANESE[90:], "")


def test_a_pipe_gets_whole_lines() -> None:
    words = "a long sentence about helium, " * 5
    passage = replace(HELIUM, text=words)
    printed = terminal(output_of((words[:90], passage), " and"), soft=True)

    assert not re.search(" $", printed, re.MULTILINE)
    assert "[1] Helium  https://a.org/he  CC-BY-4.0\n    characters 0–90: " + words[:90] in printed


def test_terminal_gives_each_source_its_own_color() -> None:
    printed = terminal(ANSWER, color=True)

    styles = re.findall(
        r"\x1b\[1;(\d+)m(found in 1898|helium was found in 1868|later)\x1b", printed
    )
    (neon, _), (helium, _), (neon_again, _) = styles[:3]
    assert neon == neon_again != helium


def test_terminal_without_rich_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)

    with pytest.raises(
        MissingDependencyError,
        match=r"rich is not installed; run: pip install 'nest-engine\[cli\]'",
    ):
        rendering.to_terminal(ANSWER)


def test_markdown_has_one_footnote_per_source() -> None:
    footnotes = [
        line for line in rendering.to_markdown(ANSWER).splitlines() if line.startswith("[^")
    ]

    assert footnotes == [
        "[^1]: Neon, notes/neon.md; characters 9–22: “Neon was **found in 1898**, thirty years "
        "later.”; "
        "characters 37–42: “Neon was found in 1898, thirty years **later**.”",
        "[^2]: [Helium](<https://a.org/he>), CC-BY-4.0; "
        "characters 8–32: “The gas **helium was found in 1868** by an astronomer.”",
        "[^spliced]: put together from several places: the citations prove phrases, not the "
        "sentence",
    ]


SPLICED = cite(
    "Neon was found in 1898, thirty years before that. The gas helium was found in 1868 by an "
    "astronomer. Nobody asked.",
    [HELIUM, NEON],
)


def test_spliced_sentences_say_so_everywhere() -> None:
    """A citation in a sentence with the model's words proves a phrase, not the sentence."""
    note = "put together from several places: the citations prove phrases, not the sentence"
    assert [sentence.kind for sentence in SPLICED.sentences] == ["spliced", "quoted", "own"]

    markdown = SPLICED.to_markdown()
    assert markdown.startswith("Neon was found in 1898, thirty years[^1] before that.[^spliced] ")
    assert markdown.count("[^spliced]") == 2

    page = SPLICED.to_html()
    assert f'before that.<sup title="{note}">‡</sup> ' in page
    assert page.count(f"‡ {note}") == 1
    assert "2/2 citations verified" in page

    shown = terminal(SPLICED)
    assert "before that.‡" in shown
    assert shown.count("‡") == 2
    assert shown.endswith("sentences: 1 spliced, 1 quoted, 1 own\n")


def test_whole_quotations_need_no_note() -> None:
    whole = cite("The gas helium was found in 1868 by an astronomer.", [HELIUM])
    assert "spliced" not in whole.to_markdown()
    assert "‡" not in whole.to_html() + terminal(whole)


def test_markdown_emphasis_keeps_white_space_outside() -> None:
    output = output_of((" helium ", HELIUM))

    assert "“The gas **helium** was found" in rendering.to_markdown(output)


def test_a_source_without_title_is_named_once() -> None:
    output = output_of(("found", Passage("found", id="p", uri="notes/a.md")))

    assert terminal(output).count("notes/a.md") == 1
    assert rendering.to_markdown(output).count("notes/a.md") == 1
    assert Page(rendering.to_html_fragment(output)).text.count("notes/a.md") == 1


def test_markdown_has_no_blocks_but_paragraphs() -> None:
    """Lists, rules, tables and code of an answer stay the characters that it has."""
    text = (
        "Intro:\n\n    code *a*\n\tmore\n- x\n+ y\n1. one\n2) two\nHead\n===\nHead\n---\n\n---\n\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n  \tdeep\n3.5 or -4"
    )
    code = Passage("Said.\n    so *it* goes", id="p")
    for output in (output_of(text), output_of(("Said.\n    ", code), "so *it* goes")):
        markdown = rendering.to_markdown(output)
        page = Page(MarkdownIt("commonmark").enable("table").render(markdown))
        assert {tag for tag, _ in page.tags} <= {"p", "strong"}
        assert output.text.split() == re.sub(r"\[\^1\].*", "", page.text).split() or output.passages
    assert "3.5 or -4" in rendering.to_markdown(output_of(text))


def test_markdown_marker_never_starts_a_line() -> None:
    passage = Passage("first line\n: second", id="p")

    assert rendering.to_markdown(output_of(("first line\n", passage), ": no note")).startswith(
        "first line[^1]\n: no"
    )


def test_html_marks_what_is_copied_and_tells_its_source_on_hover() -> None:
    page = Page(rendering.to_html_fragment(ANSWER))

    assert page.answer == ANSWER.text
    hover = [title for title in page.attributes("mark", "title") if title]
    assert hover[0] == "Neon\nNeon was found in 1898, thirty years later."
    neon, helium, neon_again = page.attributes("mark", "style")[:3]
    assert neon == neon_again != helium
    assert "3/3 citations verified" in page.text


def test_html_page_is_whole_and_fetches_nothing() -> None:
    html = rendering.to_html(ANSWER, title="<b>My</b> answer")
    page = Page(html)

    assert html.startswith("<!DOCTYPE html>")
    assert "<title>&lt;b&gt;My&lt;/b&gt; answer</title>" in html
    assert page.attributes("meta", "content")[-2:] == [
        "width=device-width, initial-scale=1",
        "default-src 'none'; style-src 'unsafe-inline'",
    ]
    assert not {"script", "img", "link", "iframe", "object"} & {tag for tag, _ in page.tags}


def test_only_web_addresses_become_links() -> None:
    page = Page(rendering.to_html_fragment(ANSWER))
    assert page.attributes("a", "href") == ["https://a.org/he"]

    for uri in (
        "javascript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "https://a.org/ x",
        'http://a"b',
        None,
    ):
        output = output_of(("found", Passage("found", "T", "p", uri)))
        assert Page(rendering.to_html_fragment(output)).attributes("a", "href") == []
        assert "](<" not in rendering.to_markdown(output)


def test_badge_counts_what_does_not_match() -> None:
    first, *others = ANSWER.citations
    forged = replace(ANSWER, citations=(replace(first, source_start=0), *others))

    assert "2/3 citations verified" in rendering.to_html_fragment(forged)
    assert "(not verified)" in terminal(forged)
    assert "(not verified)" not in terminal(ANSWER)


def test_an_answer_without_quotations_has_no_sources_and_no_badge() -> None:
    plain = output_of("Nothing is quoted.")

    html = rendering.to_html_fragment(plain)
    assert "<ol" not in html
    assert "verified" not in html
    assert rendering.to_markdown(plain) == "Nothing is quoted.\n"
    assert terminal(plain).splitlines()[:3] == [
        "Nothing is quoted.",
        "",
        rendering.statistics_line(plain),
    ]


def test_context_is_cut_on_both_sides_and_long_quotations_in_the_middle() -> None:
    quoted = "q" * 70 + "middle" + "z" * 70
    passage = Passage("a" * 100 + " " + quoted + "\n\n" + "b" * 100, id="p")
    _, (source,) = rendering.lay_out(output_of((quoted, passage)), context_chars=10)

    (quote,) = source.quotes
    assert (quote.before, quote.after) == ("…" + "a" * 9 + " ", " " + "b" * 8 + "…")
    assert quote.text == "q" * 50 + " … " + "z" * 50


def test_html_shows_notices() -> None:
    assert (
        "one passage did not fit"
        in Page(
            rendering.to_html_fragment(replace(ANSWER, notices=("one passage did not fit",)))
        ).text
    )


@pytest.mark.parametrize("poison", POISON)
def test_terminal_shows_poison_as_text(poison: str) -> None:
    output = poisoned(poison)

    plain = terminal(output)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", plain)
    assert rendering.printable(poison) in plain
    # In colour, rich's own colour switches are the only control sequences.
    colored = terminal(output, color=True)
    assert "\x1b" not in re.sub(r"\x1b\[[0-9;]*m", "", colored)
    assert "\x1b[31m" not in colored


@pytest.mark.parametrize("poison", POISON)
def test_markdown_shows_poison_as_text(poison: str) -> None:
    markdown = rendering.to_markdown(poisoned(poison))
    page = Page(MarkdownIt("commonmark").render(markdown))

    assert {tag for tag, _ in page.tags} <= {"p", "strong"}
    assert rendering.printable(poison) in page.text
    definitions = [line for line in markdown.splitlines() if re.match(r"\[\^\d+\]:", line)]
    assert len(definitions) == 1
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", markdown)


@pytest.mark.parametrize("poison", POISON)
def test_html_shows_poison_as_text(poison: str) -> None:
    output = poisoned(poison)
    page = Page(rendering.to_html_fragment(output))

    assert {tag for tag, _ in page.tags} <= {
        "div",
        "style",
        "mark",
        "sup",
        "ol",
        "li",
        "small",
        "p",
        "span",
        "bdi",
    }
    assert {name for _, attributes in page.tags for name in attributes} <= {
        "class",
        "style",
        "title",
    }
    assert page.answer == rendering.printable(output.text)
    assert rendering.printable(f"notice {poison}") in page.text


@given(
    st.text(
        st.characters(codec=None, exclude_categories=[])
        | st.sampled_from("<>&\"'[]\\`*\x1b\x9b\r\n")
    )
)
def test_html_text_equals_the_printable_answer(text: str) -> None:
    html = rendering.to_html(output_of(text))

    assert Page(html).answer == rendering.printable(text)
    html.encode("utf-8")


@given(st.text(st.characters(codec=None, exclude_categories=[])))
def test_printable_text_has_no_control_characters_and_keeps_the_rest(text: str) -> None:
    shown = rendering.printable(text)

    assert not re.search(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown
    )
    harmless = re.sub(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", "", text
    )
    assert re.sub("[\ufffd\u2400-\u2421]", "", shown) == re.sub(
        "[\ufffd\u2400-\u2421]", "", harmless
    )


def test_printable_keeps_line_breaks_and_names_controls() -> None:
    assert rendering.printable("a\r\nb\tc\x1b\x7f\x9b\u202e") == "a\nb\tc␛␡��"


@given(st.text(st.sampled_from("ab1. \t\n*_`[]()!<>&#\\~$:-+=|"), max_size=30))
def test_markdown_of_any_text_makes_no_link_image_emphasis_or_raw_html(text: str) -> None:
    page = Page(MarkdownIt("commonmark").render(rendering.to_markdown(output_of(text))))

    made = {tag for tag, _ in page.tags}
    assert not made & {"a", "img", "em", "strong", "b", "script"}
    assert made <= {"p"}
    assert re.sub(r"\s", "", page.text) == re.sub(r"\s", "", text)


def test_an_output_shows_itself(tmp_path):
    source = Passage("Helium is <b>a</b> gas.", title="Helium")
    output = output_of("We read: ", ("Helium is <b>a</b> gas", source), ".")
    assert output._repr_html_() == rendering.to_html_fragment(output)
    assert output.to_markdown() == rendering.to_markdown(output)
    page = output.to_html(tmp_path / "answer.html", title="What is helium?")
    assert (tmp_path / "answer.html").read_text(encoding="utf-8") == page
    assert "What is helium?" in page
    assert "&lt;b&gt;a&lt;/b&gt;" in page


def test_places_count_in_the_document_where_it_is_known():
    source = Passage("Helium is a gas.", title="Helium", metadata={"start_index": 1000, "page": 7})
    output = output_of(("Helium is a gas", source))
    assert "page 7, characters 1000–1015" in rendering.to_markdown(output)
    assert "page 7, characters 1000–1015" in rendering.to_html_fragment(output)
    unknown = Passage(
        "Helium is a gas.", title="Helium", metadata={"start_index": -1, "page": "vii"}
    )
    assert "; characters 0–15" in rendering.to_markdown(output_of(("Helium is a gas", unknown)))


def test_long_names_are_shortened_and_links_are_not() -> None:
    passage = Passage(
        "found", "t" * 10_000, "p", "https://a.org/" + "u" * 10_000, license="l" * 10_000
    )
    output = output_of(*[("found", passage)] * 3)
    page = Page(rendering.to_html_fragment(output))

    assert len(page.text) < 3_000
    assert page.attributes("a", "href") == [passage.uri]
    assert len(terminal(output)) < 3_000


def traced(
    *tokens: tuple[str, str], provenance: Provenance | None = None
) -> tuple[TracedToken, ...]:
    return tuple(
        TracedToken(
            7,
            text,
            status,
            0.5,
            0.25,
            None if status == "rejected" else provenance,
            3,
            4 * (status == "rejected"),
        )  # type: ignore[arg-type]
        for text, status in tokens
    )


def test_the_token_view_shows_what_became_of_each_token() -> None:
    trace = traced(
        (" He", "picked"),
        ("lium", "accepted"),
        (" gas", "rejected"),
        ("\n", "picked"),
        ("", "picked"),
    )
    page = Page(rendering.to_html(replace(ANSWER, trace=trace), tokens=True))

    shown = [
        (attributes["class"], attributes["title"])
        for tag, attributes in page.tags
        if "nest-token " in str(attributes)
    ]
    assert shown[0] == ("nest-token nest-picked", "picked in step 3, λ 0.2500, p_M 0.5")
    assert shown[2] == (
        "nest-token nest-rejected",
        "rejected in step 3, λ 0.2500, p_M 0.5, 4 drafted tokens fell",
    )
    assert [tag for tag, _ in page.tags].count("del") == 1
    assert " He0.25 · 0.50lium0.25 · 0.50 gas0.25 · 0.50⏎0.25 · 0.50#70.25 · 0.50" in page.text
    assert "⏎" not in rendering.to_html(replace(ANSWER, trace=trace))


def test_a_copied_token_has_the_colour_of_its_source_and_names_it() -> None:
    neon = ANSWER.passages.index(NEON)
    trace = traced(("found", "accepted"), provenance=Provenance(neon, 0))
    page = Page(rendering.to_html_fragment(replace(ANSWER, trace=trace), tokens=True))

    token = next(attributes for tag, attributes in page.tags if "nest-token " in str(attributes))
    assert str(token["title"]).endswith("copied from Neon")
    background = str(page.attributes("mark", "style")[0])
    assert background in str(token["style"])


@pytest.mark.parametrize("poison", POISON)
def test_the_token_view_shows_poison_as_text(poison: str) -> None:
    output = poisoned(poison)
    output = replace(
        output,
        trace=traced((poison, "accepted"), (poison, "rejected"), provenance=Provenance(0, 0)),
    )
    page = Page(rendering.to_html_fragment(output, tokens=True))

    assert {tag for tag, _ in page.tags} <= {
        "div",
        "style",
        "mark",
        "sup",
        "ol",
        "li",
        "small",
        "p",
        "span",
        "del",
        "bdi",
    }
    assert {name for _, attributes in page.tags for name in attributes} <= {
        "class",
        "style",
        "title",
    }
    assert page.text.count(rendering.token_label(output.trace[0])) >= 2
