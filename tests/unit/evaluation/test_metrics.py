"""Every metric catches the error that is planted for it."""

from __future__ import annotations

import math
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace

import pytest

from nest_engine import (
    Citation,
    DecodeStats,
    MissingDependencyError,
    NestOutput,
    Passage,
    Provenance,
)
from nest_engine.evaluation import METRICS, require_libraries
from nest_engine.evaluation.copying import (
    attribution,
    is_on_topic,
    num_spans,
    off_topic,
    quote_precision,
    sentence_kinds,
)
from nest_engine.evaluation.facts import Date, facts_of, factual_precision, unsupported
from nest_engine.evaluation.matching import names, words_of
from nest_engine.evaluation.metrics import _rouge_scorer, answer_recall, rouge, truthful_deltas
from nest_engine.evaluation.summary import bootstrap, difference, summarize, to_dicts, to_markdown

# --- text


def test_rouge_is_an_f_measure_over_words() -> None:
    measures = rouge("the otter swims", "the otter swims far away today")

    assert measures["rouge1"] == (pytest.approx(2 * 1 * 0.5 / 1.5), 1)
    assert measures["rouge2"] == (pytest.approx(2 * 1 * 0.4 / 1.4), 1)
    assert rouge("far today the", "the far today")["rougeL"][0] == pytest.approx(2 / 3)
    assert rouge("", "the otter")["rouge1"] == (0, 1)


@pytest.mark.parametrize(
    ("answer", "aliases", "recalled"),
    [
        ("It was the Beatles, in 1963.", ["Beatles"], 1),
        ("It was Beatles!", ["The Beatles"], 1),
        ("It was Ringo.", ["The Beatles", "ringo"], 1),  # every alias
        ("The U.S.A. of course", ["U.S.A."], 1),
        ("It was ARSENIC.", ["arse"], 0),  # a part of a word is no answer
        ("John met Paul Smith.", ["John Smith"], 0),  # nor are its words apart
        ("Anything", ["?"], 0),  # an alias without words is in no answer
        ("", ["Beatles"], 0),
        ("It has 3.5 million.", ["5"], 0),  # a part of a number is no answer
        ("It has 3.5 million.", ["3,5"], 1),
        ("It has 10,000 seats.", ["10"], 0),
        ("It has 10,000 seats.", ["10000", "x"], 1),
        ("It has 10000 seats.", ["10 000"], 1),
        ("Born 12.5.1990.", ["1990"], 1),
        ("1990年に生まれた。", ["1990年"], 1),  # characters of scripts without spaces are words
        ("答えは水です", ["水"], 1),
        ("第3のビール", ["第3"], 1),
        ("他出生于南京市。", ["北京"], 0),
        ("물을 마신다", ["물"], 1),
        ("사과 나무", ["과나"], 0),  # nothing reaches from one word into another
        ("เมืองหลวงคือกรุงเทพ", ["กรุงเทพ"], 1),
    ],
)
def test_answer_recall(answer: str, aliases: Sequence[str], recalled: int) -> None:
    assert answer_recall(answer, aliases) == {"answer_recall": (recalled, 1)}


def test_truthful_deltas_are_positive_for_the_true_answer_and_negative_for_the_false_one() -> None:
    correct, incorrect = ["Otters cannot fly at all", "No"], ["Otters fly every night", "Yes"]
    true = truthful_deltas("Otters cannot fly at all", correct, incorrect)
    false = truthful_deltas("Otters fly every night", correct, incorrect)

    assert true["delta_bleu"][0] > 50
    assert false["delta_bleu"][0] < -50
    assert true["delta_rouge1"][0] > 0.4
    assert true["delta_rouge1"][0] == pytest.approx(1 - 2 * 0.4 * 0.5 / 0.9)
    assert false["delta_rouge1"][0] == pytest.approx(-true["delta_rouge1"][0])


def test_names_match_whole_words_in_a_row() -> None:
    text = words_of("St. Mary's Church, by J. R. Smith")
    assert names(text, "Saint Mary's church") is False
    assert names(text, "st mary's CHURCH")
    assert names(text, "J.R. Smith")
    assert not names(text, "Smit")


@pytest.mark.parametrize(
    ("module", "package"), [("rouge_score", "rouge-score"), ("sacrebleu", "sacrebleu")]
)
def test_a_missing_package_names_the_install_command(
    monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    _rouge_scorer.cache_clear()
    with pytest.raises(
        MissingDependencyError,
        match=rf"{package} is not installed; run: pip install .nest-engine\[eval\]",
    ):
        require_libraries()


def test_measuring_leaves_the_programs_logging_alone() -> None:
    code = "import logging, nest_engine.evaluation as e; e.require_libraries(); "
    code += "print(logging.root.handlers)"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert printed == "[]\n"


# --- facts

ARTICLE = (
    "Ada Quill (12 March 1901 – June 5, 1990) was a Norwegian swimmer. She won the Otter Prize of "
    "Bergen in 1,928 "
    "races, lived in Van der Berg Street and met Louis J. Elk. In the 1950s she moved to the "
    "University of Oslo."
)


def test_numbers_dates_and_names_are_facts() -> None:
    facts = facts_of(ARTICLE, ["Ada Quill"])

    assert facts.dates == {Date(1901, 3, 12), Date(1990, 6, 5)}
    assert facts.numbers == {"1928", "1950s"}
    assert facts.names == {
        "Norwegian",
        "Otter Prize of Bergen",
        "Van der Berg Street",
        "Louis J. Elk",
        "University of Oslo",
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("However Ada swam. She won. Later Otters came.", {"Ada", "Otters"}),
        ("Swimming is fun. Elks run.", set()),  # any word may begin a sentence
        ('He said "The end" in May and on Monday.', set()),
        ("In Ada's house", {"Ada"}),
        ("the band of The Who, and I", {"The Who"}),
        ("by Dr. Ada Quill at St. Mary Lake. Mr. Elk left.", {"Ada Quill", "St. Mary Lake", "Elk"}),
        ("", set()),
    ],
)
def test_proper_names(text: str, found: set[str]) -> None:
    assert facts_of(text).names == found


@pytest.mark.parametrize(
    ("text", "numbers", "dates"),
    [
        ("in 1914–1918, 3.5 km and 55km", {"1914", "1918", "3.5", "55"}, set()),
        ("the 19th of May 2000, at 5%", {"5"}, {Date(2000, 5, 19)}),
        ("in March 1990 and on March 3", set(), {Date(1990, 3, None), Date(None, 3, 3)}),
        ("1,000,000 in the 1990s, B2B", {"1000000", "1990s"}, set()),
        ("they may 5", {"5"}, set()),
    ],
)
def test_numbers_and_dates(text: str, numbers: set[str], dates: set[Date]) -> None:
    facts = facts_of(text)
    assert (facts.numbers, facts.dates) == (numbers, dates)


def test_an_article_supports_everything_that_it_says() -> None:
    measures = factual_precision(ARTICLE, ARTICLE, ["Ada Quill"])

    assert measures == {"factual_precision": (9, 9), "facts": (9, 1)}


@pytest.mark.parametrize(
    ("true", "false", "wrong"),
    [
        ("12 March 1901", "13 March 1901", Date(1901, 3, 13)),
        ("June 5, 1990", "June 5, 1991", Date(1991, 6, 5)),
        ("1,928 races", "1,929 races", "1929"),
        ("1950s", "1960s", "1960s"),
        ("Norwegian", "Swedish", "Swedish"),
        ("Otter Prize of Bergen", "Otter Prize of Oslo", "Otter Prize of Oslo"),
    ],
)
def test_a_planted_falsehood_is_caught(true: str, false: str, wrong: str | Date) -> None:
    answer = ARTICLE.replace(true, false)
    assert answer != ARTICLE

    assert factual_precision(answer, ARTICLE, ["Ada Quill"])["factual_precision"] == (8, 9)
    assert unsupported(facts_of(answer, ["Ada Quill"]), ARTICLE) == [wrong]


def test_less_exact_dates_and_repetitions_are_no_further_errors() -> None:
    answer = "Quill was born in March 1901, on 12 March." + 3 * " She lived in Moscow."

    assert factual_precision(answer, ARTICLE, ["Ada Quill"])["factual_precision"] == (2, 3)
    assert factual_precision("She swam.", ARTICLE, ["Ada Quill"]) == {
        "factual_precision": (0, 0),
        "facts": (0, 1),
    }


@pytest.mark.parametrize(
    "end", [" and Mosc", " (Moscow Un", " on 3 Apri", " in 19", " near Lake 5"]
)
def test_what_the_length_limit_broke_off_is_not_held_against_an_answer(end: str) -> None:
    answer = "She lived in Bergen" + end

    assert factual_precision(answer, ARTICLE, [], is_cut=True)["factual_precision"] == (1, 1)
    right, facts = factual_precision(answer, ARTICLE, [])["factual_precision"]
    assert right < facts


# --- copying

OTTER = Passage("Otters swim well.", title="Otter", id="otter")
ACTRESS = Passage("She won the Elk Award.", title="Bea Reel", id="actress")
PASSAGES = (OTTER, ACTRESS)


def answer_of(
    provenance: Sequence[tuple[int, int] | None], citations: Sequence[Citation] = (), text: str = ""
) -> NestOutput:
    sources = tuple(None if source is None else Provenance(*source) for source in provenance)
    return NestOutput(
        text,
        tuple(citations),
        "length",
        DecodeStats(),
        tuple(range(len(sources))),
        sources,
        passages=PASSAGES,
    )


def test_spans_are_runs_of_consecutive_positions_of_one_passage() -> None:
    provenance = [(0, 3), (0, 4), None, (0, 5), (1, 6), (1, 7), (1, 7), (0, 8)]
    output = answer_of(provenance)

    assert num_spans(output.provenance) == 5
    assert attribution(output) == {"attributed_share": (7, 8), "mean_span": (7, 5)}
    assert attribution(answer_of([None, None])) == {"attributed_share": (0, 2), "mean_span": (0, 0)}


def test_sentences_are_quoted_whole_spliced_or_the_models_own() -> None:
    text = "Otters swim. Otters swim and play. I think so. Otters"
    source = "Otters swim. Elks play."
    citations = [
        Citation(0, 11, "otter", 0, 11, source[:11]),
        Citation(13, 24, "otter", 0, 11, source[:11]),
        Citation(29, 33, "otter", 18, 22, source[18:22]),
        Citation(47, 53, "otter", 0, 6, source[:6]),
    ]
    output = answer_of([], citations, text)
    assert [(text[s.start : s.end], s.kind) for s in output.sentences] == [
        ("Otters swim.", "quoted"),
        ("Otters swim and play.", "spliced"),
        ("I think so.", "own"),
        ("Otters", "quoted"),
    ]
    assert sentence_kinds(output) == {
        "quoted_sentences": (18, 50),
        "spliced_sentences": (21, 50),
        "own_sentences": (11, 50),
        "quotes": (1, 1),
    }
    assert sentence_kinds(answer_of([], text="")) == {
        "quoted_sentences": (0, 0),
        "spliced_sentences": (0, 0),
        "own_sentences": (0, 0),
        "quotes": (0, 1),
    }


def test_quotes_must_stand_in_answer_and_source() -> None:
    text = "Indeed: Otters swim well."
    exact = Citation(8, 19, "otter", 0, 11, "Otters swim")
    wrong = {
        "moved in the answer": replace(exact, answer_start=7),
        "moved in the source": replace(exact, source_start=1, source_end=12),
        "altered text": replace(exact, cited_text="Otters swam"),
        "another passage": replace(exact, passage_id="actress"),
        "unknown passage": replace(exact, passage_id="nowhere"),
        "empty": Citation(3, 3, "otter", 3, 3, ""),
    }

    assert quote_precision(answer_of([], [exact], text)) == {"quote_precision": (1, 1)}
    for citation in wrong.values():
        assert quote_precision(answer_of([], [exact, citation], text)) == {
            "quote_precision": (1, 2)
        }
    assert quote_precision(answer_of([None])) == {"quote_precision": (0, 0)}


def test_a_quote_in_other_characters_stands_as_it_says() -> None:
    text = "Indeed: *Otters* swim well."
    quote = Citation(
        8, 21, "otter", 0, 11, "Otters swim", match="normalized", answer_text=text[8:21]
    )
    assert quote_precision(answer_of([], [quote], text)) == {"quote_precision": (1, 1)}
    moved = replace(quote, answer_text="Otters swim")
    assert quote_precision(answer_of([], [moved], text)) == {"quote_precision": (0, 1)}


def test_tokens_from_the_wrong_article_are_off_topic() -> None:
    output = answer_of([(0, 0), (0, 1), None, (1, 0), (1, 1)])

    assert off_topic(output, ["Otter"]) == {"off_topic": (2, 5)}
    assert off_topic(output, ["Bea Reel"]) == {"off_topic": (2, 5)}
    assert off_topic(output, ["Someone Else"]) == {"off_topic": (4, 5)}


@pytest.mark.parametrize(
    ("passage", "on_topic"),
    [
        # the article itself, however spelled
        (Passage("He was born in Oslo.", title="ada_quill (swimmer)"), True),
        (Passage("A prize went to Ada Quill.", title="Prizes"), True),
        (Passage("A prize.", title="Life of Ada Quill"), True),
        (Passage("A prize went to Ada Quillson.", title="Prizes"), False),
        (Passage("A prize went to Quill.", title="Bea Quill"), False),
    ],
)
def test_a_passage_is_on_topic_if_it_is_about_the_subject_or_names_it(
    passage: Passage, on_topic: bool
) -> None:
    assert is_on_topic(passage, ["Ada Quill (swimmer)"]) is on_topic


# --- tables


def record(
    example: int, variant: str, measures: dict[str, tuple[float, float]], condition: str = "gold"
) -> dict[str, object]:
    return {
        "example": str(example),
        "variant": variant,
        "condition": condition,
        "measures": measures,
    }


def test_figures_are_totals_over_counts() -> None:
    records = [
        record(1, "nest", {"perplexity": (10, 10), "mean_span": (0, 0), "rouge1": (0.2, 1)}),
        record(2, "nest", {"perplexity": (90, 30), "mean_span": (12, 3), "rouge1": (0.6, 1)}),
        {"example": "3", "variant": "nest", "condition": "gold", "error": "too long"},
    ]
    [row] = summarize(records)

    assert (row.variant, row.condition, row.examples, row.failed) == ("nest", "gold", 3, 1)
    assert row.estimates["perplexity"].value == pytest.approx(math.exp(100 / 40))
    assert row.estimates["rouge1"].value == pytest.approx(40)
    assert (row.estimates["mean_span"].value, row.estimates["mean_span"].examples) == (4, 1)
    assert "rouge2" not in row.estimates


def test_the_interval_is_that_of_the_mean() -> None:
    values = [0.0, 1.0] * 50
    estimate = bootstrap(METRICS["rouge1"], [(value, 1) for value in values])

    half = 1.96 * 50 / math.sqrt(100)  # of a proportion, in percent
    assert estimate.value == 50
    assert estimate.low == pytest.approx(50 - half, abs=1.5)
    assert estimate.high == pytest.approx(50 + half, abs=1.5)
    assert bootstrap(METRICS["rouge1"], [(value, 1) for value in values]) == estimate


@pytest.mark.parametrize("pairs", [[(0.5, 1)], [(0.5, 1), (0, 0)], [(math.inf, 1), (2.0, 1)]])
def test_one_example_and_an_infinite_figure_have_no_interval(
    pairs: list[tuple[float, float]],
) -> None:
    estimate = bootstrap(METRICS["nll"], pairs)
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)
    rows = summarize([record(i, "lm", {"nll": pair}) for i, pair in enumerate(pairs)])
    assert f"| lm | {estimate.value:.2f} |" in to_markdown(rows)
    [figures] = [row["figures"]["nll"] for row in to_dicts(rows)]
    assert (figures["low"], figures["high"]) == (None, None)
    assert figures["value"] == (estimate.value if math.isfinite(estimate.value) else None)


def test_resampling_many_examples_takes_little_memory() -> None:
    pairs = [(1.0, 1.0), (0.0, 1.0)] * 5_000
    tracemalloc.start()
    bootstrap(METRICS["rouge1"], pairs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000  # all resamples at once take 80


def test_differences_are_paired() -> None:
    records = [record(i, "a", {"rouge1": (i / 100 + 0.01, 1)}) for i in range(50)]
    records += [record(i, "b", {"rouge1": (i / 100, 1)}) for i in range(40)]
    apart = difference(records, "rouge1", "a", "b", "gold")

    assert apart is not None
    assert apart.examples == 40
    assert (apart.value, apart.low, apart.high) == (
        pytest.approx(1),
        pytest.approx(1),
        pytest.approx(1),
    )
    assert difference(records, "rouge1", "a", "b", "no-gold") is None


def test_tables_show_conditions_apart_and_gaps_as_gaps() -> None:
    rows = summarize(
        [
            record(1, "lm", {"rouge1": (0.5, 1), "mean_span": (0, 0)}),
            record(1, "nest", {"rouge1": (0.75, 1), "mean_span": (9, 2)}),
            record(1, "nest", {"rouge1": (0.25, 1)}, "no-gold"),
        ]
    )

    assert to_markdown(rows, intervals=False) == (
        "**gold, 1 examples**\n\n"
        "| method | ROUGE-1 | mean span |\n| --- | ---: | ---: |\n| lm | 50.0 | – |\n| nest | 75.0 "
        "| 4.5 |\n"
        "\n**no-gold, 1 examples**\n\n| method | ROUGE-1 |\n| --- | ---: |\n| nest | 25.0 |\n"
    )
    assert "| nest | 75.0 |" in to_markdown(rows, ["rouge1"])
    assert to_dicts(rows)[1]["figures"]["mean_span"]["value"] == 4.5


def test_every_metric_says_what_it_means() -> None:
    assert all(metric.meaning and metric.label for metric in METRICS.values())
    assert METRICS["perplexity"].value(2 * math.log(7), 2) == pytest.approx(7)
    assert METRICS["perplexity"].value(math.inf, 1) == math.inf
