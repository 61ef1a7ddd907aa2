"""What people and models write around quotations, and nothing false that is called verbatim."""

from __future__ import annotations

import re

import pytest

from nest_engine import Passage, cite
from nest_engine.citations.quotations import judge_quotations
from nest_engine.citing import Citer

BRIDGE = "She closed the bridge over the river because it was not safe."
PRICES = "Prices at the harbour of Reykjavik in Iceland rose by"
WEIGHT = "were paid for the harbour of Reykjavik in 1908."
RAIN = Passage(
    "Rain fell in Bergen all the day.",
    id="rain",
    title="Rain",
    uri="https://example.org/rain.txt",
)
ASH = Passage("Volcanic ash closed most airports in Europe.", id="ash", title="Ash")


def verdicts(text: str, *sources: str | Passage) -> list[str]:
    passages = [each if isinstance(each, Passage) else Passage(each) for each in sources]
    return [quotation.verdict for quotation in judge_quotations(text, passages)]


def kinds(text: str, *sources: str) -> list[str]:
    return [sentence.kind for sentence in cite(text, sources).sentences]


# The answer's words, and those of the source that were changed to something else.
CHANGED_ENDS = [
    *[("5‰", "5%"), ("5 %", "5"), ("5°", "5"), ("A+", "A-"), ("Na+", "Na-"), ("5$", "5€")],
    *[("C++", "C"), ("F#", "F"), ('5"', "5'"), ("5″", "5′"), ("10", "10⁻⁵"), ("C", "C++")],
    *[("5", "5%"), ("A", "A-"), ("5", "5-10"), ("5", "5\u202f000"), ("well", "well-known")],
]
CHANGED_BEGINNINGS = [
    *[("$500", "€500"), ("−$5 million", "$5 million"), ("±5", "5"), (">5", "<5"), ("≤5", "<5")],
    *[("❌ They", "They"), ("¬ They", "They"), ("-5", "5"), ("5", "-5"), ("10⁵", "10⁻⁵")],
]


@pytest.mark.parametrize(("said", "written"), CHANGED_ENDS)
def test_a_changed_end_is_no_quotation(said: str, written: str) -> None:
    assert kinds(f"{PRICES} {said}.", f"{PRICES} {written}.") == ["spliced"]
    assert verdicts(f"“{PRICES} {said}.”", f"{PRICES} {written}.") == ["altered"]


@pytest.mark.parametrize("end", sorted({end for ends in CHANGED_ENDS for end in ends}))
def test_the_same_end_is_a_quotation(end: str) -> None:
    assert kinds(f"{PRICES} {end}.", f"{PRICES} {end}.") == ["quoted"]
    assert verdicts(f"“{PRICES} {end}.”", f"{PRICES} {end}.") == ["verbatim"]


@pytest.mark.parametrize(("said", "written"), CHANGED_BEGINNINGS)
def test_a_changed_beginning_is_no_quotation(said: str, written: str) -> None:
    assert kinds(f"{said} {WEIGHT}", f"{written} {WEIGHT}") == ["spliced"]
    assert verdicts(f"“{said} {WEIGHT}”", f"{written} {WEIGHT}") == ["altered"]


@pytest.mark.parametrize(
    "beginning", sorted({each for pair in CHANGED_BEGINNINGS for each in pair})
)
def test_the_same_beginning_is_a_quotation(beginning: str) -> None:
    assert kinds(f"{beginning} {WEIGHT}", f"{beginning} {WEIGHT}") == ["quoted"]
    assert verdicts(f"“{beginning} {WEIGHT}”", f"{beginning} {WEIGHT}") == ["verbatim"]


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("The town paid for the harbour in 1908?", "The town paid for the harbour in 1908."),
        ("Prices in the harbour of Oslo rose by 5", "Prices in the harbour of Oslo rose by 50 %."),
        ("All at the harbour liked the US", "All at the harbour liked the USSR."),
        ("The values lie in the interval [0, 1].", "The values lie in the interval [0, 5]."),
        ("~~She closed the bridge over the river.~~", "She closed the bridge over the river."),
    ],
)
def test_another_sentence_is_not_quoted(said: str, written: str) -> None:
    assert kinds(said, written) == ["spliced"]


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("Ash closed most airports in Europe [1].", "Ash closed most airports in Europe.[2] Then"),
        ("- She closed the bridge over the river.", "She closed the bridge over the river."),
        (
            "A cloud of fine ash closed northern airports for a week.",
            "A cloud of fine ash[1] closed northern airports for a week.",
        ),
        ("The old [harbour](http://x.org/a_b) was built.", "The old harbour was built."),
        ("The old harbours were built.", 'The old [harbour](y "t")s were built.'),
        ("Short- and long-term loans were given.", "Short-\nand long-term loans were given."),
        (
            "The cafe\u0301teria of the town was built.",
            "The cafe\u0301-\nteria of the town was built.",
        ),
        (
            "Photosynthesis is what all the plants do.",
            "Photo-\rsynthesis is what all the plants do.",
        ),
        # HTML's character references, and what Markdown's backslashes keep from being marks.
        ("Smith & Sons sold 5 % of the town.", "Smith &amp; Sons sold 5&nbsp;&#37; of the town."),
        ("It’s an été in the old harbour.", "It&#8217;s an &eacute;t&eacute; in the old harbour."),
        ("It's an &lt;old&gt; harbour of ours.", "It's an <old> harbour of ours."),
        ("Set the snake_case_name to $5 there.", r"Set the snake\_case\_name to \$5 there."),
        (
            r"All of \*args are given to the list \[1, 2\].",
            "All of *args are given to the list [1, 2].",
        ),
        ("The <b>old</b> harbour<br>was built.", "The old harbour was built."),
        ("<p><b>5 old</b> harbours were built.</p>", "5 old harbours were built."),
        ("It fell to -5 degrees in the town.", r"It fell to \-5 degrees in the town."),
        ("_The old harbours were built._", "The old harbours were built."),
        ("The old harbours were built.", "__The old harbours were built__."),
        ("- [x] The old harbours were built.", "The old harbours were built."),
        ("a) The old harbours were built.", "The old harbours were built."),
        ("(1) The old harbours were built.", "The old harbours were built."),
        ("1\ufe0f\u20e3 The old harbours were built.", "The old harbours were built."),
        ("① The old harbours were built.", "The old harbours were built."),
        ("<ul>\n<li>The old harbours were built.</li>\n</ul>", "The old harbours were built."),
    ],
)
def test_the_same_sentence_is_quoted(said: str, written: str) -> None:
    assert kinds(said, written) == ["quoted"]


@pytest.mark.parametrize(
    ("text", "source", "verdict"),
    [
        ("“values in the interval [0, 1]”", "All values in the interval [0, 5].", "altered"),
        ("“the sorted array is a[10]”", "Then the sorted array is a[20].", "altered"),
        ("“the family of sets {a,{1}}”", "So the family of sets {a,{2}}.", "altered"),
        ("“[10] is the number of stations”", "[20] is the number of stations.", "altered"),
        ("“it is safe 【1 nobody complained about it】”", "it is safe at night", "absent"),
        ("“the ash[1] closed most airports”", "Then the ash[1] closed most airports.", "verbatim"),
        ("“the ash closed most airports”", "Then the ash[1] closed most airports.", "verbatim"),
        ("“>5 metres were measured there”", "5 metres were measured there", "altered"),
        ("“closed the bridge ~~not~~ today”", "closed the bridge not today", "altered"),
        # A list, or a number, is no attribution.
        ("> Ash closed all airports\n> - and no harbours", "Ash closed all airports", "altered"),
        ("> The thermometer there showed\n> -5 degrees", "The thermometer there showed", "altered"),
        ("“I was there\n— so he said — but nobody came”", "I was there. He went.", "absent"),
        ("> It is the lightest element.\n> - Wikipedia", "It is the lightest element.", "verbatim"),
        ("> It is light.\n> — J. Smith, 1990", "It is light.", "verbatim"),
        # Apostrophes in single marks.
        ("‘the keepers’ daughter was there’", "The keepers’ daughter wasn't there.", "altered"),
        ("‘over the river because’ and the dogs’ food", BRIDGE, "verbatim"),
        (
            "‘she saw all the keepers’ dogs in the east’",
            "She saw all the keepers’ dogs.",
            "altered",
        ),
        (
            "'she saw all the keepers' dogs in the east'",
            "She saw all the keepers' dogs.",
            "altered",
        ),
        ("'the keepers' dogs in the east'.", "She saw the keepers' dogs in the east.", "verbatim"),
        ("'all the keepers' and the dogs' food", "Then all the keepers went.", "verbatim"),
        ("'all the keepers' and 'more'", "Then all the keepers went.", "verbatim"),
        # Marks within marks, and over paragraphs.
        (
            "\"She said, 'it never rained,' and left\"",
            "She said, “it never rained,” and left.",
            "verbatim",
        ),
        ("“It was closed.\n\nNobody was there.”", "It was closed. Everybody was there.", "altered"),
        ("“It was closed.\n\n“All were there.”", "It was closed.\n\nAll were there.", "verbatim"),
        ("“closed the “bridge” over the river”", "closed the “bridge” over the road", "altered"),
        ("“他说：‘这座桥不安全。’”", "他说：「这座桥不安全。」没有人受伤。", "verbatim"),
        ("「『安全』な橋」", "“安全”な橋だ", "verbatim"),
        # An omission that is marked, however short.
        ("“the boats drifted […] for six days”", "the boats drifted on for six days", "spliced"),
        ("“the boats drifted on for six … back.”", "the boats drifted on for six days", "altered"),
        ("“the boats drifted on … days.”", "the boats drifted on for six days.", "spliced"),
        *[
            (
                f"“the boats drifted {mark} for six days”",
                "the boats drifted on for six days",
                "spliced",
            )
            for mark in ("...", ". . .", "[. . .]", "[..]", "<...>", "(...)", "⟨…⟩", "⋯", "[…],")
        ],
        ("“the boats […] for six days”", "the boats [. . .] for six days", "verbatim"),
        ("“the boats . . . for six days”", "the boats ... for six days", "verbatim"),
        # What an editor says.
        ("“the boats [sic] drifted *on* [emphasis added]”", "the boats drifted on", "verbatim"),
        ("“the boats drifted *on* (my emphasis)”", "the boats drifted on", "verbatim"),
        ("“the boats (sic) drifted off”", "the boats drifted on for six days", "altered"),
        # Inches do not close, and apostrophes do not open.
        ('"a man of 5\'10" and 80 kg"', "He is a man of 5'10\" and 80 kg.", "verbatim"),
        ('"a man of 5\'10" and 90 kg"', "He is a man of 5'10\" and 80 kg.", "altered"),
        ('"a pipe of 5" in the south"', 'He saw a pipe of 5" in the north', "altered"),
        ("In the '90s 'the boats drifted on'", "the boats drifted on for six days", "verbatim"),
        ("'Twas rock 'n' roll: 'the boats drifted on'", "the boats drifted on", "verbatim"),
        ("„das Wort „nicht“ fehlt da“", "Dort: das Wort „nicht“ fehlt hier.", "altered"),
        # Bullets and pages are Markdown's, and the writer's.
        ("> - The boats drifted on.", "The boats drifted on.", "verbatim"),
        ("> # The boats drifted on.", "The boats drifted on.", "verbatim"),
        ("> The boats drifted on. (Smith, 1999, p. 4)", "The boats drifted on.", "verbatim"),
        ("> The boats drifted on. (Smith 1999)", "The boats drifted on.", "verbatim"),
        ("> It drifted on. (Smith, 1999)", "It drifted on. (Smith, 1998)", "altered"),
        ("> “The boats drifted on.” (p. 4)", "The boats drifted on. (All did.)", "verbatim"),
        ("> “The boats drifted on.” (p. 4)", "The boats drifted on. (p. 5)", "altered"),
        ("> The boats drifted on.<br>— Anna Berg", "The boats drifted on.", "verbatim"),
        ("> -5 boats drifted on.", "5 boats drifted on.", "altered"),
        ("> 3. Mai: sie fuhren weiter", "5. Mai: sie fuhren weiter", "altered"),
        # The same in other characters, and another.
        ("「ガラスのドアはパリで作られた」", "ｶﾞﾗｽのﾄﾞｱはﾊﾟﾘで作られた。", "verbatim"),
        ("“นํามาทําที่บ้านใหม่”", "นำมาทำที่บ้านใหม่", "verbatim"),
        ("“Hawaiʻi is an island”", "Hawai‘i is an island", "verbatim"),
        ("“an option -all of the command”", "an option --all of the command", "altered"),
        # Character references and escapes, at the edges, too.
        ("“prices will rise”", "He said that &quot;prices will rise&quot; there.", "verbatim"),
        (r"He said: \"prices will rise\".", 'He said that "prices will rise" there.', "verbatim"),
        ("“T reported record profits”", "AT&amp;T reported record profits.", "altered"),
        ("“5 degrees were measured there”", "&gt;5 degrees were measured there.", "altered"),
        ("“5 degrees were measured there”", r"\-5 degrees were measured there.", "altered"),
        ("“she bought all of 10”", "Then she bought all of 10&deg; there.", "altered"),
        ("“the number \u202e8091\u202c on the wall”", "the number 8091 on the wall", "altered"),
    ],
)
def test_quotations(text: str, source: str, verdict: str) -> None:
    assert verdicts(text, source) == [verdict]


@pytest.mark.parametrize(
    "marks",
    [
        *["“”", '“"', '"”', '„"', "„“", "”“", "””", "«»", "»«", "‹›", "›‹", "‚‘", "‚’", "‘’"],
        *["「」", "『』", "＂＂", "〝〞", "❝❞", "﹁﹂", "״״", '""', "''"],
        *[
            "<blockquote> </blockquote>",
            "`` ''",
            "'' ''",
            ",, ''",
            "<< >>",
            "<q> </q>",
            "&quot; &quot;",
            "&ldquo; &rdquo;",
            '_" "_',
            '" " ¹',
        ],
        *["&ldquo; &rdquo;", "<blockquote> </blockquote>"],
    ],
)
def test_all_marks_of_quotation_are_seen(marks: str) -> None:
    opening, closing = (*marks.split(" ", 1), "")[:2] if " " in marks else marks
    closing = closing.replace(" ", "")
    quoted = "closed the bridge over the river because it was not safe"
    assert verdicts(f"He said {opening}{quoted}{closing}.", BRIDGE) == ["verbatim"]
    changed = quoted.replace(" not", "")
    assert verdicts(f"He said {opening}{changed}{closing}.", BRIDGE) == ["altered"]


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ('他说"流经十个国家"和"并不流入爱琴海"。', "多瑙河流经十个国家，并不流入爱琴海。"),
        ("他说'流经十个国家'和'并不流入爱琴海'。", "多瑙河流经十个国家，并不流入爱琴海。"),
        ('本文は"十か国を流れる"と"海には注がない"だ。', "川は十か国を流れるが、海には注がない。"),
        ('"열 나라를 흐른다"고 ‘바다에 닿지 않는다’고', "열 나라를 흐른다. 바다에 닿지 않는다"),
        ('เขาว่า"ไหลผ่านสิบประเทศ"และ"ไม่ลงทะเล"ครับ', "แม่น้ำไหลผ่านสิบประเทศ ไม่ลงทะเล"),
    ],
)
def test_marks_right_beside_letters_where_words_have_no_spaces(text: str, source: str) -> None:
    assert verdicts(text, source) == ["verbatim", "verbatim"]


@pytest.mark.parametrize(
    ("reference", "verdict"),
    [
        ("[2]", "verbatim"),
        ("[1][2]", "verbatim"),
        ("[1], [2]", "verbatim"),
        ("[1, 2]", "verbatim"),
        ("[1]", "elsewhere"),
        ("【1†source】", "elsewhere"),
        ("[[1]](#s1)", "elsewhere"),
        ("[Source 1]", "elsewhere"),
        ("(Doc 1)", "elsewhere"),
        ("¹", "elsewhere"),
        ("(Rain, p. 3)", "elsewhere"),
        (", says the report [1]", "elsewhere"),
        ("[source: 1]", "elsewhere"),
        ("[doc-1]", "elsewhere"),
        ("(Sources 1 and 2)", "verbatim"),
        ("<sup>[1]</sup>", "elsewhere"),
        ("[Source: Rain]", "elsewhere"),
        ("[rain.txt]", "elsewhere"),  # the file that it comes from
        ("([here](https://example.org/rain.txt))", "elsewhere"),
        ("(https://example.org/ash)", "verbatim"),
        *[("[1, p. 3]", "elsewhere"), ("(Source 1, p. 3)", "elsewhere"), ("[#1]", "elsewhere")],
        *[
            (", p. 3 [1]", "elsewhere"),
            (", pp. 3-5, [1]", "elsewhere"),
            ("(S. 3) [1]", "elsewhere"),
        ],
        *[
            ("(see [1])", "elsewhere"),
            ("(cf. Source 1)", "elsewhere"),
            ("([1], p. 3)", "elsewhere"),
        ],
        *[("{1}", "elsewhere"), ("^1", "elsewhere"), ("^1^", "elsewhere"), ("^{1}", "elsewhere")],
        *[("^[1]", "elsewhere"), ("[^1]", "elsewhere"), ("<sup>1</sup>", "elsewhere")],
        *[("$^{1}$", "elsewhere"), (r"\[1\]", "elsewhere"), ("(Source: [1])", "elsewhere")],
        *[("（来源1）", "elsewhere"), ("［1］", "elsewhere"), ("（Rain）", "elsewhere")],
        *[("（1）", "verbatim"), ("［7］", "elsewhere")],
        *[(", p. 1 [2]", "verbatim"), ("[2, p. 1]", "verbatim"), ("²", "verbatim")],
        # Numbers of something else.
        *[("(p. 1)", "verbatim"), ("[p. 1]", "verbatim"), ("(Article 1)", "verbatim")],
        *[("[Figure 1]", "verbatim"), ("(Chapter 1)", "verbatim"), ("(May 1)", "verbatim")],
        ("[7]", "elsewhere"),  # there is no such source
        ("(7)", "verbatim"),  # anything
        (", whereas rain fell in Bergen [1]", "verbatim"),  # named for something else
    ],
)
def test_references(reference: str, verdict: str) -> None:
    text = f"“ash closed most airports in Europe” {reference}."
    assert verdicts(re.sub(r"” (?=[,{^<$²])", "”", text), RAIN, ASH) == [verdict]


@pytest.mark.parametrize(
    "list_",
    [
        *["[1] Ash\n[2] Rain", "[^1]: *Ash*, p. 3", "[1]: Smith, A., “Ash”, 1990.", "- [1] Ash"],
        *["## Sources\n1. Ash\n2. Rain", "**References:**\n¹ Ash", "[1] [Ash](http://a.org/ash)"],
    ],
)
def test_what_a_number_means_the_texts_own_list_says(list_: str) -> None:
    for quoted, verdict in ("ash closed most airports", "verbatim"), ("Rain fell", "elsewhere"):
        text = f"“{quoted}” [1]\n\n{list_}"
        for numbered in (True, False):
            (quotation, *_) = cite(text, [RAIN, ASH], numbered=numbered).quotations
            assert (quotation.verdict, quotation.named) == (verdict, "ash")


@pytest.mark.parametrize("list_", ["[^1]: A book", "Sources:\n1. A book", "## Quellen\n[1] A book"])
def test_a_list_of_other_sources_names_none(list_: str) -> None:
    assert verdicts(f"“ash closed most airports” [1]\n\n{list_}", RAIN, ASH) == ["verbatim"]


@pytest.mark.parametrize(
    ("said", "written"),
    [
        *[(" [1]", " [2]"), (" [#5]", " [#6]"), (" (see [2])", " (see [3])"), ("[^1]", "[^2]")],
        *[(" [1, p. 3]", " [1, p. 4]"), (", p. 3 [1]", ", p. 5 [1]"), (r" \[1\]", r" \[2\]")],
        *[(" (Source 1, p. 4)", " (Source 1, p. 5)"), ("^[1]", "^[2]"), (" {1}", " {2}")],
    ],
)
def test_the_sources_own_references_are_part_of_it(said: str, written: str) -> None:
    text = "the ash of the report{} closed most airports"
    quotation = f"“{text.format(said)}”"
    assert verdicts(quotation, text.format(said)) == ["verbatim"]
    assert verdicts(quotation, text.format(written)) in (["altered"], ["spliced"])


@pytest.mark.parametrize(
    "line", ["[1] Ash closed all.", "1. Ash", "[1] has it.", "Notes\n1. See [2]."]
)
def test_other_lines_are_no_list_of_sources(line: str) -> None:
    text = f"“ash closed most airports” [1]\n\n{line}"
    assert verdicts(text, RAIN, ASH) == ["elsewhere"]
    (quotation,) = cite(text, [RAIN, ASH], numbered=False).quotations
    assert (quotation.verdict, quotation.named) == ("verbatim", None)
    (quotation,) = Citer([RAIN, ASH], numbered=False).cite(text).quotations
    assert quotation.named is None


@pytest.mark.parametrize("reference", ["[1-3]", "[1–3]", "[Sources 1-3]", "[1-3, 9]"])
def test_a_range_names_what_is_within(reference: str) -> None:
    other = Passage("Snow fell in Oslo.")
    text = f"“ash closed most airports in Europe” {reference}"
    assert verdicts(text, RAIN, ASH, other) == ["verbatim"]
    assert verdicts(text, RAIN, other, other, ASH) == ["elsewhere"]


@pytest.mark.parametrize(
    "reference",
    [
        *["[1]", "[[1]](https://a.org/x_(y))", "[1](#s1)", "[Source 1]", "(Sources 1 and 2)"],
        *["[1, p. 3]", "(Source 1, p. 3)", "[#1]", "(see [1])", "(cf. Source 1)", "([1], p. 3)"],
        *[", p. 3 [1]", "^[1]", r"\[1\]", "(Source: [1])"],
        *["[citation:1]", "[Quelle 1]", "（来源1）", "<sup>[1]</sup>", "【1:0†source】"],
        # The title, the id or the file of the very source that is quoted.
        *["[Rain]", "(Rain, p. 3)", "[source: rain]", "([Rain](https://a.org/x))", "(rain.txt)"],
    ],
)
def test_a_sentence_with_a_reference_is_quoted(reference: str) -> None:
    for said in (f"{RAIN.text[:-1]} {reference}.", f"{RAIN.text} {reference}"):
        assert [each.kind for each in cite(said, [RAIN, ASH]).sentences] == ["quoted"]


@pytest.mark.parametrize(
    "said", ["(Apollo 1)", "(1)", "[Ash]", "(Article 1)", "(Rain, not snow)", "<b>", "²"]
)
def test_a_sentence_with_something_else_in_brackets_is_spliced(said: str) -> None:
    text = f"{RAIN.text[:-1]} {said}."
    assert [each.kind for each in cite(text, [RAIN, ASH]).sentences] == ["spliced"]


def test_headings_and_cells_of_tables_stand_by_themselves() -> None:
    text = f"## The weather\n{RAIN.text}\n| Cause | It is said |\n|---|---|\n| Ash | {ASH.text} |"
    judged = [
        (text[each.start : each.end], each.kind) for each in cite(text, [RAIN, ASH]).sentences
    ]
    quoted, words = [RAIN.text, ASH.text], ["## The weather", "Cause", "It is said", "Ash"]
    assert sorted(judged) == sorted(
        [*((each, "quoted") for each in quoted), *((each, "own") for each in words)]
    )


@pytest.mark.parametrize(
    "lead_in", ["**Weather:** ", "- **Weather**: ", "1. **Weather** – ", "<b>Weather:</b> "]
)
def test_bold_lead_ins_stand_by_themselves(lead_in: str) -> None:
    text = f"{lead_in}{RAIN.text}\n{lead_in}{ASH.text[:-1]} [2].".replace("\n1.", "\n2.")
    judged = cite(text, [RAIN, ASH]).sentences
    assert [each.kind for each in judged] == ["own", "quoted"] * 2


def test_bold_words_of_a_sentence_belong_to_it() -> None:
    text = f"**Rain** fell in Bergen all the day. **Not** {RAIN.text}"
    assert [each.kind for each in cite(text, [RAIN]).sentences] == ["quoted", "spliced"]


def test_a_name_with_an_underscore_is_not_cut() -> None:
    source = "_private methods of classes are called."
    assert verdicts("“private methods of classes”", source) == ["altered"]
    assert kinds("private methods of classes are called.", source) == ["spliced"]


def test_raised_numbers_behind_sentences_are_references() -> None:
    for one, two in ("¹", "<sup>2</sup>"), ("^1", "^{2}"), ("{1}", "^2^"):
        text = f"{RAIN.text}{one} {ASH.text}{two}"
        assert [each.kind for each in cite(text, [RAIN, ASH]).sentences] == ["quoted", "quoted"]
    for power in ("^2", "{2}", "$^{2}$"):  # behind a letter
        text = f"{RAIN.text[:-1]}{power}."
        assert [each.kind for each in cite(text, [RAIN]).sentences] == ["spliced"]


def test_a_document_is_named_whichever_of_its_passages_has_the_words() -> None:
    chunks = [Passage(RAIN.text, title="Report"), Passage(ASH.text, title="Report")]
    assert verdicts("“closed most airports in Europe” [Report]", *chunks) == ["verbatim"]


@pytest.mark.parametrize(
    "source",
    [
        *["\n> ({})", " ({})", "\n> — *{}*", " — {}", "\n> -- **{}**", "\n> — [{}](http://a.org)"],
        *[" [{}]", "\n>\n> — {}"],
    ],
)
def test_a_block_may_end_with_its_source(source: str) -> None:
    for name, verdict in (("Source 1", "verbatim"), ("Rain", "verbatim"), ("Ash", "elsewhere")):
        assert verdicts(f"> {RAIN.text}{source.format(name)}", RAIN, ASH) == [verdict]
    assert verdicts(f"> {RAIN.text} — Nobody cared", RAIN, ASH) == ["altered"]


def test_passages_of_one_id_are_told_apart() -> None:
    first, second = Passage(RAIN.text, id="doc"), Passage(ASH.text, id="doc")
    assert verdicts("“ash closed most airports” [1]", first, second) == ["elsewhere"]


@pytest.mark.parametrize(
    ("said", "cited"),
    [
        ('It says "-5 degrees were measured at the pier".', "degrees were measured at the pier"),
        ("It had −$5 degrees were measured at the pier.", "degrees were measured at the pier."),
        ("All know 5 degrees were measured at the pier.", "5 degrees were measured at the pier."),
    ],
)
def test_what_is_cut_out_of_a_number_is_not_cited(said: str, cited: str) -> None:
    (citation,) = cite(said, ["Then 5 degrees were measured at the pier."]).citations
    assert citation.cited_text == cited


@pytest.mark.parametrize(
    "text",
    [
        "# The ash\nVolcanic ash closed most airports in Europe.\n**So**\n| a | b |\n| Good.",
        "As he said: **I agree. Volcanic ash** closed most airports in Europe. Good.",
        "Is it so?\n\nI think so. (Dr. Smith of St. Louis said that nobody was hurt.) Good.",
        'He said: "Dr. Smith of St. Louis said that nobody was hurt." Good. Fine.',
        "The [volcanic ash](http://example.org/a) closed most airports in Europe. Good.",
        f"So.\n- **The ash:** {ASH.text}\n- **Rain** – Dr. Smith of St. Louis. Good.",
        "_Volcanic ash closed most airports in Europe._ See <https://example.org/a> for it. Good.",
        r"Volcanic&nbsp;ash closed \*most airports\* in &quot;Europe&quot;. Good & fine.",
    ],
)
@pytest.mark.parametrize("size", [1, 5, 9])
def test_a_stream_cites_as_the_whole_does(text: str, size: int) -> None:
    citer = Citer([ASH, Passage("Dr. Smith of St. Louis said that nobody was hurt.")])
    stream = citer.stream()
    found = [each for i in range(0, len(text), size) for each in stream.push(text[i : i + size])]
    assert (*found, *stream.close()) == citer.cite(text).citations


def test_marks_that_never_close_take_linear_time() -> None:
    assert verdicts("'a b " * 20_000, "gas") == []  # a scan to the end from each: minutes


@pytest.mark.parametrize(
    "text",
    ['"in 1908" and "the boats drifted on"', 'It is 5", and "in 1908" ("the boats drifted on").'],
)
def test_what_ends_with_a_number_is_closed(text: str) -> None:
    assert verdicts(text, "the boats drifted on in 1908") == ["verbatim", "verbatim"]


@pytest.mark.parametrize("text", ['"a 5" b ', '5" b ', "„a „", "[. ", "<http://"])
def test_marks_of_other_things_take_linear_time(text: str) -> None:
    assert set(verdicts(text * 20_000, "gas")) <= {"absent"}  # a scan to the end from each: minutes


def test_many_quotations_are_judged_with_one_comparison() -> None:
    passages = [Passage(f"Sentence {i} stands in the passage number {i}.") for i in range(2000)]
    text = " ".join(f"“stands in the passage number {i}”" for i in range(0, 2000, 4))
    assert set(verdicts(text, *passages)) == {"verbatim"}  # one by one: minutes


@pytest.mark.parametrize(
    "text",
    [
        'Call `print("hello to all of you")` and set `"name": "the value"`.',
        '```python\nprint("hello to all of you")\n> no block\n```',
        "~~~\nsay “hello to all of you”\n\nand “more of it all”",  # to the end
        '{"answer": "Rain fell in Oslo for a week.", "sources": ["The rain", 2]}',
        '["Rain fell in Oslo for a week."]',
        '{"answer": "Rain fell in Oslo for a week.", "sources": ["The ra',
        '[{"answer": "Rain fell in Oslo for a week.",}]',
        '```json\n{"answer": "Rain fell in Oslo for a week."}\n```',
        "<div class=\"a note of ours\" id='all of it' hidden>It rained.</div>",
        "[here](http://a.org/x \"A title of ours\") ![b](a.png 'Of the others')",
    ],
)
def test_literals_are_no_quotations(text: str) -> None:
    assert verdicts(text, RAIN) == []
    assert verdicts(f"“Rain fell in Bergen”\n\n{text}", RAIN) == ["verbatim"]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ('{"answer": "They say \\"Rain fell in Bergen\\".", "id": 1}', "verbatim"),
        ('{"answer": "They say “Rain fell in Oslo all the day”."}', "altered"),
        ('{"answer": "Yes.", "quote": "Rain fell in Bergen"}', "verbatim"),
        ('```json\n{"exact_quotes": ["Rain fell in Oslo all the day"]}\n```', "altered"),
        ("```markdown\nThey say “Rain fell in Bergen” in `it`.\n```", "verbatim"),
        ("“Rain fell in `Bergen`”", "verbatim"),
        ("[1]: https://a.org says “Rain fell in Bergen”", "verbatim"),
        ("He said `no' and “Rain fell in Bergen” and `yes'.", "verbatim"),
        ('<q cite="a.org">Rain fell in Bergen</q>', "verbatim"),
        ('The set {"Rain fell in Bergen"} of sentences', "verbatim"),
    ],
)
def test_quotations_beside_and_within_literals(text: str, verdict: str) -> None:
    (quotation,) = judge_quotations(text, [RAIN])
    assert quotation.verdict == verdict
    assert quotation.text == text[quotation.start : quotation.end]


@pytest.mark.parametrize("text", ["```md\n", "`", "<a b ", "<a b=' ", "](a '", "[", '{"a":'])
def test_literals_that_never_end_take_linear_time(text: str) -> None:
    assert verdicts(text * 20_000, "gas") == []  # a scan to the end from each: minutes
