"""Sentences of passages as they are read: behind their titles, and below their headings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from nest_engine.citations.headings import LIST_ITEM, num_led_in, standing_below, without_marks
from nest_engine.citations.sentences import Sentence
from nest_engine.generation.nearness import share_named
from nest_engine.models.tokenization import titled_text
from nest_engine.records import Passage
from nest_engine.retrieval.section import section_above

_SAID_AGAIN = 0.6  # of a heading, the share that the title says before it


class ReadSentence(NamedTuple):
    """A sentence as it is read.

    Args:
        text: the sentence, behind its passage's title and what it stands below; a heading by
            itself.
        alone: the sentence by itself: "Dogs are welcome." may stand below "Prices", in "menu.pdf".
        passage: where it stands.
        is_heading: whether it says nothing by itself: a heading, or a question answered below.
        is_first: whether it is the first of its passage that says something.
        is_first_below: whether it is the first below a heading or a question.
        is_item: whether it begins an item of a list.
        num_led_in: how many of the next are of a list that it leads in.
    """

    text: str
    alone: str
    passage: Passage
    is_heading: bool
    is_first: bool
    is_first_below: bool
    is_item: bool
    num_led_in: int


def read_sentences(passage: Passage, sentences: Sequence[Sentence]) -> list[ReadSentence]:
    """Return the sentences of a passage as they are read."""
    below_S = standing_below(passage.text, sentences, section_above(passage))
    first = next((n for n, below in enumerate(below_S) if below is not None), 0)
    read = []
    for number, (sentence, below) in enumerate(zip(sentences, below_S, strict=True)):
        said = passage.text[sentence.start : sentence.end]
        context = [each for each in below or () if share_named(each, passage.title) < _SAID_AGAIN]
        text = titled_text(replace(passage, text=" ".join([*context, said])))
        if below is None:
            text = said = without_marks(said)
        read.append(
            ReadSentence(
                text,
                said,
                passage,
                is_heading=below is None,
                is_first=number == first,
                is_first_below=number > 0 and below is not None and below_S[number - 1] is None,
                is_item=LIST_ITEM.match(said) is not None,
                num_led_in=num_led_in(passage.text, sentences, below_S, number),
            )
        )
    return read


def sections_of(read_T: Sequence[ReadSentence]) -> Iterator[tuple[int, int, int]]:
    """Yield each heading or question with what stands below it: where they begin, and the end.

    A heading directly below another is one with it: a table's columns, for one.
    """
    headings = first = 0
    for number, read in enumerate(read_T):
        if first and (read.is_heading or read.is_first):
            yield headings, first, number
            first = 0
        before = read_T[number - 1]
        if read.is_heading and not (before.is_heading and before.passage is read.passage):
            headings = number
        if read.is_first_below:
            first = number
    if first:
        yield headings, first, len(read_T)


def leads_of(read_T: Sequence[ReadSentence]) -> dict[str, list[int]]:
    """Return, by title, which sentences are those of the passage that introduces the document.

    The document begins with it, or else its first sentence names most of the title; of several such
    passages it is the earliest.
    """
    leads: dict[str, tuple[tuple[bool, float, int], list[int]]] = {}
    for passage, numbered in groupby(enumerate(read_T), key=lambda each: each[1].passage):
        own = [number for number, read in numbered if not read.is_heading]
        if own:
            start = passage.metadata.get("start_index")
            named = introduces(read_T[own[0]])
            rank = start == 0, named, -start if isinstance(start, int) else 0
            if passage.title not in leads or rank > leads[passage.title][0]:
                leads[passage.title] = rank, own
    return {title: own for title, (_, own) in leads.items()}


def introduces(read: ReadSentence) -> float:
    """Return how much of its document's title a passage's first sentence names."""
    return share_named(read.passage.title, read.alone) if read.is_first else 0.0
