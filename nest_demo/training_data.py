"""Training text of the demo model: articles and questions, in the engine's own formats."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import random
import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from nest_engine import Passage
from nest_engine.errors import InputError
from nest_engine.generation.prompts import BACKGROUND
from nest_engine.models.tokenization import titled_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

END_OF_TEXT = "<|endoftext|>"

# The format of a plain prompt, so that a chat needs no control strings of its own.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}{{ 'Question: ' + message['content'] + '\n' }}"
    "{%- elif message['role'] == 'assistant' -%}{{ 'Answer: ' + message['content'] + '\n\n' }}"
    "{%- else -%}{{ message['content'] + '\n\n' }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ 'Answer:' }}{%- endif -%}"
)

_REQUESTS = (
    "Tell me about {}.",
    "Tell me about {}.",
    "Tell me about {}.",
    "Tell me something about {}.",
    "Please tell me about {}.",
    "Can you tell me about {}?",
    "What do you know about {}?",
    "Describe {}.",
    "Explain {}.",
    "Introduce {}.",
    "Write about {}.",
    "Write an article about {}.",
    "Give me an overview of {}.",
    "Give a short summary of {}.",
    "I would like to know about {}.",
)
_PERSON = ("Who was {}?", "Who is {}?", "Tell me about the life of {}.", "Write a biography of {}.")
_THING = ("What is {}?", "What is {}?", "What was {}?", "What is known about {}?")
_IS_PERSON = re.compile(
    r"\((?:[^()]*\b)?(?:born|b\.|\d{3,4}\s*(?:–|-|to|\?))|^[^.]{0,120}\b(?:was|is) an? "
    r"[^.]*\bborn\b"
)
_IN_PARENTHESES = re.compile(r"\s*\([^()]*\)$")
_SENTENCE_END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"”’)]))\s+(?=[A-Z0-9\"“(])")

# Characters.
_PASSAGE = 700
_LONGEST_ANSWER = 700
_SHORTEST_ANSWER = 80
_SHARD_BATCH = 2_000  # documents tokenized at once


@dataclass(frozen=True)
class Article:
    """An article: its title, and its text with paragraphs by newline."""

    title: str
    text: str


@dataclass(frozen=True)
class FactualQuestion:
    """A question with short answers, about an article.

    Args:
        question: the question.
        answers: strings that each answer it.
        title: the article's title.
    """

    question: str
    answers: tuple[str, ...]
    title: str


def read_articles(paths: Iterable[Path]) -> list[Article]:
    """Read articles from JSONL files (``title``, ``text``), plain or packed with gzip or xz.

    Raises:
        InputError: if a file cannot be read or a line is not an article.
    """
    return [
        Article(line["title"], line["text"])
        for path in paths
        for line in _lines(path, ("title", "text"))
    ]


def read_questions(path: Path) -> list[FactualQuestion]:
    """Read EntityQuestions from a JSONL file: ``question``, ``answers``, ``gold_title``.

    Raises:
        InputError: if the file cannot be read or a line is not a question.
    """
    return [
        FactualQuestion(line["question"], tuple(line["answers"]), line["gold_title"])
        for line in _lines(path, ("question", "answers", "gold_title"))
    ]


def is_held_out(title: str) -> bool:
    """Return whether an article is held out of training: one in a hundred, by its title."""
    return zlib.crc32(title.encode()) % 100 == 0


def documents(
    articles: Sequence[Article], questions: Sequence[FactualQuestion], *, seed: int
) -> list[str]:
    """Write one pass over the articles as shuffled documents.

    Half of the articles are whole, half are cut into passages like those of a datastore, each after
    its title. Most also answer a request for their subject with their lead, more than half of these
    after background passages. Questions get short answers, mostly after the passage that holds the
    answer.

    Args:
        articles: the articles.
        questions: questions about some of them; questions about others are ignored.
        seed: another seed cuts, phrases and shuffles differently.

    Returns:
        documents, without an end-of-text token.
    """
    rng = random.Random(seed)
    writer = _Writer(articles, rng)
    by_title = defaultdict(list)
    for question in questions:
        by_title[question.title].append(question)
    written = []
    for article in articles:
        if rng.random() < 0.5:
            written.append(_titled((article.title, article.text)))
        else:
            written += [
                _titled((article.title, text))
                for text in cut(article.text, rng.randint(200, 1_000))
            ]
        if rng.random() < 0.7:
            written += writer.introduction(article)
        for question in by_title.get(article.title, ()):
            written.append(writer.short_answer(question, article))
    rng.shuffle(written)
    return written


def held_out_documents(articles: Sequence[Article]) -> list[str]:
    """Write whole articles, to evaluate a model on."""
    return [_titled((article.title, article.text)) for article in articles]


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE tokenizer whose first token is the end of text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def write_shard(
    path: Path,
    texts: Sequence[str],
    tokenizer: Tokenizer,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write documents as a sequence of 16-bit tokens, each after an end-of-text token.

    The file appears whole or not at all.
    """
    end = tokenizer.token_to_id(END_OF_TEXT)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as stream:
        for start in range(0, len(texts), _SHARD_BATCH):
            for encoding in tokenizer.encode_batch_fast(list(texts[start : start + _SHARD_BATCH])):
                stream.write(np.array([end, *encoding.ids], dtype=np.uint16).tobytes())
            progress(min(start + _SHARD_BATCH, len(texts)), len(texts))
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def open_shard(path: Path) -> NDArray[np.uint16]:
    """Map a shard into memory."""
    return np.memmap(path, dtype=np.uint16, mode="r")


class _Writer:
    """Writes documents about single articles, with others as distractors."""

    def __init__(self, articles: Sequence[Article], rng: random.Random) -> None:
        self._articles = articles
        self._rng = rng

    def introduction(self, article: Article) -> Iterator[str]:
        """Yield the article's lead as the answer to a request for its subject, if it has one."""
        lead = _whole_sentences(_lead(article), _LONGEST_ANSWER)
        if len(lead) < _SHORTEST_ANSWER:
            return
        text = f"Question: {self._request(article)}\nAnswer: {lead}"
        if self._rng.random() < 0.6:
            text = self._background(next(cut(article.text, _PASSAGE)), article) + text
        yield text

    def short_answer(self, question: FactualQuestion, article: Article) -> str:
        """Return a question with one of its answers, mostly after the passage that holds it."""
        answer = self._rng.choice(question.answers)
        text = f"Question: {question.question}\nAnswer: {answer}"
        holding = next(
            (passage for passage in cut(article.text, _PASSAGE) if answer in passage), None
        )
        if holding and self._rng.random() < 0.7:
            text = self._background(holding, article) + text
        return text

    def _request(self, article: Article) -> str:
        lead = _lead(article)
        wordings = _PERSON if _IS_PERSON.search(lead[:200]) else _THING
        wording = self._rng.choice(_REQUESTS if self._rng.random() < 0.7 else wordings)
        title = _IN_PARENTHESES.sub("", article.title) or article.title
        named = re.match(rf"(The|An?) ({re.escape(title)})\b", lead, re.IGNORECASE)
        subject = f"{named[1].lower()} {named[2]}" if named else title
        return wording.format(subject).replace("..", ".")

    def _background(self, gold: str, article: Article) -> str:
        """Return up to four background passages: mostly the right one, and distractors."""
        chosen = [(article.title, gold)] if self._rng.random() < 0.95 else []
        for _ in range(self._rng.randint(0, 3)):
            other = article if self._rng.random() < 0.3 else self._rng.choice(self._articles)
            passage = self._rng.choice(list(cut(other.text, _PASSAGE)))
            if passage != gold:
                chosen.append((other.title, passage))
        self._rng.shuffle(chosen)
        return BACKGROUND.format(passages="\n\n".join(map(_titled, chosen))) if chosen else ""


def cut(text: str, longest: int) -> Iterator[str]:
    """Yield passages of whole sentences, at most ``longest`` characters unless one is longer."""
    start = end = 0
    for boundary in [*(match.start() for match in _SENTENCE_END.finditer(text)), len(text)]:
        if boundary - start > longest and end > start:
            yield text[start:end].strip()
            start = end
        end = boundary
    yield text[start:].strip()


def _whole_sentences(text: str, longest: int) -> str:
    return next(cut(text, longest))


def _lead(article: Article) -> str:
    return article.text.split("\n", 1)[0]


def _titled(passage: tuple[str, str]) -> str:
    return titled_text(Passage(title=passage[0], text=passage[1]))


def _lines(path: Path, required: Sequence[str]) -> Iterator[dict[str, Any]]:
    try:
        with _open(path) as stream:
            for number, line in enumerate(stream, 1):
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                    missing = [name for name in required if name not in record]
                except (json.JSONDecodeError, TypeError) as error:
                    raise InputError(
                        f"{path}, line {number}: not a JSON object ({error})"
                    ) from error
                if missing:
                    raise InputError(
                        f"{path}, line {number}: {missing[0]!r} is missing; expected "
                        f"{', '.join(required)}"
                    )
                yield record
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _open(path: Path) -> IO[str]:
    openers: dict[str, Callable[..., Any]] = {".xz": lzma.open, ".gz": gzip.open}
    stream: IO[str] = openers.get(path.suffix, open)(path, "rt", encoding="utf-8")
    return stream
