"""Questions made from documents, without labels: a sentence to be found and said.

Half of what a sentence tells beyond its title is asked for, in its order; the most telling word of
the rest is the answer. Words are told apart as for the keyword search, so any language will do.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence

from nest_engine.citations.sentences import sentences_of
from nest_engine.errors import InputError
from nest_engine.evaluation.examples import Example
from nest_engine.evaluation.matching import names, words_of
from nest_engine.interfaces import PassageRetriever
from nest_engine.records import Passage
from nest_engine.retrieval.terms import STOP_WORDS, folded_words

_SPARE = 3  # passages beyond those given, in case the answer's own is kept out
_FEWEST_WORDS = 4  # that tell something, of a sentence that can be asked about


def make_questions(
    passages: Sequence[Passage],
    retriever: PassageRetriever,
    count: int,
    *,
    num_passages: int = 3,
    seed: int = 0,
) -> list[Example]:
    """Ask about sentences of passages, one of each passage.

    Args:
        passages: the passages.
        retriever: a search over them: what else it finds for a question, or else any passage,
            stands beside the one that answers.
        count: number of questions; fewer where the passages yield no more.
        num_passages: passages that come with each question.
        seed: another seed asks about other sentences.

    Returns:
        questions with their passages, the one that answers at a random place.

    Raises:
        InputError: if no sentence can be asked about.
    """
    draw = random.Random(seed)
    frequency = Counter(word for each in passages for word in set(folded_words(each.text)))
    made = []
    # Numbers of passages are drawn: those of a large index are read when they are needed.
    every = range(len(passages))
    for place in draw.sample(every, len(passages)):
        passage = passages[place]
        asked = [*_questions(passage, frequency, len(passages))]
        if asked:
            made.append((passage, *draw.choice(asked)))
        if len(made) == count:
            break
    if not made:
        raise InputError(
            f"none of {len(passages)} passages has a sentence to ask about: one needs "
            f"{_FEWEST_WORDS} words that others lack; give more text"
        )
    found = retriever.retrieve([question for _, question, _ in made], num_passages + _SPARE)
    examples = []
    for (passage, question, answer), ranked in zip(made, found, strict=True):
        unlike = [passages[place] for place in draw.sample(every, min(num_passages, len(passages)))]
        others = list(
            {each.text: each for each in (*ranked, *unlike) if each.text != passage.text}.values()
        )
        shown = others[: num_passages - 1]
        shown.insert(draw.randrange(len(shown) + 1), passage)
        given = (*shown, *others[num_passages - 1 :])
        examples.append(Example(question, question, answers=(answer,), passages=given))
    return [*{example.id: example for example in examples}.values()]


def _questions(
    passage: Passage, frequency: Counter[str], num_passages: int
) -> Iterator[tuple[str, str]]:
    """Yield what can be asked about a passage, with the answers."""
    title = set(folded_words(passage.title))
    for sentence in sentences_of(passage.text):
        said = passage.text[sentence.start : sentence.end]
        said_words = words_of(said)
        information = {
            word: math.log(num_passages / frequency[word])
            for word in folded_words(said)
            if word not in title | STOP_WORDS
            and 0 < 2 * frequency[word] <= num_passages
            and names(said_words, word)  # not a part of a number
        }
        if len(information) < _FEWEST_WORDS:
            continue
        asked = [*information][::2]
        answer = max([*information][1::2], key=information.__getitem__)
        question = " ".join([f"{passage.title}:"] * bool(passage.title) + asked) + "?"
        if not names(words_of(question), answer):
            yield question, answer
