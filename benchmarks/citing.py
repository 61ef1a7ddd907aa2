"""Measure ``cite``: planted quotations, found or not, and its time.

    python -m benchmarks.citing                           # on the shipped corpus
    python -m benchmarks.citing --articles articles.jsonl --cases 100 --out results

Planted cases: sentences taken from passages as they are, in other characters (typographic quotes,
white space, Markdown's emphasis), with another digit, with names exchanged, without their negation,
and spliced from two; and sentences of articles that no passage comes from. Each is put between the
words of an answer, in quotation marks, and cited by all passages.

Times: an answer of 500 words, put together from sentences of the passages and of other articles,
beside a growing number of passages of 200 words; the best of several runs.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rich.progress import track

import nest_demo
from benchmarks import report
from nest_demo.training_data import read_articles
from nest_engine import Citer, Passage
from nest_engine.citations.sentences import sentences_of

PASSAGE_WORDS = 200
ANSWER_WORDS = 500
MOST_ARTICLES = 4000
SIZES = (16, 64, 250, 500, 1000, 2000)
_SEED = 20
_FEWEST_WORDS = 6  # of a sentence that is planted
_NEGATIONS = re.compile(r"\b(?:not|never|no|nor|without)\s+", re.IGNORECASE)
_NAMES = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{2,}(?: [A-Z][a-z]{2,})*")
_NUMBERS = re.compile(r"\d+")


@dataclass(frozen=True)
class Planted:
    """A sentence in an answer.

    Args:
        text: the sentence as the answer has it.
        passage: the passage that it was made from; None if there is none.
    """

    text: str
    passage: Passage | None


def corpus(path: Path | None) -> list[list[Passage]]:
    """Return articles as passages of 200 words: the shipped corpus, or lines of JSON."""
    if path is None:
        articles: dict[str, list[str]] = {}
        for passage in nest_demo.load_passages():
            articles.setdefault(passage.title, []).append(passage.text)
        texts = [(title, " ".join(parts)) for title, parts in articles.items()]
    else:
        texts = [(one.title, one.text) for one in islice(read_articles([path]), MOST_ARTICLES)]
    return [list(_passages(title, text)) for title, text in texts]


def _passages(title: str, text: str) -> Iterator[Passage]:
    words = text.split()
    for start in range(0, len(words), PASSAGE_WORDS):
        yield Passage(" ".join(words[start : start + PASSAGE_WORDS]), title, f"{title}#{start}")


def _sentences(passage: Passage) -> list[str]:
    """Return the whole sentences of a passage, without the ones that it may cut."""
    inner = sentences_of(passage.text)[1:-1]
    texts = [passage.text[sentence.start : sentence.end] for sentence in inner]
    return [text for text in texts if len(text.split()) >= _FEWEST_WORDS and '"' not in text]


class Planter:
    """Make planted cases of passages.

    Args:
        passages: where sentences come from.
        others: passages of other articles.
        chance: decides.
    """

    def __init__(
        self, passages: Sequence[Passage], others: Sequence[Passage], chance: random.Random
    ) -> None:
        self._sentences = [(text, p) for p in passages for text in _sentences(p)]
        self._others = [text for passage in others for text in _sentences(passage)]
        self._chance = chance

    def quotation(self) -> Planted:
        """A sentence as it stands."""
        return Planted(*self._chance.choice(self._sentences))

    def other_characters(self) -> Planted:
        """A sentence set otherwise: emphasis, quotes, dashes, white space, a ligature."""
        text, passage = self._chance.choice(self._sentences)
        words = text.replace("'", "’").replace(" - ", " – ").replace("fi", "ﬁ").split(" ")
        at = self._chance.randrange(len(words))
        if words[at].isalpha():
            words[at] = f"**{words[at]}**"
        return Planted("\n".join([" ".join(words[:at]), " ".join(words[at:])]).strip(), passage)

    def other_digit(self) -> Planted:
        """A sentence with one digit changed."""
        text, passage, found = self._with(_NUMBERS)
        at = self._chance.randrange(*found.span())
        digit = self._chance.choice([each for each in "0123456789" if each != text[at]])
        return Planted(text[:at] + digit + text[at + 1 :], passage)

    def other_name(self) -> Planted:
        """A sentence with a name of another one."""
        text, passage, found = self._with(_NAMES)
        while (name := self._with(_NAMES)[2][0]) == found[0]:
            pass
        return Planted(text[: found.start()] + name + text[found.end() :], passage)

    def no_negation(self) -> Planted:
        """A sentence without its negation."""
        text, passage, found = self._with(_NEGATIONS)
        return Planted(text[: found.start()] + text[found.end() :], passage)

    def splice(self) -> Planted:
        """The first half of a sentence, and the second half of another one."""
        (one, passage), (other, _) = self._chance.sample(self._sentences, 2)
        first, second = one.split(), other.split()
        return Planted(" ".join(first[: len(first) // 2] + second[len(second) // 2 :]), passage)

    def foreign(self) -> Planted:
        """A sentence of an article that no passage comes from."""
        return Planted(self._chance.choice(self._others), None)

    def _with(self, pattern: re.Pattern[str]) -> tuple[str, Passage, re.Match[str]]:
        fitting = [
            (text, passage, found)
            for text, passage in self._sentences
            if (found := pattern.search(text))
        ]
        if not fitting:
            raise LookupError(f"no sentence has {pattern.pattern}")
        return self._chance.choice(fitting)


KINDS: dict[str, Callable[[Planter], Planted]] = {
    "a quotation": Planter.quotation,
    "in other characters": Planter.other_characters,
    "another digit": Planter.other_digit,
    "another name": Planter.other_name,
    "no negation": Planter.no_negation,
    "spliced": Planter.splice,
    "another article's": Planter.foreign,
}


def planted_row(kind: str, cases: Sequence[Planted], citer: Citer) -> dict[str, Any]:
    """Return what became of the planted cases of a kind."""
    whole, source, share = 0, 0, 0.0
    verdicts: Counter[str] = Counter()
    sentences: Counter[str] = Counter()
    for case in cases:
        answer = citer.cite(f"So I have read. {case.text} That is all that I found.")
        start = answer.text.index(case.text)
        end = start + len(case.text)
        inside = [c for c in answer.citations if c.answer_start < end and c.answer_end > start]
        covered = sum(c.answer_end - c.answer_start for c in inside)
        share += covered / len(case.text)
        whole += covered >= len(case.text) - 1  # the full stop of an abbreviation may be missing
        if case.passage is not None:
            places = {c.passage_id for c in inside} | {
                p.passage_id for c in inside for p in c.also_in
            }
            source += case.passage.id in places
        sentences.update(s.kind for s in answer.sentences if s.start < end and s.end > start)
        for quotation in citer.cite(f"It says “{case.text}”.").quotations:
            verdicts[quotation.verdict] += 1
    number = len(cases)
    return {
        "planted": kind,
        "cases": number,
        "cited whole": whole / number,
        "right source": source / number,
        "characters cited": share / number,
        **{verdict: verdicts[verdict] for verdict in ("verbatim", "altered", "spliced", "absent")},
        "sentences quoted": sentences["quoted"],
    }


def timed_row(answer: str, passages: Sequence[Passage], repeats: int) -> dict[str, Any]:
    """Return the best time to cite an answer, the preparation of the passages included."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        cited = Citer(passages).cite(answer)
        seconds.append(time.perf_counter() - start)
    words = sum(len(passage.text.split()) for passage in passages)
    return {
        "passages": len(passages),
        "words": words,
        "milliseconds": min(seconds) * 1000,
        "per million words": min(seconds) * 1e9 / words,
        "citations": len(cited.citations),
    }


def _answer_of(planter: Planter) -> str:
    kinds = [Planter.quotation, Planter.foreign, Planter.splice]
    sentences: list[str] = []
    while sum(len(sentence.split()) for sentence in sentences) < ANSWER_WORDS:
        sentences.append(kinds[len(sentences) % 3](planter).text)
    return " ".join(sentences)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--articles", type=Path, help="lines of JSON with title and text, or .xz")
    parser.add_argument("--cases", type=int, default=50, help="planted cases of each kind")
    parser.add_argument("--passages", type=int, default=64, help="passages of the planted cases")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="folder for citing.json")
    arguments = parser.parse_args()

    chance = random.Random(_SEED)
    articles = corpus(arguments.articles)
    chance.shuffle(articles)
    half = len(articles) // 2
    others = [passage for article in articles[:half] for passage in article]
    passages = [passage for article in articles[half:] for passage in article]

    planter = Planter(passages[: arguments.passages], others, chance)
    citer = Citer(passages[: arguments.passages])
    planted = []
    for kind, make in track(KINDS.items(), "planted"):
        try:
            cases = [make(planter) for _ in range(arguments.cases)]
        except LookupError as error:  # a small corpus may have no negation
            print(f"left out: {kind}: {error}")
            continue
        planted.append(planted_row(kind, cases, citer))
    report.show("Planted sentences", planted, list(planted[0]))

    full = [passage for passage in passages if len(passage.text.split()) == PASSAGE_WORDS]
    if len(full) < SIZES[0]:  # the shipped corpus has shorter ones
        full = passages
    sizes = [size for size in SIZES if size <= len(full)]
    answer = _answer_of(Planter(full[: SIZES[0]], others, chance))
    timed = [timed_row(answer, full[:size], arguments.repeats) for size in track(sizes, "timed")]
    report.show(f"An answer of {len(answer.split())} words", timed, list(timed[0]))
    if arguments.out:
        setting = {name: str(value) for name, value in vars(arguments).items()}
        report.write("citing", setting, [*planted, *timed], arguments.out)


if __name__ == "__main__":
    main()
