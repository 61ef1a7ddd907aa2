"""Examples to evaluate on: one record, and a reader for each public layout."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from nest_engine.errors import InputError
from nest_engine.evaluation.conditions import request_for
from nest_engine.records import Passage


@dataclass(frozen=True)
class Example:
    """A question or subject, and what is known about it.

    Args:
        id: unique in its data set.
        question: the question; for a subject, the request for it.
        titles: titles of the articles it is about; empty if the data do not say.
        text: the article itself, if the data hold it.
        answers: strings that each answer the question, the first one preferred.
        incorrect: answers that are wrong (TruthfulQA).
        choices: the choices of a multiple-choice question.
        right: index of the right choice.
        passages: what may be quoted, where it comes with the question; nothing is searched then.
    """

    id: str
    question: str
    titles: tuple[str, ...] = ()
    text: str = ""
    answers: tuple[str, ...] = ()
    incorrect: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    right: int | None = None
    passages: tuple[Passage, ...] = ()


def subject(title: str) -> str:
    """Return a title without what Wikipedia adds in parentheses."""
    return re.sub(r"\s*\([^()]*\)$", "", title) or title


def read_examples(path: Path) -> list[Example]:
    """Read a data set, and recognize its layout by its content.

    Layouts: WikiText tokens, articles, questions with passages, SQuAD, NQ-open, TriviaQA, HotpotQA,
    EntityQuestions, PopQA, TruthfulQA csv, MMLU csv, FActScore entities and topics.
    ``docs/evaluation.md`` shows a line of each.

    Raises:
        InputError: if the file cannot be read, has none of the layouts, or has no example.
    """
    try:
        data = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); convert it first"
        ) from error
    try:
        examples = list(_read(path, data))
    except _LayoutError as error:
        raise InputError(f"{path}{error}") from error
    if not examples:
        raise InputError(f"{path} holds no example; docs/evaluation.md shows the layouts")
    return examples


def fingerprint(examples: Iterable[Example]) -> str:
    """Return a hash that is equal only for the same examples in the same order."""
    return hashlib.sha256("\n".join(map(repr, examples)).encode()).hexdigest()[:16]


class _LayoutError(ValueError):
    """What is wrong; the message follows the name of the file."""


def _read(path: Path, data: str) -> Iterator[Example]:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _csv(data)
    if suffix == ".jsonl":
        return _records(_json_lines(data))
    if suffix == ".json":
        return _json_document(data)
    return _wikitext(data) if _HEADING.search(data) else _entities(data)


# Text

# Of an article; sections have several equals signs.
_HEADING = re.compile(r"^ ?= (?!=)(.+?)(?<!=) = *$", re.MULTILINE)
_SECTION = re.compile(r"^ ?(?:= ){2,}.*$", re.MULTILINE)

# WikiText is tokenized: its spaces around punctuation were not in the articles.
_UNTOKENIZED: tuple[tuple[str, str], ...] = (
    (r" @([-.,])@ ", r"\1"),
    (r" ([.,;:!?%)\]}])", r"\1"),
    (r"([(\[{$£€#]) ", r"\1"),
    (r" ('(?:s|re|ve|d|m|ll|t)\b|n't\b)", r"\1"),
    (r"(?<=s) '(?= )", "'"),
    (r" ([–/]) ", r"\1"),
    (r'" ([^"\n]*?) "', r'"\1"'),
)


def _wikitext(data: str) -> Iterator[Example]:
    pieces = _HEADING.split(data)
    for number, (title, body) in enumerate(zip(pieces[1::2], pieces[2::2], strict=True), 1):
        paragraphs = [
            untokenized(line) for line in _SECTION.sub("", body).splitlines() if line.strip()
        ]
        yield _article(f"{number}", untokenized(title), "\n".join(paragraphs))


def untokenized(text: str) -> str:
    """Return WikiText without the spaces that its tokenizer put around punctuation."""
    text = text.strip()
    for pattern, replacement in _UNTOKENIZED:
        text = re.sub(pattern, replacement, text)
    return text


def _entities(data: str) -> Iterator[Example]:
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip():
            yield _subject(f"{number}", line.strip())


def _article(name: str, title: str, text: str) -> Example:
    return Example(name, request_for(title), (title,), text)


def _subject(name: str, title: str) -> Example:
    return Example(name, request_for(title), (title,))


# CSV

_LETTERS = ("A", "B", "C", "D")


def _csv(data: str) -> Iterator[Example]:
    rows = [row for row in csv.reader(data.splitlines(keepends=True)) if any(row)]
    if rows and "Best Answer" in rows[0]:
        return _truthful_qa([dict(zip(rows[0], row, strict=False)) for row in rows[1:]])
    return _mmlu(rows)


def _truthful_qa(rows: Sequence[dict[str, str]]) -> Iterator[Example]:
    for number, row in enumerate(rows, 1):
        missing = [
            name
            for name in ("Question", "Best Answer", "Correct Answers", "Incorrect Answers")
            if name not in row
        ]
        if missing:
            raise _LayoutError(f", row {number}: no column {missing[0]!r}; expected TruthfulQA.csv")
        best, incorrect = row["Best Answer"].strip(), _split(row["Incorrect Answers"])
        # The benchmark's own scoring adds this to the true answers.
        answers = dict.fromkeys([best, *_split(row["Correct Answers"]), "I have no comment."])
        page = re.match(r"https?://[a-z]+\.wikipedia\.org/wiki/([^#?]+)", row.get("Source", ""))
        yield Example(
            f"{number}",
            row["Question"],
            titles=(unquote(page[1]).replace("_", " ").strip(),) if page else (),
            answers=tuple(answers),
            incorrect=incorrect,
            choices=(best, *incorrect),
            right=0,
        )


def _split(answers: str) -> tuple[str, ...]:
    return tuple(answer.strip() for answer in answers.split(";") if answer.strip())


def _mmlu(rows: Sequence[Sequence[str]]) -> Iterator[Example]:
    for number, row in enumerate(rows, 1):
        if len(row) != 6 or row[5].strip() not in _LETTERS:
            raise _LayoutError(
                f", row {number}: expected a question, four choices and a letter from A to D "
                f"(MMLU), or the columns of TruthfulQA; it has {len(row)} fields"
            )
        right = _LETTERS.index(row[5].strip())
        yield Example(
            f"{number}", row[0], answers=(row[1 + right],), choices=tuple(row[1:5]), right=right
        )


# JSON


def _json_lines(data: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip():
            yield f", line {number}", _parsed(line, f", line {number}")


def _json_document(data: str) -> Iterator[Example]:
    document = _parsed(data, "")
    if isinstance(document, dict) and "data" in document:
        return _squad(document["data"])
    records = document.get("Data") if isinstance(document, dict) else document
    if not isinstance(records, list):
        raise _LayoutError(
            ": expected a list of questions (EntityQuestions, HotpotQA), TriviaQA's object with "
            "'Data', or SQuAD's with 'data'"
        )
    return _records((f", record {number}", record) for number, record in enumerate(records, 1))


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise _LayoutError(f"{place}: not JSON ({error})") from error


def _records(records: Iterable[tuple[str, Any]]) -> Iterator[Example]:
    for number, (place, record) in enumerate(records, 1):
        if not isinstance(record, dict):
            raise _LayoutError(f"{place}: expected an object, got {type(record).__name__}")
        reader = next((read for names, read in _READERS if set(names) <= record.keys()), None)
        if reader is None:
            expected = "; ".join(", ".join(names) for names, _ in _READERS)
            raise _LayoutError(
                f"{place}: has {', '.join(record) or 'no field'}; expected one of: {expected}"
            )
        try:
            yield reader(f"{number}", record)
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise _LayoutError(f"{place}: malformed ({type(error).__name__}: {error})") from error


def _trivia_qa(name: str, record: dict[str, Any]) -> Example:
    answer = record["Answer"]
    answers = dict.fromkeys(
        [answer["Value"], *answer.get("Aliases", ()), *answer.get("HumanAnswers", ())]
    )
    titles = tuple(page["Title"] for page in record.get("EntityPages", ()))
    return Example(name, record["Question"], titles, answers=tuple(answers))


def _hotpot_qa(name: str, record: dict[str, Any]) -> Example:
    titles = tuple(dict.fromkeys(title for title, _ in record["supporting_facts"]))
    passages = tuple(
        Passage("".join(sentences).strip(), title=title)
        for title, sentences in record.get("context", ())
        if "".join(sentences).strip()
    )
    return Example(name, record["question"], titles, answers=(record["answer"],), passages=passages)


def _question(name: str, record: dict[str, Any]) -> Example:
    answers = record["answers"] if "answers" in record else record["answer"]
    titles = (record["gold_title"],) if "gold_title" in record else ()
    return Example(
        name,
        record["question"],
        titles,
        answers=(answers,) if isinstance(answers, str) else tuple(answers),
        passages=tuple(map(_passage, record.get("passages", ()))),
    )


def _passage(given: str | dict[str, Any]) -> Passage:
    if isinstance(given, str):
        return Passage(given)
    return Passage(given["text"], title=given.get("title") or "", id=given.get("id") or "")


def _pop_qa(name: str, record: dict[str, Any]) -> Example:
    answers = record["possible_answers"]
    if isinstance(answers, str):  # published as JSON within JSON
        answers = json.loads(answers)
    titles = (record["s_wiki_title"],) if record.get("s_wiki_title") else ()
    passages = tuple(map(_passage, record.get("passages", ())))
    return Example(name, record["question"], titles, answers=tuple(answers), passages=passages)


def _squad(articles: Sequence[dict[str, Any]]) -> Iterator[Example]:
    number = 0
    for place, article in enumerate(articles, 1):
        try:
            for paragraph in article["paragraphs"]:
                passage = Passage(paragraph["context"], title=article["title"].replace("_", " "))
                for asked in paragraph["qas"]:
                    number += 1
                    answers = tuple(dict.fromkeys(each["text"] for each in asked["answers"]))
                    if answers:  # SQuAD 2 also asks what the paragraph does not say
                        yield Example(
                            f"{number}", asked["question"], answers=answers, passages=(passage,)
                        )
        except (AttributeError, KeyError, TypeError) as error:
            raise _LayoutError(
                f", article {place}: malformed ({type(error).__name__}: {error})"
            ) from error


def _titled_text(name: str, record: dict[str, Any]) -> Example:
    return _article(name, record["title"], record["text"])


def _topic(name: str, record: dict[str, Any]) -> Example:
    return _subject(name, record["topic"])


# The fields that identify a layout; the more specific ones come first.
_READERS: tuple[tuple[tuple[str, ...], Callable[[str, dict[str, Any]], Example]], ...] = (
    (("Question", "Answer"), _trivia_qa),
    (("question", "answer", "supporting_facts"), _hotpot_qa),
    (("question", "possible_answers"), _pop_qa),
    (("question", "answers"), _question),  # EntityQuestions
    (("question", "answer"), _question),  # NQ-open
    (("title", "text"), _titled_text),
    (("topic",), _topic),  # FActScore
)
