"""Examples to evaluate on: one record, and a reader for each public layout."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from nest_engine.errors import InputError
from nest_engine.evaluation.conditions import request_for
from nest_engine.evaluation.fields import (
    LayoutError,
    paragraph_in,
    passages_in,
    text_in,
    texts_in,
)
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


def read_examples(path: str | os.PathLike[str]) -> list[Example]:
    """Read a data set, and recognize its layout by its content.

    Layouts: WikiText tokens, articles, questions with passages, SQuAD, NQ-open, TriviaQA, HotpotQA,
    EntityQuestions, PopQA, TruthfulQA csv, MMLU csv, FActScore entities and topics.
    ``docs/evaluation.md`` shows a line of each.

    Raises:
        InputError: if the file cannot be read, has none of the layouts, or has no example.
    """
    path = Path(path)
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
    except LayoutError as error:
        raise InputError(f"{path}{error}") from error
    if not examples:
        raise InputError(f"{path} holds no example; docs/evaluation.md shows the layouts")
    return examples


def fingerprint(examples: Iterable[Example]) -> str:
    """Return a hash that is equal only for the same examples in the same order."""
    digest = hashlib.sha256()
    for number, example in enumerate(examples):
        digest.update(f"{chr(10) if number else ''}{example!r}".encode())
    return digest.hexdigest()[:16]


def _read(path: Path, data: str) -> Iterator[Example]:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _csv(data)
    if suffix == ".jsonl":
        return _records(_json_lines(data))
    if suffix == ".json":
        return _json_document(data)
    if data.lstrip().startswith("{"):
        raise LayoutError(" holds JSON: name it .jsonl, or .json if it is one document")
    text = "\n".join(data.splitlines())
    return _wikitext(text) if _HEADING.search(text) else _entities(text)


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
        if "\t" in line.strip():
            raise LayoutError(
                f", line {number}: holds a tab, so this is a table and no list of subjects; "
                "convert it to .jsonl"
            )
        if line.strip():
            yield _subject(f"{number}", line.strip())


def _article(name: str, title: str, text: str) -> Example:
    return Example(name, request_for(title), (title,), text)


def _subject(name: str, title: str) -> Example:
    return Example(name, request_for(title), (title,))


# CSV

_LETTERS = ("A", "B", "C", "D")


def _csv(data: str) -> Iterator[Example]:
    try:
        given = [*csv.reader(io.StringIO(data, newline=""))]
    except csv.Error as error:
        raise LayoutError(f": not CSV ({error})") from error
    rows = [row for row in given if any(cell.strip() for cell in row)]
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
            raise LayoutError(f", row {number}: no column {missing[0]!r}; expected TruthfulQA.csv")
        best, incorrect = row["Best Answer"].strip(), _split(row["Incorrect Answers"])
        if not best or not row["Question"].strip():
            raise LayoutError(f", row {number}: 'Question' or 'Best Answer' is empty; fill it")
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
            right=0 if incorrect else None,  # one choice is none
        )


def _split(answers: str) -> tuple[str, ...]:
    return tuple(answer.strip() for answer in answers.split(";") if answer.strip())


def _mmlu(rows: Sequence[Sequence[str]]) -> Iterator[Example]:
    for number, row in enumerate(rows, 1):
        if len(row) != 6 or row[5].strip() not in _LETTERS:
            raise LayoutError(
                f", row {number}: expected a question, four choices and a letter from A to D "
                f"(MMLU), or the columns of TruthfulQA; it has {len(row)} fields"
            )
        right = _LETTERS.index(row[5].strip())
        yield Example(
            f"{number}", row[0], answers=(row[1 + right],), choices=tuple(row[1:5]), right=right
        )


# JSON


def _json_lines(data: str) -> Iterator[tuple[str, Any]]:
    # Not splitlines: a text may hold one of Unicode's other line ends.
    for number, line in enumerate(data.split("\n"), 1):
        if line.strip():
            yield f", line {number}", _parsed(line, f", line {number}")


def _json_document(data: str) -> Iterator[Example]:
    try:
        document = _parsed(data, "")
    except LayoutError as error:
        if getattr(error.__cause__, "msg", None) != "Extra data":
            raise
        return _records(_json_lines(data))  # the library datasets names lines so
    if isinstance(document, dict) and _reader_for(document):
        document = [document]
    if isinstance(document, dict) and isinstance(document.get("data"), list):
        return _squad(document["data"])
    records = document.get("Data") if isinstance(document, dict) else document
    if not isinstance(records, list):
        raise LayoutError(
            ": expected a list of questions (EntityQuestions, HotpotQA), TriviaQA's object with "
            "'Data', or SQuAD's with 'data'"
        )
    return _records((f", record {number}", record) for number, record in enumerate(records, 1))


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LayoutError(f"{place}: not JSON ({error})") from error


def _records(records: Iterable[tuple[str, Any]]) -> Iterator[Example]:
    for number, (place, record) in enumerate(records, 1):
        if not isinstance(record, dict):
            raise LayoutError(f"{place}: expected an object, got {type(record).__name__}")
        reader = _reader_for(record)
        if reader is None:
            expected = "; ".join(", ".join(names) for names, _ in _READERS)
            raise LayoutError(
                f"{place}: has {', '.join(record) or 'no field'}; expected one of: {expected}"
            )
        with _placed(place):
            yield reader(f"{number}", record)


def _reader_for(record: dict[str, Any]) -> Callable[[str, dict[str, Any]], Example] | None:
    return next((read for names, read in _READERS if set(names) <= record.keys()), None)


@contextmanager
def _placed(place: str) -> Iterator[None]:
    """Say where a record is that cannot be read."""
    try:
        yield
    except KeyError as error:
        raise LayoutError(f"{place}: malformed (no field {error})") from error
    except (AttributeError, IndexError, TypeError) as error:
        raise LayoutError(f"{place}: malformed ({type(error).__name__}: {error})") from error
    except ValueError as error:
        raise LayoutError(f"{place}: {error}") from error


def _trivia_qa(name: str, record: dict[str, Any]) -> Example:
    answer = record["Answer"]
    answers = dict.fromkeys(
        [
            text_in(answer, "Value"),
            *texts_in(answer, "Aliases"),
            *texts_in(answer, "HumanAnswers"),
        ]
    )
    titles = tuple(text_in(page, "Title") for page in record.get("EntityPages") or ())
    return Example(name, text_in(record, "Question"), titles, answers=tuple(answers))


def _hotpot_qa(name: str, record: dict[str, Any]) -> Example:
    facts = _pairs(record["supporting_facts"], "sent_id")
    passages = tuple(
        Passage("".join(sentences).strip(), title=title)
        for title, sentences in _pairs(record.get("context") or (), "sentences")
        if "".join(sentences).strip()
    )
    return Example(
        name,
        text_in(record, "question"),
        tuple(dict.fromkeys(title for title, _ in facts)),
        answers=texts_in(record, "answer"),
        passages=passages,
    )


def _pairs(given: Any, second: str) -> Iterable[tuple[str, Any]]:
    """Return HotpotQA's pairs; the library datasets makes an object of two lists of them."""
    pairs: Iterable[tuple[str, Any]] = given
    if isinstance(given, dict):
        pairs = zip(given["title"], given[second], strict=True)
    return pairs


def _question(name: str, record: dict[str, Any]) -> Example:
    return Example(
        name,
        text_in(record, "question"),
        texts_in(record, "gold_title"),
        answers=texts_in(record, "answers" if "answers" in record else "answer"),
        passages=passages_in(record),
    )


def _pop_qa(name: str, record: dict[str, Any]) -> Example:
    answers = record["possible_answers"]
    if isinstance(answers, str):  # published as JSON within JSON
        answers = _parsed(answers, "possible_answers")
    return Example(
        name,
        text_in(record, "question"),
        texts_in(record, "s_wiki_title"),
        answers=texts_in({"possible_answers": answers}, "possible_answers"),
        passages=passages_in(record),
    )


def _squad(articles: Sequence[dict[str, Any]]) -> Iterator[Example]:
    number = 0
    for place, article in enumerate(articles, 1):
        with _placed(f", article {place}"):
            for paragraph in article["paragraphs"]:
                passage = paragraph_in(paragraph, article)
                for asked in paragraph["qas"]:
                    number += 1
                    answers = texts_in(asked, "answers")
                    if answers:  # SQuAD 2 also asks what the paragraph does not say
                        yield Example(
                            f"{number}",
                            text_in(asked, "question"),
                            answers=answers,
                            passages=(passage,),
                        )


def _titled_text(name: str, record: dict[str, Any]) -> Example:
    return _article(name, text_in(record, "title"), "".join(texts_in(record, "text")))


def _topic(name: str, record: dict[str, Any]) -> Example:
    return _subject(name, text_in(record, "topic"))


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
