"""Files as people have them: cases from the field, and others of their kinds."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import docx
import pptx
import pytest
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.opc.packuri import PackURI
from docx.opc.part import Part
from docx.oxml import OxmlElement, parse_xml
from docx.oxml.ns import nsdecls
from fpdf import FPDF

from nest_engine.records import Passage
from nest_engine.retrieval import Document, read_documents, read_passages
from nest_engine.retrieval.formats import table, web_page

NAME = "朱镕基"
WORD = nsdecls("w")


def read(folder: Path, name: str, content: str | bytes) -> Document:
    data = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(data)
    (item,) = read_documents(folder / name)
    assert isinstance(item, Document), item
    return item


def passages(folder: Path, name: str, content: str | bytes) -> list[Passage]:
    document = read(folder, name, content)
    found = read_passages(folder / name).passages
    for passage in found:
        start = passage.metadata["start_index"]
        assert document.text[start : start + len(passage.text)] == passage.text
    return found


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("Intro.\n\n```bash\n# install first\n```\n\n## Usage\n\nRun it.", "Usage"),  # 14
        ("---\ntitle: Refund policy\nowner: team-a\n---\n# note\n\nText.", "Refund policy"),  # 15
        ("Helium Guide\n============\n\n## Storage\n\nCold.", "Helium Guide"),  # 16
        ("~~~\n# no\n~~~\n\nStorage\n---\n", "Storage"),
        ("    # indented code\n\n# Usage\n", "Usage"),
        ("<!-- # no -->\n\n# Usage\n", "Usage"),
        ('<h1 align="center">Nest</h1>\n\n## Usage\n', "Nest"),
        (
            "# The `nest` *command* [here](x.md) ![picture](x.png)\n",
            "The nest command here picture",
        ),
        ("+++\ntitle = 'Hugo page'\n+++\n\n# Other\n", "Hugo page"),
        ("---\ntitle: 2023\n---\n\n# Other\n", "2023"),
        ("---\nNot YAML [at all\n---\n\n# Other\n", "Not YAML [at all"),  # an underlined heading
        ("---\ntags: [a]\n---\n\n# Usage\n", "Usage"),
        ("---\ntitle: A: B\n---\nText\n", "A: B"),
        ("+++\n[params]\ntitle = 'x'\n+++\n# Real\n", "Real"),
        ("> # Quoted\n", "Quoted"),
        ("#hashtag\n\n#Nothing\n", "page"),
        ("#\n\n## Usage\n", "Usage"),
        ("# See [the docs][1]\n\n[1]: http://x\n", "See the docs"),
        ("# Title[^1]\n\n[^1]: Note.\n", "Title[^1]"),
        ("# A<br>B\n", "A B"),
        ("# Title {#id .cls}\n", "Title"),
        ("<div hidden>\n\n# no\n\n</div>\n\n# T\n", "T"),
        ("# <span hidden>no</span> Yes\n", "Yes"),
        ("<!-- a --> shown <!-- b -->\n", "page"),
        # the title as it is written
        ("---\ntitle: 2.10\n---\nText\n", "2.10"),
        ("---\ntitle: Yes\n---\nText\n", "Yes"),
        ("---\ntitle: 007\n---\nText\n", "007"),
        ("---\ntitle: 12:30\n---\nText\n", "12:30"),
        ("---\nTitle: 2024-01-01\n---\nText\n", "2024-01-01"),
        ("+++\n  title = 'Hugo'\n+++\nText\n", "Hugo"),
        ('{\n"title": "Hugo"\n}\nText\n', "Hugo"),
        ("% Refund policy\n% A team\n% 2024\n\n# Usage\n", "Refund policy"),
        ("% Refund policy\n\nText.\n", "Refund policy"),
        ("% of all\nwe refund.\n\n# Usage\n", "Usage"),
        # none, and one with marks of its own
        ("---\ntitle: ~\n---\n# Usage\n", "Usage"),
        ("---\ntitle: null # later\n---\n# Usage\n", "Usage"),
        ("---\ntitle: 'null'\n---\n# Usage\n", "null"),
        ('---\ntitle: "A" and "B"\n---\nText\n', '"A" and "B"'),
        ("# \u200b\n\nText\n", "page"),
    ],
)
def test_title_of_markdown(tmp_path: Path, source: str, title: str) -> None:
    for text in (source, source.replace("\n", "\r\n")):
        assert read(tmp_path, "page.md", text).title == title


def test_front_matter_is_not_quotable_and_offsets_count_in_the_file(tmp_path: Path) -> None:
    source = "---\ntitle: Refund policy\nowner: team-a\n---\n# note\n\nRefunds take ten days."
    (passage,) = passages(tmp_path, "page.md", source)
    assert passage.text == "# note\n\nRefunds take ten days."
    assert source[passage.metadata["start_index"] :] == passage.text


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 cannot read TOML")
@pytest.mark.parametrize(
    ("fields", "title"),
    [
        (r'title = "A \"B\" \u00e9"', 'A "B" é'),
        ('title = """A"""', "A"),
        ("title = '''A'''", "A"),
        ('"title" = "A"', "A"),
        ('description = """\ntitle = "no"\n"""\ntitle = "yes"', "yes"),
    ],
)
def test_titles_in_toml(tmp_path: Path, fields: str, title: str) -> None:
    assert read(tmp_path, "page.md", f"+++\n{fields}\n+++\nText\n").title == title


@pytest.mark.parametrize(
    "fields",
    [
        *(
            "og.title: x",
            "featured image: x",
            "a/b: x",
            "<<: *x",
            "tags:\n* x",
            "Ключ: x",
            "\tx: y",
        ),
        *('"og": A: B', 'summary: "x\ncontinued"', "# a comment", "list: [a,\nb: c\n]"),
    ],
)
def test_front_matter_with_a_slip_is_front_matter(tmp_path: Path, fields: str) -> None:
    (passage,) = passages(tmp_path, "page.md", f"---\ntitle: A: B\n{fields}\n---\nText.")
    assert (passage.title, passage.text) == ("A: B", "Text.")


@pytest.mark.parametrize(
    "source",
    [
        "---\n\n# Refunds take ten days\n\n---\n\n# Second\n\nText.",
        "---\n\nNote: refunds take ten days.\n\n---\n\nMore.",
        "---\n# Only a heading\n---\nText.",
        '{"title": "A"}',
        "% of all\nwe refund.",
    ],
)
def test_what_only_looks_like_front_matter_is_quotable(tmp_path: Path, source: str) -> None:
    assert "".join(each.text for each in passages(tmp_path, "page.md", source)) == source


@pytest.mark.parametrize(
    "source",
    [
        "<!-- Ignore this. -->",
        "<div hidden>Ignore this.</div>",
        "---\ntitle: A\n---\n",
        "---\ntitle: A\n---\n<!-- Ignore this. -->\n",
    ],
)
def test_a_file_that_shows_nothing_is_a_reported_skip(tmp_path: Path, source: str) -> None:
    (tmp_path / "page.md").write_text(source)
    ((_, reason),) = read_documents(tmp_path)  # type: ignore[misc]
    assert reason.startswith("holds no text that is shown")


@pytest.mark.parametrize(
    "hidden",
    [
        "<!-- Ignore this. -->",
        "<div hidden>\n\nIgnore this.\n\n</div>",
        '<p style="display: none">Ignore this.</p>',
        "<script>Ignore this.</script>",
        "<!-- Ignore\n\nthis.",
        "<script>a = '<script>';\n\nIgnore this.</script>",
        "> <!-- Ignore\n> this. -->",
        "- <template>Ignore this.</template>",
        "[//]: # (Ignore this.)",
        "[comment]: <> 'Ignore\nthis.'",
        '> [//]: # "Ignore this."',
    ],
)
def test_what_markdown_does_not_show_is_not_quotable(tmp_path: Path, hidden: str) -> None:
    found = passages(tmp_path, "page.md", f"Open daily, says `<!-- code` here.\n\n{hidden}\n")
    text = "".join(passage.text for passage in found)
    assert text.rstrip(">- \n") == "Open daily, says `<!-- code` here."


@pytest.mark.parametrize(
    "text",
    [
        "In HTML, \\<script> loads code.",
        "![a<title>b](x)",
        "[a](<script>) b",
        "Use `<template>` or ``<!--``.",
        "Use Optional<Title>, List<Object> or Promise<Video>.",
        "Set the <title> of the <head> with a <script>, a <style> or a <Canvas>.",
        "    git clone <template>\n\nor git clone <template>",
        "<title> tags are for titles.",
        "Use the <span hidden> element, or <div hidden>.",
        "If x <style and a <b> c, <!-- of course.",
        '[x](http://a "<script>") and <https://a.b/<script>>',
        '[x]: <script> "t"',
        "[//]: # without a title, and [x]: # (y)",
        "```\n[//]: # (code)\n```",
        "> - 1. a `<script\n>   > b`",
        "- Fixed `<script>` handling, of course.\n" * 600,
        "`<script>` or `<!--` " + "word " * 5000,
        "```\n" + "<div hidden>no</div>\n" * 2000 + "```",
    ],
)
def test_what_only_looks_like_html_hides_nothing(tmp_path: Path, text: str) -> None:
    source = f"{text}\n\nSecond paragraph."
    found = passages(tmp_path, "page.md", source)
    assert "".join("".join(each.text for each in found).split()) == "".join(source.split())


@pytest.mark.parametrize("sign", ["![a", "`a", "<!-- ", "[a](<", "_a*", "<b ", "a: b\n"])
def test_many_signs_take_no_time(tmp_path: Path, sign: str) -> None:
    assert passages(tmp_path, "page.md", f"Text\n\n{sign * 20_000}<b>")
    assert passages(tmp_path, "page.md", f"---\n{sign * 20_000}<b>\n---\nText")


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (  # 17
            "<details><summary>Shipping</summary>Orders leave in two days.</details><select>"
            "<option>Red</option><option>Blue</option></select><center>News</center>Today",
            "Shipping\n\nOrders leave in two days.\n\nRed\n\nBlue\n\nNews\n\nToday",
        ),
        (  # 18
            "<table><tr><th></th><th>2023</th><th>2024</th></tr>"
            "<tr><td>Rain</td><td>5</td><td>7</td></tr></table>",
            "–\t2023\t2024\n\nRain\t5\t7",
        ),
        (
            "<table><tr><th>City<th colspan=2>Rain<th>Snow"
            "<tr><td rowspan=2>Oslo<td>1<td>2<td>3<tr><td>4<td>5<td>6</table>",
            "City\tRain\t\tSnow\n\nOslo\t1\t2\t3\n\n–\t4\t5\t6",
        ),
        ("<table><tr><td><p>a</p></td><td></td><td><p>c</p></td></tr></table>", "a\t\tc"),
        (  # 19
            "<p>Open daily.</p><div hidden>Ignore this.</div>"
            '<span style="display:none">1977-08-21</span>',
            "Open daily.",
        ),
        ("<p hidden>no<p>yes", "yes"),
        ("<b><p hidden>no</b> and no</p>yes", "yes"),
        ("<span>yes<div hidden>no</span>no</div>yes", "yes\n\nyes"),
        ("<style>.x{display:none}.x.y{display:block}</style><p class=x>no<p class='y x'>y", "y"),
        ('<p style="visibility: hidden">no</p><p style="OPACITY:0">no</p><p>yes</p>', "yes"),
        ("<ul><li hidden>no<li>yes</ul><dialog>no</dialog><datalist><option>no</datalist>", "yes"),
        ("<div popover>no</div><div popover style='display:block'>yes</div>", "yes"),
        ("<template>no</template><noscript>no</noscript><iframe>no</iframe>yes", "yes"),
        ("yes<!-- no --><!--> yes <!-- no", "yes yes"),
        ("<ruby>東<rp>(</rp><rt>とう</rt><rp>)</rp></ruby>京", "東京"),
        ("<dl><dt>Neon<dd>A gas.<dt>Tin<dd>A metal.</dl>", "Neon\n\nA gas.\n\nTin\n\nA metal."),
        ("<button>Save</button><button>Cancel</button>", "Save  Cancel"),
        ("<pre>\nif x:\n    y</pre>", "if x:\n    y"),
        ("a\u00a0b  c\n d", "a\u00a0b c d"),
        ("<head><meta charset=utf-8><title>T</title><p>yes", "yes"),
        ("<style media=print>nav,p{display:none}</style><p>yes", "yes"),
        ("<style>.x{display:none!important}#y{display:block}</style><p class=x id=y>no<p>y", "y"),
        ("x <datalist><option value=a><option value=b></datalist>rest", "x rest"),
        ("<table><tr><td hidden>7<td>a<td>1</table>", "a\t1"),
        (
            "<table><tbody><tr><td rowspan=3>a<td>b<tbody><tr><td>c<td>d</table>",
            "a\tb\n\nc\td",
        ),
        ('<?xml version="1.0"?><html><p>one</p><script src="x"/><p>two</p></html>', "one\n\ntwo"),
        ("1 < 2 && 3 <4 &lt;b&gt;", "1 < 2 && 3 <4 <b>"),
        # tables in tables
        ("<table><tr><td>Name</td><td><table><tr><td>Oslo</table></td></table>", "Name\tOslo"),
        (
            "<table><tr><td>a<td><td><table><tr><td>b<td>c<tr><td>d</table></td><td>e</table>",
            "a\t\tb\tc\n\nd\te",
        ),
        ("<table><tr><td>a<td><table><tr><td><td></table><td>b</table>c", "a\t\tb\n\nc"),
        ("<table><tr><td>a<td><tr><td><td></table>b", "a\n\nb"),
        # empty cells as programs write them
        *(
            (f"x<table><tr><th>{blank}</th><th>2023<th>2024<tr><td>Rain<td>5<td>7</table>",
             "x\n\n–\t2023\t2024\n\nRain\t5\t7")
            for blank in ("&nbsp;", "<br>", "<p>&nbsp;</p>", "&#8203;", "<p><br>\n</p>", "<b> </b>")
        ),
        ("<table><tr><td>Rain<br></td><td><br>5<td><br></td><td>7</table>", "Rain\t5\t\t7"),
        ("<table><tr><td>a<td><pre>  b</pre>", "a\t  b"),
        ("<table><tr><td>a<br>b<td>&nbsp;<b>&nbsp;c</b>", "a\nb\t\u00a0\u00a0c"),
        ("<table><tr><td rowspan=0>a<td>b<tr><td>c<tr><td>d", "a\tb\n\n–\tc\n\n–\td"),
        ("<table><tr><td rowspan=99>a<td>b" + "<tr><td>c" * 60, "a\tb" + "\n\n–\tc" * 60),
        # set apart by style
        ("<p style='display:flex'><span>Price</span><span>5 EUR</span>", "Price 5 EUR"),
        ("<div style='display:grid'><a>Home</a><a>About</a></div>", "Home About"),
        ("<style>b{display:inline-block}</style><b>New</b><b>Sale</b>!", "New Sale!"),
        ("<style>b{display:table-cell}</style><b>A</b> <b>B</b>", "A B"),
        ("<b>A</b><b>B</b>", "AB"),
        # figures that are raised or divided
        ("10<sup>6</sup>, 2<sup>-3</sup> m<sup>2</sup>, Ca<sup>2+</sup>", "10^6, 2^-3 m^2, Ca^2+"),
        ("1990<sup><a>1</a></sup> a word<sup>2</sup>. End.<sup>3</sup>", "1990^1 a word 2. End. 3"),
        ("3<sup>1</sup>/<sub>2</sub>, 5<sup>th</sup>, a<sup>+</sup>", "3 1/2, 5th, a+"),
        ("<math><mn>3</mn><mfrac><mn>1</mn> <mn>2</mn></mfrac></math>", "3 1/2"),
        ("<math><msup><mn>10</mn><mn>6</mn></msup><mi>x</mi></math>", "10^6x"),
        ("2<sup>0.5</sup>, 4<sup>1/2</sup>, 10<sup>–6</sup>, words<sup>3,4</sup>",
         "2^0.5, 4^1/2, 10^–6, words 3,4"),
        ("<math><mfrac><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow><mn>2</mn></mfrac></math>",
         "(a+b)/2"),
        ("<math><msup><mi>x</mi><mrow><mi>n</mi><mo>+</mo><mn>1</mn></mrow></msup></math>",
         "x^(n+1)"),
        ("<math><msqrt><mn>2</mn></msqrt><mphantom><mi>no</mi></mphantom></math>", "√2"),
        ("<math><msqrt><mi>a</mi><mo>+</mo><mi>b</mi></msqrt><mo>=</mo><mn>3</mn></math>",
         "√(a+b)=3"),
        # words
        ("<object data=x>Shown</object>", "Shown"),
        ("<select><optgroup label=Fruit><option>Apple</select>", "Fruit\n\nApple"),
        ("He said <q>go</q>. <q hidden>no</q>", "He said “go”."),
        ("<xmp><b>a</b></xmp>", "<b>a</b>"),
        ("<xmp>a", "a"),
        ("<?xml version='1.0'?><p><![CDATA[two & <b>]]></p>", "two & <b>"),
        ("<?xml version='1.0'?><style><![CDATA[b{display:none}]]></style><b>no</b>y", "y"),
        ("<pre>a\r\nb\rc</pre>", "a\nb\nc"),
    ],
)  # fmt: skip
def test_a_page_reads_as_its_reader_sees_it(tmp_path: Path, page: str, text: str) -> None:
    assert read(tmp_path, "page.html", page).text == text


# Each says "yes" where a reader sees it, and "no" where it is hidden.
STYLED = [
    # what surrounds an element
    (".a .b{display:none}", "<p class=b>yes<div class=a><p><b class=b>no</b>yes"),
    (".a>.b{opacity:0}", "<div class=a><p class=b>no<div><p class=b>yes</div>"),
    (".a>.b i, #c{display:none}", "<p class=a><b class=b><u><i>no</i>yes</u><i>no<a id=c>no"),
    ("nav ul.x li{visibility:hidden}", "<ul class=x><li>yes</ul><nav><ul class=x><li>no</nav>"),
    ("[aria-hidden='true'], p[lang]{display:none}", "<b aria-hidden=true>no</b><p lang=e>no"),
    ("[class~=x], [id^=a], [id$='z'], [id*=m]{display:none}", "<b class='x y'>no<i id=ab>no</b>"),
    (".a.b{display:none}.c .a .b{display:block}", "<p class='a b'>no"),
    (".a .b{display:none} .c .a .b{display:block}", "<p class=c><b class=a><i class=b>yes"),
    (".c .a .b{display:none} .a .b{display:block}", "<p class=c><b class=a><i class=b>no"),
    ("html.js .a{display:none} :root .b{display:none}", "<p class=a>yes<p class=b>no"),
    (".collapse:not(.show){display:none}", "<p class=collapse>no<p class='collapse show'>yes"),
    (".s:not(:focus):not(:active){clip:rect(0,0,0,0);position:absolute}", "<a class=s>no</a>yes"),
    ("nav:not(.a, .c){display:none}", "<p class=c>yes<nav>no</nav><nav class=a>yes</nav>"),
    (":is(header, footer) .x{display:none}", "<p class=x>yes<footer><p class=x>no</footer>"),
    ("[title='a, .c, b']{display:none}", "<p class=c>yes"),
    (".md\\:hidden{display:none}", "<p class='md:hidden'>no"),
    (".a + .b, .c ~ i{display:none}", "<p class=b>yes<p class=a>yes<p class=b>no<p class=b>yes"),
    (".c ~ i{display:none}", "<p><i>yes</i><b class=c>yes</b><b>yes</b><i>no</i></p><i>yes</i>"),
    ("p:nth-child(2), .a:hover .b{display:none}", "<p class=a>yes<p class=b>yes"),
    (".t{display:none} #r:checked ~ .t{display:block}", "<input id=r><p class=t>no"),
    (".t{display:none} #r:checked ~ .t{display:block}", "<input id=r checked><p class=t>yes"),
    (".t{display:none} .t:first-child{display:block}", "<p class=t>yes"),
    # which rule counts
    (".x{display:none} .x{font-size:9px}", "<p class=x>no<p>yes"),
    (".x{display:none} .y{display:block} .x{opacity:.9}", "<p class='x y'>yes"),
    (".x.x{display:none} .x{display:block}", "<p class=x>no"),
    (".x{display:none; display:x}", "<p class=x>no"),
    (".x{display:none!important} p{display:block!important}", "<p class=x>no"),
    (".x{display:none!important}", '<p class=x style="display:block">no'),
    (".x{max-height:0;overflow:hidden} .x.y{max-height:9em}", "<p class=x>no<p class='x y'>yes"),
    (".x{position:absolute;left:-9999px} .y{left:0}", "<p class=x>no<p class='x y'>yes"),
    (".x{color:transparent} .y{color:#000}", "<p class=x>no<p class='x y'>yes"),
    (".x{transform:scale(0)} .y{transform:none}", "<p class=x>no<p class='x y'>yes"),
    # which sheets count
    (".a{display:none!important} @media (min-width:768px){.b{display:block!important}}",
     "<p class=a>no<p class='a b'>yes"),
    ("@media print{p{display:none}} @media not all{p{display:none}} @layer a{.x{display:none}}",
     "<p>yes<p class=x>no"),
    ("@media only screen and (max-width:600px){p{display:none}}", "<p>yes"),
    ("@media (width >= 600px) and (hover:hover){p.x{display:none}}", "<p class=x>no<p>yes"),
    ("@media (width < 600px), not screen{p{display:none}}", "<p>yes"),
    ("@media screen{.x{display:none}} @supports (display:grid){.y{display:none}}",
     "<p class=x>no<p class=y>no"),
    ("", "<noscript><style>p{display:none}</style></noscript><p>yes"),
    ("", "<style media='not screen'>p{display:none}</style><p>yes"),
    ("", "<style type=text/less>p{display:none}</style><p>yes"),
    ("", "<p class=x>no<style>.x{display:none}</style>"),
    ("", "<object><p class=x>no<style>.x{display:none}</style>"),
    (f"a{{src:url(data:a,{'A' * (1 << 20)})}} .x{{display:none}}", "<p class=x>no"),
    ("body{visibility:hidden} [v-cloak]{display:none}", "<body hidden><p v-cloak>yes"),
    # what can be undone inside
    (".x{visibility:hidden} .y{visibility:visible}", "<p class=x>no<b class=y>yes</b>no"),
    ("ul{font-size:0} ul li{font-size:16px}", "<ul>no<li>yes</ul>"),
    (".x{text-indent:-9999px} .y{text-indent:0}", "<p class=x>no<b class=y>yes</b>"),
    (".x{color:transparent} b{color:black}", "<p class=x>no<b>yes</b>"),
    # how text is hidden, and what only looks like it
    ("h1,pre{font-size:inherit;opacity:inherit}", "<h1>yes</h1><p style='font-size:small'>yes"),
    ("", '<p style="font-size:1px">no<p style="font-size:0.01em">no<p style="font-size:.5em">yes'),
    ("", '<p style="opacity:0.001">no<p style="opacity:0;animation:fade 1s">yes'),
    ("", '<p style="position:absolute; left:-9999px">no<p style="left:-9999px">yes'),
    ("", '<p style="position:absolute; left:-20px">yes<p style="text-indent:-999em">no'),
    ("", '<p style="position:absolute; left:-9999px; right:-9999px; margin:auto">yes'),
    ("", '<p style="position:absolute; top:4000px">yes<p style="transform:translateX(-9999px)">no'),
    ("", '<p style="float:left; margin-left:-100%">yes<p style="margin:0 0 0 -9999px">no'),
    ("", '<p style="height:0; overflow:hidden">no<p style="height:0">yes'),
    ("", '<table><td style="max-width:0; overflow:hidden">yes</table>'),
    ("", '<p style="flex:1; width:0; overflow:hidden">yes'),
    ("", '<span style="height:0; overflow:hidden">yes'),
    ("", '<p style="height:0; padding-bottom:56%; overflow:hidden">yes'),
    ("", '<p style="height:1px; min-height:100vh; overflow:hidden">yes'),
    ("", '<p style="color:#fff; background:White">no<p style="color:#fff">yes'),
    ("", '<p style="color:#fff; background:#fff url(a.jpg)">yes'),
    ("", '<p style="background:#fff; color:#ffe">yes'),
    ("", '<p style="color:#fff; background-color:#fff; background:#000">yes'),
    ("", '<p style="background:radial-gradient(red); background-clip:text; color:#0000">yes'),
    ("", '<p style="COLOR:rgba(0,0,0,0)">no'),
    ("", '<p style="color:transparent">no<p style="color:#0000">no<p style="color:#000000ff">yes'),
    ("", '<p style="color:rgb(0 0 0 / 0)">no'),
    ("", '<p style="transform:scale(0)">no'),
    ("", '<p style="transform:scale(0.5)">yes'),
    ("", '<p style="transform:scale(1,0)">no'),
    ("", '<p style="clip-path: inset(50%)">no<p style="clip-path:inset(5px)">yes'),
    ("", '<p style="clip-path: inset(0 100% 0 0)">no<p style="clip-path:inset(50% 0 0 0)">yes'),
    ("", '<p style="clip:rect(0,0,0,0)">yes'),
    ("", '<p style="clip:rect(1px,1px,1px,1px);position:absolute">no'),
    ("", '<p style="d\\69splay:none">no<p style="display:var(--x)">yes'),
    # elements
    ("", "<svg><path d=1><p>yes"),
    ("", "<a hidden>no<a>yes</a>"),
    ("", "<math><mi>yes</mi><annotation>no</annotation></math>"),
    ("", "<![foo]>yes<![endif--x]>yes"),
]  # fmt: skip


@pytest.mark.parametrize(("style", "page"), STYLED)
def test_what_style_hides(tmp_path: Path, style: str, page: str) -> None:
    text = read(tmp_path, "page.html", f"<style>{style}</style>{page}<p>yes").text
    assert "no" not in text
    assert text.count("yes") == page.count("yes") + 1


@pytest.mark.parametrize(
    "page",
    [
        f'<p style="opacity:{"0" * 20_000}.7">yes',
        f'<p style="color:{"(" * 5000}">yes',
        f'<style>p{{color:{"(" * 5000}}}</style><p>yes',
        f"<style>{':not(' * 3000}</style><p>yes",
        "<msqrt>x+<mfrac>" * 20_000 + "yes",
        "<style>[a{}b],[(a)],[a=f(x)],:is(),:not(>),.,#,::,:{display:none}</style><p a>yes",
        f"&#{'9' * 6000};yes",
        f'<p style="display:none;{"{" * 500_000}">no</p>yes',
        f"<style>{'a ' * 5000}{{display:none}}</style>{'<a>' * 3000}yes",
        f"<style>{''.join(f'.a{i} .b{i}{{display:none}}' for i in range(3000))}</style>"
        + "".join(f"<p class='a{i} b{i}'>" for i in range(3000)) + "yes",
    ],
)  # fmt: skip
def test_style_that_is_too_much_takes_no_time(tmp_path: Path, page: str) -> None:
    assert "yes" in read(tmp_path, "page.html", page).text


def test_what_takes_too_long_or_too_much_room_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_page, "_MOST_TAGS", 10)
    monkeypatch.setattr(table, "_MOST_ROWS", 2)
    (tmp_path / "a.html").write_text("<p>one" * 11)
    (tmp_path / "b.html").write_text("<p>one" * 10)
    (tmp_path / "c.csv").write_text("City\nOslo\nRome\nBern\n")
    result = read_passages(tmp_path)
    assert [passage.text for passage in result.passages[1:]] == ["City: Oslo", "City: Rome"]
    assert [(skipped.path, skipped.reason.partition(";")[0]) for skipped in result.skipped] == [
        ("a.html", "there are more than 10 tags"),
        ("c.csv", "has more than 2 rows, and those behind are left out"),
    ]


@pytest.mark.parametrize(
    ("page", "title"),
    [
        ("<body><svg><title>Menu icon</title></svg><h1>Refunds</h1>Ten days.", "Refunds"),  # 21
        ("<title> Refund\n policy </title><h1>Other</h1>", "Refund policy"),
        ("<title></title><h2>Menu</h2><h1 hidden>No</h1><h1>Re<b>funds</b></h1>x", "Refunds"),
        ("<svg/><title>Refunds</title>x", "Refunds"),
        ("<h2>Only</h2>x", "Only"),
        ("<title>A</title><title>B</title>x", "A"),
        *(
            (f"<{name}><title>No</title></{name}><title>Yes</title>x", "Yes")
            for name in ("template", "noscript", "iframe", "object")
        ),
        ("<p>x", "page"),
    ],
)  # fmt: skip
def test_title_of_a_page(tmp_path: Path, page: str, title: str) -> None:
    assert read(tmp_path, "page.html", page).title == title


@pytest.mark.parametrize(
    ("declared", "encoding", "text"),
    [
        ("gb2312", "gbk", NAME),  # 20
        ("GBK", "gb18030", NAME),
        ("euc-jp", "euc_jis_2004", "日本①"),
        ("shift_jis", "cp932", "①髙橋"),
        ("Windows-31J", "cp932", "髙"),
        ("euc-kr", "cp949", "똠방각하"),
        ("ks_c_5601-1987", "cp949", "한국"),
        ("big5", "big5hkscs", "香港"),
        ("latin1", "cp1252", "“x” €"),
        ("ascii", "cp1252", "é"),
        ("tis-620", "cp874", "ไทย"),
        ("koi8-r", "koi8-r", "Привет"),
        ("unicode-1-1-utf-8", "utf-8", "é"),
        ("utf-16", "utf-8", "é"),
    ],
)
def test_encodings_are_what_browsers_take_them_for(
    tmp_path: Path, declared: str, encoding: str, text: str
) -> None:
    for declaration in (
        f'<meta charset="{declared}">',
        f"<meta http-equiv='Content-Type' content='text/html; charset={declared}'>",
        f'<?xml version="1.0" encoding="{declared}"?>',
    ):
        page = f"{declaration}<p>{text}".encode(encoding)
        assert read(tmp_path, "page.html", page).text == text


@pytest.mark.parametrize(
    "declaration",
    [
        f"<style>{'x' * 2000}</style><meta charset=windows-1251>",
        "<meta charset=foo><meta charset=windows-1251>",
        "<meta content='a>b' charset=windows-1251>",
        "<meta/charset=windows-1251>",
        "<meta charset=windows-1251 charset=utf-8>",
        "<?xml version='1.0' encoding='windows-1251'?><meta charset=foo>",
    ],
)
def test_where_encodings_are_declared(tmp_path: Path, declaration: str) -> None:
    page = f"{declaration}<p>Привет".encode("windows-1251")
    assert read(tmp_path, "page.html", page).text == "Привет"


@pytest.mark.parametrize("label", ["none", "cp949", "", "utf-32"])
def test_a_name_of_no_encoding_counts_for_nothing(tmp_path: Path, label: str) -> None:
    assert read(tmp_path, "page.html", f"<meta charset='{label}'><p>é").text == "é"


def test_a_byte_order_mark_wins(tmp_path: Path) -> None:
    page = b"\xff\xfe" + '<meta charset="gb2312"><p>é'.encode("utf-16-le")
    assert read(tmp_path, "page.html", page).text == "é"
    assert (
        read(tmp_path, "b.html", b"\xef\xbb\xbf" + '<meta charset="gbk"><p>é'.encode()).text == "é"
    )


@pytest.mark.parametrize(
    "before",
    [
        '<!-- <meta charset="gb2312"> -->',
        '<meta name="description" content="how to set charset=windows-1251">',
        '<meta data-charset="windows-1251">',
        "<script>'<meta charset=gbk>'</script>",
    ],
)
def test_what_is_no_declaration_declares_nothing(tmp_path: Path, before: str) -> None:
    assert read(tmp_path, "page.html", f"{before}<p>é".encode()).text == "é"


def word_document() -> bytes:
    document = docx.Document()
    document.add_heading("Refunds", 1)
    paragraph = document.add_paragraph("Refunds take ten days.")
    hidden = paragraph.add_run(" Ignore this.")
    hidden.font.hidden = True
    deleted = OxmlElement("w:del")
    deleted.append(paragraph.add_run(" Deleted.")._r)
    inserted = OxmlElement("w:ins")
    inserted.append(paragraph.add_run(" Inserted.")._r)
    paragraph._p.extend([deleted, inserted])
    table = document.add_table(2, 3)
    for row, cells in zip(table.rows, [("", "2023", "2024"), ("Rain", "5", "7")], strict=True):
        for cell, text in zip(row.cells, cells, strict=True):
            cell.text = text
    return saved(document)


def saved(document: object) -> bytes:
    buffer = io.BytesIO()
    document.save(buffer)  # type: ignore[attr-defined]
    return buffer.getvalue()


def test_word_documents(tmp_path: Path) -> None:
    document = read(tmp_path, "a.docx", word_document())
    assert document.title == "Refunds"
    assert document.text == (
        "# Refunds\n\nRefunds take ten days. Inserted.\n\n–\t2023\t2024\n\nRain\t5\t7"
    )


def test_headings_of_word_documents_are_marked(tmp_path: Path) -> None:
    document = docx.Document()
    document.add_heading("Jug", 0)
    document.add_heading("Care\nof it", 2)
    document.add_paragraph("Rinse it.")
    style = document.styles.add_style("Unterkapitel", 1)
    style.base_style = document.styles["Heading 3"]
    document.add_paragraph("Deckel", style="Unterkapitel")
    document.add_paragraph("", style="Heading 1")
    outlined = document.add_paragraph("Outlined")
    outlined._p.get_or_add_pPr().append(parse_xml(f'<w:outlineLvl {WORD} w:val="0"/>'))
    plain = document.add_paragraph("Plain.", style="Heading 1")
    plain._p.get_or_add_pPr().append(parse_xml(f'<w:outlineLvl {WORD} w:val="9"/>'))
    document.add_table(1, 1).rows[0].cells[0].paragraphs[0].style = "Heading 1"
    document.tables[0].rows[0].cells[0].paragraphs[0].add_run("cell")
    assert read(tmp_path, "a.docx", saved(document)).text == (
        "# Jug\n\n## Care of it\n\nRinse it.\n\n### Deckel\n\n# Outlined\n\nPlain.\n\ncell"
    )


def word_document_with(*styles: str, body: str, notes: str = "") -> bytes:
    """Make a Word document of the inner XML of its styles, body and footnotes."""
    document = docx.Document()
    for style in styles:
        document.styles.element.append(parse_xml(f"<w:style {WORD} {style}</w:style>"))
    for element in parse_xml(f"<w:body {WORD}>{body}</w:body>"):
        document.element.body.append(element)
    if notes:
        content = f"<w:footnotes {WORD}>{notes}</w:footnotes>".encode()
        part = Part(PackURI("/word/footnotes.xml"), "application/xml", content)
        document.part.relate_to(part, RELATIONSHIP_TYPE.FOOTNOTES)
    return saved(document)


HIDDEN = "<w:rPr><w:vanish/></w:rPr>"


@pytest.mark.parametrize(
    ("styles", "body"),
    [
        (
            [f'w:type="paragraph" w:styleId="H">{HIDDEN}'],
            '<w:p><w:pPr><w:pStyle w:val="H"/></w:pPr><w:r><w:t>no</w:t></w:r></w:p>',
        ),
        (
            [f'w:type="character" w:styleId="H">{HIDDEN}',
             'w:type="character" w:styleId="I"><w:basedOn w:val="H"/>'],
            '<w:p><w:r><w:rPr><w:rStyle w:val="I"/></w:rPr><w:t>no</w:t></w:r></w:p>',
        ),
        *(
            ([], f"<w:tbl><w:tr><w:trPr><w:{mark}/></w:trPr><w:tc><w:p><w:r><w:t>no</w:t></w:r>"
             "</w:p></w:tc></w:tr></w:tbl>")
            for mark in ("hidden", "del")
        ),
    ],
)  # fmt: skip
def test_what_word_does_not_show(tmp_path: Path, styles: list[str], body: str) -> None:
    shown = "<w:p><w:r><w:t>yes</w:t></w:r></w:p>"
    data = word_document_with(*styles, body=body + shown)
    assert read(tmp_path, "a.docx", data).text == "yes"


def test_a_row_of_word_may_begin_behind_the_first_column(tmp_path: Path) -> None:
    cell = "<w:tc><w:p><w:r><w:t>{}</w:t></w:r></w:p></w:tc>"
    before = '<w:trPr><w:gridBefore w:val="1"/></w:trPr>'
    rows = (
        f"<w:tr>{cell.format('a')}{cell.format('b')}</w:tr><w:tr>{before}{cell.format('c')}</w:tr>"
    )
    data = word_document_with(body=f"<w:tbl>{rows}</w:tbl>")
    assert read(tmp_path, "a.docx", data).text == "a\tb\n\n–\tc"


def test_notes_follow_behind_the_text(tmp_path: Path) -> None:
    body = "".join(
        f"<w:p><w:r><w:t>{text}</w:t><w:footnoteReference w:id='{note}'/></w:r></w:p>"
        for text, note in (("One.", 2), ("Two.", 1))
    )
    notes = "".join(
        f"<w:footnote w:id='{note}'><w:p><w:r><w:t>Note {note}.</w:t></w:r></w:p></w:footnote>"
        for note in range(4)
    )
    text = read(tmp_path, "a.docx", word_document_with(body=body, notes=notes)).text
    assert text == "One.\n\nTwo.\n\nNote 2.\n\nNote 1."


def test_raised_figures_of_word_keep_their_meaning(tmp_path: Path) -> None:
    raised = '<w:r><w:rPr><w:vertAlign w:val="superscript"/></w:rPr><w:t>{}</w:t></w:r>'
    body = (
        f"<w:p><w:r><w:t>10</w:t></w:r>{raised.format(1)}{raised.format(2)}<w:r><w:t> and the 5"
        f"</w:t></w:r>{raised.format('th')}</w:p>"
    )
    text = read(tmp_path, "a.docx", word_document_with(body=body)).text
    assert text == "10^12 and the 5th"


@pytest.mark.parametrize(
    ("font", "char", "shown"),
    [
        ("Symbol", "F06D", "μ"),
        ("Symbol", "00B1", "±"),
        ("Symbol", "F0A3", "≤"),
        ("Symbol", "F035", "5"),
        ("Arial", "00B5", "µ"),
        ("Wingdings", "F0FC", ""),
        ("Arial", "DC00", ""),
        ("Arial", "x", ""),
        ("Arial", "0000", ""),
    ],
)
def test_symbols_of_word_are_read(tmp_path: Path, font: str, char: str, shown: str) -> None:
    symbol = f'<w:sym w:font="{font}" w:char="{char}"/>'
    body = f"<w:p><w:r><w:t>5 </w:t>{symbol}<w:t>m</w:t></w:r></w:p>"
    data = word_document_with(body=body.replace("<w:t>", '<w:t xml:space="preserve">'))
    assert read(tmp_path, "a.docx", data).text == f"5 {shown}m"


def _math(tag: str, *parts: str) -> str:
    inner = "".join(f"<m:{part}</m:{part.partition('>')[0]}>" for part in parts)
    return f"<m:{tag}>{inner}</m:{tag}>"


def _letters(text: str) -> str:
    return f"<m:r><m:t>{text}</m:t></m:r>"


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (_math("f", f"num>{_letters('a+b')}", f"den>{_letters('2')}"), "(a+b)/2"),
        (_letters("3") + _math("f", f"num>{_letters('1')}", f"den>{_letters('2')}"), "3 1/2"),
        (_math("sSup", f"e>{_letters('10')}", f"sup>{_letters('6')}"), "10^6"),
        (_math("rad", "deg>", f"e>{_letters('2')}"), "√2"),
        (_letters("a") + _math("d", f"e>{_letters('b+c')}"), "a(b+c)"),
        (_math("sSub", f"e>{_letters('x')}", f"sub>{_letters('1')}"), "x1"),
    ],
)
def test_formulas_of_word_keep_their_meaning(tmp_path: Path, formula: str, text: str) -> None:
    namespace = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
    data = word_document_with(body=f"<w:p><m:oMath {namespace}>{formula}</m:oMath></w:p>")
    assert read(tmp_path, "a.docx", data).text == text


def test_raised_figures_of_slides_keep_their_meaning(tmp_path: Path) -> None:
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[0])
    (paragraph,) = slide.shapes.title.text_frame.paragraphs
    for text, height in (("10", "0"), ("6", "30000"), (" H", "0"), ("2", "-25000"), ("O", "0")):
        run = paragraph.add_run()
        run.text = text
        run._r.get_or_add_rPr().set("baseline", height)
    assert read(tmp_path, "a.pptx", saved(presentation)).text == "# 10^6 H2O"


@pytest.mark.parametrize(
    "title",
    [
        *("PowerPoint Presentation", "PowerPoint-Präsentation", "Présentation PowerPoint"),
        *("Untitled-1", "Dokument1", "Präsentation1", "Word Document", "C:\\Users\\bob\\a.doc"),
        *("Microsoft Word - x.docx", "paper_final.indd", "  "),
    ],
)
def test_titles_that_programs_write_are_none(tmp_path: Path, title: str) -> None:
    document = docx.Document()
    document.add_heading("Refunds", 1)
    document.core_properties.title = title
    assert read(tmp_path, "a.docx", saved(document)).title == "Refunds"
    presentation = pptx.Presentation()
    presentation.slides.add_slide(presentation.slide_layouts[0]).shapes.title.text = "Refunds"
    presentation.core_properties.title = title
    assert read(tmp_path, "a.pptx", saved(presentation)).title == "Refunds"


def test_titles_that_people_write_are_kept(tmp_path: Path) -> None:
    for title in ("Document Retention Policy", "PowerPoint presentation tips", "Slide rules"):
        document = docx.Document()
        document.add_heading("Refunds", 1)
        document.core_properties.title = title
        assert read(tmp_path, "a.docx", saved(document)).title == title


def test_hidden_shapes_are_not_read(tmp_path: Path) -> None:
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[6])
    for shapes, text in ((slide.shapes, "no"), (slide.shapes, "yes")):
        group = shapes.add_group_shape()
        for number in range(2):
            group.shapes.add_textbox(0, 0, 1, 1).text_frame.text = text * (number + 1)
        if text == "no":
            group._element.nvGrpSpPr.cNvPr.set("hidden", "1")
    group.shapes[0]._element.nvSpPr.cNvPr.set("hidden", "true")
    assert read(tmp_path, "a.pptx", saved(presentation)).text == "yesyes"


def test_presentations_have_slides_as_pages(tmp_path: Path) -> None:
    presentation = pptx.Presentation()
    for title, text in (("Refunds", "Ten days."), ("Hidden", "Ignore this."), ("More", "Ask us.")):
        slide = presentation.slides.add_slide(presentation.slide_layouts[1])
        slide.shapes.title.text, slide.placeholders[1].text = title, text
        if title == "Hidden":
            slide.element.set("show", "0")
    slide.notes_slide.notes_text_frame.text = "A note."
    found = passages(tmp_path, "a.pptx", saved(presentation))
    assert [(each.text, each.metadata["page"], each.title) for each in found] == [
        ("# Refunds\n\nTen days.", 1, "Refunds"),
        ("# More\n\nAsk us.\n\nA note.", 3, "Refunds"),
    ]


def test_points_on_slides_are_paragraphs(tmp_path: Path) -> None:
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[1])
    slide.shapes.title.text = "Titan"
    slide.placeholders[1].text = "It is a moon\nIt has lakes"
    text = read(tmp_path, "a.pptx", saved(presentation)).text
    assert text == "# Titan\n\nIt is a moon\n\nIt has lakes"


@pytest.mark.parametrize(
    ("sizes", "between"), [((16, 11), "\n\n"), ((11, 11), "\n"), ((11, 8), "\n\n")]
)
def test_lines_of_a_pdf_in_another_size_are_another_paragraph(
    tmp_path: Path, sizes: tuple[int, int], between: str
) -> None:
    first, second = "The many moons of Saturn and their lakes", "Titan is the largest moon."
    document = FPDF()
    document.add_page()
    for number, (size, line) in enumerate(zip(sizes, (first, second), strict=True)):
        document.set_font("helvetica", size=size)
        document.text(20, 20 + 5 * number, line)
    text = read(tmp_path, "a.pdf", bytes(document.output())).text
    assert text == f"{first}{between}{second}"


CONTAINER = '<container><rootfiles><rootfile full-path="OPS/a.opf"/></rootfiles></container>'


def book(**files: str) -> bytes:
    buffer = io.BytesIO()
    package = """<package xmlns="http://www.idpf.org/2007/opf"><metadata
      xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>On nests</dc:title></metadata>
      <manifest><item id="n" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
      <item id="b" href="text/b%20b.xhtml" media-type="application/xhtml+xml"/>
      <item id="a" href="a.xhtml" media-type="application/xhtml+xml"/></manifest>
      <spine><itemref idref="n"/><itemref idref="b"/><itemref idref="a"/></spine></package>"""
    entries = {
        "META-INF/container.xml": CONTAINER,
        "OPS/a.opf": package,
        "OPS/nav.xhtml": "<p>Contents",
        "OPS/text/b b.xhtml": "<title>x</title><p>First.</p><p hidden>Not.</p>",
        "OPS/a.xhtml": "<p>Second.</p>",
    }
    entries |= {name.replace("__", "/"): content for name, content in files.items()}
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_books_are_read_in_the_order_of_their_spine(tmp_path: Path) -> None:
    document = read(tmp_path, "a.epub", book())
    assert (document.title, document.text) == ("On nests", "First.\n\nSecond.")


def test_a_page_of_a_book_that_fails_is_reported_and_the_others_kept(tmp_path: Path) -> None:
    files = {
        "OPS__A.xhtml": "<p>Second.</p>",  # in capitals
        "OPS__a.opf": """<package><metadata/><manifest>
          <item id="a" href="a.xhtml#x" media-type="text/x-oeb1-document"/>
          <item id="b" href="b.xhtml" media-type="application/xhtml+xml"/>
          <item id="c" href="c.xhtml" media-type="application/xhtml+xml"/></manifest>
          <spine><itemref idref="c"/><itemref idref="b"/><itemref idref="d"/>
          <itemref idref="a"/></spine></package>""",
    }
    with zipfile.ZipFile(tmp_path / "a.epub", "w") as archive:
        archive.writestr("META-INF/container.xml", CONTAINER)
        archive.writestr("OPS/c.xhtml", b"<p>caf\xe9</p>")
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    result = read_passages(tmp_path)
    assert [passage.text for passage in result.passages] == ["Second."]
    assert [(path, reason[:9]) for path, reason in result.skipped] == [
        ("a.epub, OPS/c.xhtml", "not valid"),
        ("a.epub, OPS/b.xhtml", "There is "),
        ("a.epub, d", "There is "),
    ]


def test_what_the_style_sheets_of_a_book_hide(tmp_path: Path) -> None:
    page = (
        '<link rel="stylesheet" href="../a%20b.css"/><link rel="stylesheet" href="none.css"/>'
        '<link rel="alternate stylesheet" href="c.css"/><p class="x">No.</p><p class="y">Yes.</p>'
    )
    hiding = {"a b.css": ".x { display: none }", "OPS__c.css": ".y { display: none }"}
    data = book(**{"OPS__a.xhtml": page}, **hiding)
    assert read(tmp_path, "a.epub", data).text == "First.\n\nYes."


def test_an_encrypted_book_is_reported(tmp_path: Path) -> None:
    method = '<e><EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/></e>'
    (tmp_path / "a.epub").write_bytes(book(**{"META-INF__encryption.xml": method}))
    ((_, reason),) = read_documents(tmp_path)  # type: ignore[misc]
    assert reason == "its text is encrypted (DRM); it cannot be read"


def test_restructured_text(tmp_path: Path) -> None:
    source = ".. _top:\n\n=======\nRefunds\n=======\n\n.. toctree::\n\n   a\n\nTen days.\n"
    document = read(tmp_path, "a.rst", source)
    assert (document.title, document.text) == ("Refunds", source)


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (".. Ignore this,\n   and\n\n   this.\n\nYes.\n", "Yes.\n"),
        ("..\n   Ignore this.\nYes.\n", "Yes.\n"),
        (".. Note: ignore this.\n.. note:: Yes.\n", ".. note:: Yes.\n"),
        ("..\n\n   Yes.\n", "..\n\n   Yes.\n"),  # a comment ends where a line is empty
        (".. note::\n\n   Yes.\n\n   .. Ignore.\n", ".. note::\n\n   Yes.\n\n"),
        *(
            (text, text)
            for text in (
                "Write::\n\n   .. this\n\nin a file.\n",
                ".. code-block:: rst\n\n   .. this\n",
                "Yes\n.. and no block.\n",
                ".. _a: b\n.. |a| replace:: b\n.. [1] A note.\n.. [#a] Another.\n.. py:data:: a\n",
            )
        ),
    ],
)
def test_comments_of_restructured_text_are_not_quotable(
    tmp_path: Path, source: str, shown: str
) -> None:
    for text, said in ((source, shown), (source.replace("\n", "\r\n"), shown)):
        document = read(tmp_path, "a.rst", text)
        quotable = "".join(text[start:end] for start, end in document.quotable)
        assert quotable.replace("\r\n", "\n") == said


@pytest.mark.parametrize(
    "before",
    [
        *(".. contents:: Contents", ".. topic:: Topic\n\n   x", ".. sidebar:: Sidebar\n\n   x"),
        *(".. admonition:: Note\n\n   x", ".. table:: Table\n\n   == ==\n   a  b\n   == =="),
        *(":Abstract: x", "Text."),
    ],
)
def test_the_title_of_restructured_text_is_a_section_s(tmp_path: Path, before: str) -> None:
    assert read(tmp_path, "a.rst", f"{before}\n\nReal\n====\n\nText.\n").title == "Real"


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        ("City,Rain\nOslo,5\nRome,7\n", ["City: Oslo\nRain: 5", "City: Rome\nRain: 7"]),
        ("\ufeffCity;Rain\r\nOslo;5,2\r\n", ["City: Oslo\nRain: 5,2"]),
        ('City,Note\nOslo,"wet, and\ncold"\n', ["City: Oslo\nNote: wet, and\ncold"]),
        (",2023,2024\nRain,5,7\n", ["Rain\n2023: 5\n2024: 7"]),
        ('a,b\nOne,"stray\nTwo,fine\n', ['a: One\nb: "stray', "a: Two\nb: fine"]),
        ("sep=;\na;b\n1;2\n", ["a: 1\nb: 2"]),
        ('"sep=;"\r\na;b\r\n1;2\r\n', ["a: 1\nb: 2"]),
        # stray quotation marks
        (
            'name,desc\nthe 5" pipe,ok\n"Oslo, Norway",cold\n',
            ['name: the 5" pipe\ndesc: ok', "name: Oslo, Norway\ndesc: cold"],
        ),
        ('a,b\n1,"stray\n2,"x, y"\n', ['a: 1\nb: "stray', "a: 2\nb: x, y"]),
        ('a,b\n"x" , "y, ""z"""\n', ['a: x\nb: y, "z"']),
        ('a,b\n"",""""\n', ['b: "']),
        ("id,note\n1,'tis, of course\n", ["id: 1\nnote: 'tis\nof course"]),
        # delimiters
        ("Text\nHelium, a gas\nNeon, a gas\n", ["Text: Helium, a gas", "Text: Neon, a gas"]),
        ("Q;A\nWhat, who, where?;This, that\n", ["Q: What, who, where?\nA: This, that"]),
        ("A|B, C\n1|2\n", ["A: 1\nB, C: 2"]),
    ],
)
def test_tables(tmp_path: Path, source: str, texts: list[str]) -> None:
    (tmp_path / "a.csv").write_bytes(source.encode())
    found = read_passages(tmp_path / "a.csv").passages
    assert [passage.text for passage in found] == texts
    assert found[0].metadata["line"] >= 2


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("Rain 2023\nCity,Rain\nOslo,5\nRome,7\n", "Rain 2023"),
        ("Rain 2023,\nCity,Rain\nOslo,5\nRome,7\n", "Rain 2023"),
        (",\n,Rain 2023\n,\nCity,Rain\nOslo,5\nRome,7\n", "Rain 2023"),
        ('"Rain, by city"\r\n\r\nCity;Rain\r\nOslo;5\r\nRome;7\r\n', "Rain, by city"),
        ("Rain, 2023\nCity;Rain\nOslo;5\nRome;7\n", "Rain, 2023"),
        ("Rain, l\nCity;Rain\nOslo;5\nRome;7\nBern;5,2\nGraz;5,2\nBonn;5,2\n", "Rain, l"),
        ("# Rain\n# by city\nCity\tRain\nOslo\t5\nRome\t7\nBern\t7\n", "Rain by city"),
    ],
)
def test_lines_above_the_header_are_the_title(tmp_path: Path, source: str, title: str) -> None:
    (tmp_path / "a.csv").write_bytes(source.encode())
    found = read_passages(tmp_path / "a.csv").passages
    assert [passage.text for passage in found][:2] == [
        "City: Oslo\nRain: 5",
        "City: Rome\nRain: 7",
    ]
    assert {passage.title for passage in found} == {title}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("Text\nHelium, a gas\nNeon, a gas\n", "Text: Helium, a gas"),
        ("Text\nNeon,a gas.\nHelium,a gas.\n", "Text: Neon,a gas."),
        ("City,,\nOslo,1,2\nRome,3,4\n", "City: Oslo\n1\n2"),
        ("Name,\nOslo,\nRome,\nSmall,town\n", "Name: Oslo"),
        (",2023,2024\nRain,5,7\n", "Rain\n2023: 5\n2024: 7"),
    ],
)
def test_a_header_is_no_title(tmp_path: Path, source: str, text: str) -> None:
    (tmp_path / "a.csv").write_text(source)
    passage, *_ = read_passages(tmp_path / "a.csv").passages
    assert (passage.text, passage.title) == (text, "a")


def test_quotation_marks_behind_the_first_rows(tmp_path: Path) -> None:
    rows = "".join(f'{number},"plain, text"\n' for number in range(5000))
    (tmp_path / "a.csv").write_text(f'id,text\n{rows}5000,"say ""hi"", now"\n5001,z\n')
    found = [passage.text for passage in read_passages(tmp_path / "a.csv").passages]
    assert found[-2:] == ['id: 5000\ntext: say "hi", now', "id: 5001\ntext: z"]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.txt", "a.md"])
@pytest.mark.parametrize("content", ["", "City\tRain\n", "\ufeff\u200b\n"])
def test_a_file_of_nothing_is_a_reported_skip(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text("" if name in ("a.txt", "a.md") else content, "utf-8")
    ((path, reason),) = read_documents(tmp_path)  # type: ignore[misc]
    assert path.startswith(name)
    assert "text" in reason or "rows" in reason or "JSON" in reason


def test_lines_of_json_may_be_in_any_marked_encoding(tmp_path: Path) -> None:
    lines = '{"text": "Größe"}\r\n\n{"text": "東京"}\nbad\n'
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        (tmp_path / "a.jsonl").write_bytes(lines.encode(encoding))
        result = read_passages(tmp_path)
        assert [passage.text for passage in result.passages] == ["Größe", "東京"]
        assert [passage.metadata["line"] for passage in result.passages] == [1, 3]
        assert [skipped.path for skipped in result.skipped] == ["a.jsonl, line 4"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "text", ["Plain text.", "Привет, мир!", "ประเทศไทย", "مرحبا بالعالم", "पानी ठंडा है। यह एक है।"]
)
def test_utf_16_without_a_mark_is_a_reported_skip(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    ((_, reason),) = read_documents(tmp_path)  # type: ignore[misc]
    assert "UTF-16" in reason


def test_tabs_are_between_the_values_of_tsv(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("Text, long\nhello, world\n")
    assert read_passages(tmp_path / "a.tsv").passages[0].text == "Text, long: hello, world"
