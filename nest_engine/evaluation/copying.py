"""Measures of copying: Table 2 of the paper, and two of our own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from nest_engine.evaluation.conditions import is_about, title_key
from nest_engine.evaluation.examples import subject
from nest_engine.evaluation.matching import names, words_of
from nest_engine.evaluation.metrics import Measures
from nest_engine.output import NestOutput
from nest_engine.records import Citation, Passage, Provenance


def attribution(output: NestOutput) -> Measures:
    """Return the share of tokens with a source and the mean length of copied spans: Table 2."""
    copied = sum(source is not None for source in output.provenance)
    return {
        "attributed_share": (copied, len(output.token_ids)),
        "mean_span": (copied, num_spans(output.provenance)),
    }


def num_spans(provenance: Sequence[Provenance | None]) -> int:
    """Return the number of maximal runs of tokens from consecutive positions of one passage."""
    continued = sum(
        source is not None
        and before is not None
        and source == (before.passage, before.position + 1)
        for before, source in pairwise(provenance)
    )
    return sum(source is not None for source in provenance) - continued


def sentence_kinds(output: NestOutput) -> Measures:
    """Return the shares of an answer's characters by the kind of their sentence.

    And whether the answer quotes at all.
    """
    characters = {"quoted": 0, "spliced": 0, "own": 0}
    for sentence in output.sentences:
        characters[sentence.kind] += sentence.end - sentence.start
    total = sum(characters.values())
    return {f"{kind}_sentences": (count, total) for kind, count in characters.items()} | {
        "quotes": (float(bool(output.citations)), 1)
    }


def quote_precision(output: NestOutput) -> Measures:
    """Count the citations whose text stands at the cited place of answer and source.

    ``passage.text[c:d] == cited_text``, and ``answer[a:b]`` is the same or, where the match is
    ``normalized``, what the citation says that the answer has instead. Checked on the answer that a
    user receives.
    """
    exact = sum(_is_exact(citation, output) for citation in output.citations)
    return {"quote_precision": (exact, len(output.citations))}


def _is_exact(citation: Citation, output: NestOutput) -> bool:
    said = output.text[citation.answer_start : citation.answer_end]
    return said == citation.text_in_answer != "" and any(
        passage.text[citation.source_start : citation.source_end] == citation.cited_text
        for passage in output.passages
        if passage.id == citation.passage_id
    )


def off_topic(output: NestOutput, titles: Sequence[str]) -> Measures:
    """Count the tokens copied from passages that neither are about the subject nor mention it.

    Args:
        output: the answer.
        titles: titles of the articles about the subject.
    """
    is_off_topic = [not is_on_topic(passage, titles) for passage in output.passages]
    copied = sum(
        source is not None and is_off_topic[source.passage] for source in output.provenance
    )
    return {"off_topic": (copied, len(output.token_ids))}


def is_on_topic(passage: Passage, titles: Sequence[str]) -> bool:
    """Return whether a passage comes from one of the articles or names the subject of one."""
    if is_about(passage, {title_key(title) for title in titles}):
        return True
    text_words = words_of(f"{passage.title}. {passage.text}")
    return any(names(text_words, subject(title)) for title in titles)
