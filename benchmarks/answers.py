r"""Answers from given passages on a real model: right, whole, quoted, fast. For docs/results.md.

    python -m benchmarks.answers --questions natural_questions_dev.jsonl \
        --entity-questions entity_questions_dev.jsonl --articles wiki.jsonl.xz --embedder MODEL
    python -m benchmarks.answers ... --parts questions no-gold   # a page of these alone

`--questions` has lines of `{"question", "answers", "title", "text"}`: a question with the paragraph
that answers it. The paragraph stands among two others that a keyword search finds for the question,
at a random place; without it (no-gold) there are three others, none of which names an answer.
EntityQuestions get the first three passages of a search over articles; so do requests to tell about
an article, and to continue one. Every answer is kept in `--work`: a stopped run goes on there.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import nest_demo
from benchmarks import report
from benchmarks.quality import SHORTEST_ARTICLE, corpus
from nest_demo.training_data import read_articles
from nest_engine import NestConfig, NestEngine, NestError, Passage
from nest_engine.citations.sentences import sentences_of
from nest_engine.cli.console import progress_bar
from nest_engine.evaluation import (
    Articles,
    Estimate,
    Example,
    Record,
    Results,
    difference,
    evaluate,
    identity,
    plan,
    read_examples,
    summarize,
    to_markdown,
)
from nest_engine.evaluation.conditions import title_key
from nest_engine.evaluation.metrics import answer_recall
from nest_engine.evaluation.tasks import given
from nest_engine.models.precision import default_dtype
from nest_engine.models.tokenization import titled_text
from nest_engine.retrieval import BM25Retriever, Embedder, SentenceTransformerEmbedder

TOKENS = 64  # of an answer, at most
LONGER = 128  # of what is told about an article, and of its continuation
GIVEN = 3  # passages
# Whatever is asked here, the passages do not answer it.
UNANSWERABLE = (
    "Hello! How are you?",
    "Thank you, that was great.",
    "Good morning!",
    "Who are you?",
    "Write a poem about autumn.",
    "Write a short story about a dragon who is afraid of fire.",
    "Tell me a joke about programmers.",
    "What is 12 times 12?",
    "Add 381 and 277.",
    "How do you feel today?",
)
SHOWN = [
    "answer_recall",
    "length",
    "tokens_per_forward",
    "seconds",
    "attributed_share",
    "quoted_sentences",
    "spliced_sentences",
    "own_sentences",
    "odd_tokens",
    "nll",
    "quotes",
    "quote_precision",
]
QUALITY = [name for name in SHOWN if name != "seconds"]  # where other work may run beside
TOLD = ["factual_precision", "rouge1", *QUALITY[1:]]
NOWHERE = Articles(())  # passages come with the questions
LIST = "nearest sentences, no model"
AS_PUBLISHED = "ra-nest, the paper's settings"
METHODS: dict[str, NestConfig] = {
    "ra": NestConfig.ra(),
    AS_PUBLISHED: NestConfig.paper_7b(method="ra-nest"),
    "ra-nest": NestConfig.ra_nest(),
}
CONTINUED = METHODS | {"ra-nest, by_sentence=False": NestConfig.ra_nest(by_sentence=False)}
ABLATIONS: dict[str, NestConfig] = {
    "ra-nest": NestConfig.ra_nest(),
    "own_words=0": NestConfig.ra_nest(own_words=0.0),
    "own_words=0.5": NestConfig.ra_nest(own_words=0.5),
    "own_words=1": NestConfig.ra_nest(own_words=1.0),
    "not by sentence": NestConfig.ra_nest(by_sentence=False),
    "nor plausible tokens only": NestConfig.ra_nest(by_sentence=False, plausibility=0.0),
    "nest": NestConfig(method="nest"),
    "nest, the paper's settings": NestConfig.paper_7b(),
}
# Settings that belong to a model, because distances between its keys do: how much depends on them?
DISTANCES: dict[str, NestConfig] = {
    "ra-nest": NestConfig.ra_nest(),
    "alpha=0.3": NestConfig.ra_nest(alpha=0.3),
    "alpha=0.7": NestConfig.ra_nest(alpha=0.7),
    "tau=0.3": NestConfig.ra_nest(tau=0.3),
    "knn_temperature=1": NestConfig.ra_nest(knn_temperature=1.0),
    "delta=0.5": NestConfig.ra_nest(delta=0.5),
}


@dataclass(frozen=True)
class Searched:
    """Articles to be told about, or to be continued, and the search over them.

    Args:
        examples: one for each article.
        search: the search.
        articles: what stands in them.
    """

    examples: Sequence[Example]
    search: BM25Retriever
    articles: Articles


@dataclass(frozen=True)
class Benchmark:
    """The model, the questions, and where results are kept.

    Args:
        engine: the model.
        embedder: tells which sentence is near to a question.
        questions: with the paragraph that answers each.
        find_entity_questions: reads articles, and searches them for each question.
        find_articles: reads articles that are asked about themselves.
        work: folder of results.
        examples: questions for each table.
        sweep_examples: questions for the ablations.
        shown: answers to show side by side.
        dtype: number format of the model.
        model: its name.
    """

    engine: NestEngine
    embedder: Embedder | None
    questions: Sequence[Example]
    find_entity_questions: Callable[[], Sequence[Example]]
    find_articles: Callable[[], Searched]
    work: Path
    examples: int
    sweep_examples: int
    shown: int
    dtype: str
    model: str

    def measure(
        self,
        name: str,
        examples: Sequence[Example],
        variants: Mapping[str, NestConfig],
        *,
        conditions: Sequence[str] = ("gold",),
        limit: int | None = None,
        task: str = "qa",
        tokens: int = TOKENS,
        articles: Articles = NOWHERE,
    ) -> list[Record]:
        """Return the results of variants, measuring what is missing."""
        variants = {
            variant: config.replace(max_new_tokens=tokens, num_passages=GIVEN)
            for variant, config in variants.items()
        }
        planned = plan(
            task, examples, variants, articles, conditions=conditions, limit=limit or self.examples
        )
        settings = {variant: config.to_dict() for variant, config in variants.items()}
        results = Results(self.work / name, identity(planned, self.engine, articles), settings)
        with progress_bar(name) as progress:
            return evaluate(
                planned,
                self.engine,
                articles,
                results,
                batch_size=1,
                progress=progress,
            )

    def listed(self, records: Sequence[Record], examples: Sequence[Example]) -> list[Record]:
        """Return what a user has without a model: the nearest sentences, to the same lengths.

        Args:
            records: answers; those of ``ra-nest`` say how long a list may be.
            examples: what was asked.
        """
        asked = {example.id: example for example in examples}
        listed = []
        for record in records:
            if record["variant"] != "ra-nest" or "measures" not in record:
                continue
            example = asked[record["example"]]
            passages = given(example)[record["condition"]][:GIVEN]
            for variant, length in (
                (f"{LIST}, {TOKENS} tokens", TOKENS),
                (f"{LIST}, as long as ra-nest", int(record["measures"]["length"][0])),
            ):
                text = self._nearest(example.question, passages, length)
                measures = answer_recall(text, example.answers) | {"length": (length, 1)}
                listed.append(record | {"variant": variant, "measures": measures, "answer": text})
        return listed

    def _nearest(self, question: str, passages: Sequence[Passage], length: int) -> str:
        said = [
            replace(passage, text=passage.text[sentence.start : sentence.end])
            for passage in passages
            for sentence in sentences_of(passage.text)
        ]
        nearness = self.engine.nearness.of([question], [*map(titled_text, said)])[0]
        ranked = [said[number].text for number in nearness.argsort()[::-1]]
        text = " ".join(sentence for sentence in ranked if len(sentence.split()) >= 4)
        ends = self.engine.language_model.tokenizer.encode_prompt(text).ends
        return text[: ends[min(length, len(ends)) - 1]] if ends else ""


# The parts


def questions(bench: Benchmark) -> str:
    """Answers with the right paragraph at hand, and what must hold."""
    records = bench.measure("questions", bench.questions, METHODS)
    rows = summarize([*bench.listed(records, bench.questions), *records])
    gains = [
        f"- `ra-nest` against {baseline}: {_signed(gap)} points of recall"
        for baseline in ("ra", AS_PUBLISHED)
        if (gap := difference(records, "answer_recall", "ra-nest", baseline, "gold"))
    ]
    return f"{to_markdown(rows, SHOWN)}\n" + "\n".join(gains) + f"\n- {_faster(records)}\n"


def no_gold(bench: Benchmark) -> str:
    """The right paragraph kept out: what is quoted all the same."""
    records = bench.measure(
        "questions", bench.questions, {"ra-nest": METHODS["ra-nest"]}, conditions=("no-gold",)
    )
    said = sum(bool(record["notices"]) for record in records if not record["citations"])
    silent = sum(not record["citations"] for record in records)
    return (
        f"{to_markdown(summarize(records), QUALITY)}\n"
        f"Of the {silent} answers that quote nothing, {said} say so in their notices.\n"
    )


def letters(bench: Benchmark) -> str:
    """The same without an embedder: the letters that question and sentence share."""
    bench.engine.embedder = None
    try:
        records = bench.measure(
            "questions-letters", bench.questions, {"ra-nest": METHODS["ra-nest"]}
        )
        listed = bench.listed(records, bench.questions)
    finally:
        bench.engine.embedder = bench.embedder
    return to_markdown(summarize([*listed, *records]), QUALITY)


def entities(bench: Benchmark) -> str:
    """EntityQuestions over a search."""
    asked = bench.find_entity_questions()
    records = bench.measure("entities", asked, METHODS)
    rows = summarize([*bench.listed(records, asked), *records])
    gap = difference(records, "answer_recall", "ra-nest", "ra", "gold")
    return (
        f"{to_markdown(rows, QUALITY)}\n`ra-nest` against `ra`: {_signed(gap)} points of recall.\n"
    )


def biographies(bench: Benchmark) -> str:
    """What is told about an article, and where the search finds others alone."""
    searched = bench.find_articles()
    records = [
        record
        for conditions, variants in (
            (("gold",), METHODS),
            (("no-gold",), {"ra-nest": METHODS["ra-nest"]}),
        )
        for record in _of_articles(bench, "biography", searched, variants, conditions)
    ]
    return to_markdown(summarize(records), TOLD)


def continuations(bench: Benchmark) -> str:
    """Articles continued behind their first 128 tokens, as in Table 1a of the paper."""
    searched = bench.find_articles()
    records = _of_articles(bench, "completion", searched, CONTINUED, ("gold",))
    return to_markdown(summarize(records), TOLD)


def _of_articles(
    bench: Benchmark,
    task: str,
    searched: Searched,
    variants: Mapping[str, NestConfig],
    conditions: Sequence[str],
) -> list[Record]:
    bench.engine.retriever = searched.search
    try:
        return bench.measure(
            f"{task}-{'-'.join(conditions)}",
            searched.examples,
            variants,
            conditions=conditions,
            limit=bench.sweep_examples,
            task=task,
            tokens=LONGER,
            articles=searched.articles,
        )
    finally:
        bench.engine.retriever = None


def ablations(bench: Benchmark) -> str:
    """What each part adds, and what the dial does."""
    records = bench.measure("ablations", bench.questions, ABLATIONS, limit=bench.sweep_examples)
    return to_markdown(summarize(records), QUALITY, intervals=False)


def distances(bench: Benchmark) -> str:
    """Whether a model needs settings of its own."""
    records = bench.measure("distances", bench.questions, DISTANCES, limit=bench.sweep_examples)
    return to_markdown(summarize(records), QUALITY, intervals=False)


def unanswerable(bench: Benchmark) -> str:
    """Requests that no passage answers."""
    draw = random.Random(0)
    lines = ["| asked | quotes | answer |", "| --- | --- | --- |"]
    for asked in UNANSWERABLE:
        passages = draw.choice(bench.questions).passages[:GIVEN]
        output = bench.engine.ask(asked, passages=passages, method="ra-nest", max_new_tokens=TOKENS)
        lines.append(f"| {asked} | {len(output.citations)} | {_cell(output.text)} |")
    return "\n".join(lines) + "\n"


def side_by_side(bench: Benchmark) -> str:
    """Unedited answers."""
    records = bench.measure("questions", bench.questions, METHODS)
    asked = {example.id: example for example in bench.questions}
    shown = list(dict.fromkeys(record["example"] for record in records))[: bench.shown]
    lines = ["| question | answers | " + " | ".join(METHODS) + " |", "| --- " * 5 + "|"]
    for name in shown:
        said = [
            next(r for r in records if (r["example"], r["variant"]) == (name, variant))["answer"]
            for variant in METHODS
        ]
        cells = [asked[name].question, "; ".join(asked[name].answers), *said]
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return "\n".join(lines) + "\n"


PARTS: dict[str, tuple[str, Callable[[Benchmark], str]]] = {
    "questions": ("Natural Questions, the right paragraph among three", questions),
    "no-gold": ("Natural Questions, the right paragraph kept out", no_gold),
    "letters": ("Without an embedder", letters),
    "entities": ("EntityQuestions over a search", entities),
    "biographies": ('"Tell me about X.", over a search', biographies),
    "articles": ("Articles continued", continuations),
    "ablations": ("What each part adds", ablations),
    "distances": ("What depends on the distances between keys", distances),
    "unanswerable": ("Greetings, thanks, poems and sums", unanswerable),
    "answers": ("Answers, unedited", side_by_side),
}


def _signed(estimate: Estimate | None) -> str:
    assert estimate is not None  # both were measured
    return f"{estimate.value:+.1f} ({estimate.low:+.1f} to {estimate.high:+.1f}, in pairs)"


def _faster(records: Sequence[Record]) -> str:
    figures = {row.variant: row.estimates["seconds"].value for row in summarize(records)}
    return f"`ra-nest` is {figures['ra'] / figures['ra-nest']:.2f} times as fast as `ra`, an answer"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


# Data


def with_given_passages(path: Path, *, seed: int = 5) -> list[Example]:
    """Return questions, each with its paragraph among others that a search finds for it.

    One passage more than is given takes the paragraph's place where it is kept out.
    """
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    paragraphs = [Passage(row["text"], title=row["title"], id=str(row["id"])) for row in rows]
    search, draw = BM25Retriever(paragraphs), random.Random(seed)
    found = search.retrieve([row["question"] for row in rows], 4 * GIVEN)
    examples = []
    for row, paragraph, ranked in zip(rows, paragraphs, found, strict=True):
        others = [passage for passage in ranked if passage.id != paragraph.id]
        example = Example(
            paragraph.id, row["question"], answers=tuple(row["answers"]), passages=tuple(others)
        )
        silent = list(given(example)["no-gold"][:GIVEN])
        shown = others[: GIVEN - 1]
        shown.insert(draw.randrange(GIVEN), paragraph)
        spare = [passage for passage in silent if passage not in shown]
        examples.append(replace(example, passages=(*shown, *spare)))
    return examples


def with_found_passages(
    questions: Sequence[Example], articles: Sequence[Path], count: int
) -> list[Example]:
    """Return questions with the passages that a keyword search over articles finds for them.

    Args:
        questions: with the title of the article about each; those whose article is not there are
            left out.
        articles: files of articles.
        count: articles to search: those of the questions, filled up with others.
    """
    read = read_articles(articles)
    asked = {title_key(title) for question in questions for title in question.titles}
    own = [article for article in read if title_key(article.title) in asked]
    there = {title_key(article.title) for article in own}
    questions = [each for each in questions if there & set(map(title_key, each.titles))]
    others = [article for article in read if title_key(article.title) not in asked]
    wanted = min(max(count - len(own), 0), len(others))
    chosen = [*own, *random.Random(0).sample(others, wanted)]
    search = BM25Retriever(corpus(chosen, {title_key(each.title) for each in chosen}, 0))
    found = search.retrieve([question.question for question in questions], GIVEN)
    return [
        Example(question.id, question.question, answers=question.answers, passages=tuple(passages))
        for question, passages in zip(questions, found, strict=True)
    ]


def articles_to_search(paths: Sequence[Path], count: int) -> Searched:
    """Return articles that are long enough to be continued, and a keyword search over them.

    Args:
        paths: files of articles; the first one's are taken.
        count: articles.
    """
    long = [each for each in read_articles(paths[:1]) if len(each.text) >= SHORTEST_ARTICLE]
    chosen = random.Random(0).sample(long, min(count, len(long)))
    passages = corpus(chosen, {title_key(each.title) for each in chosen}, 0)
    return Searched(
        [Example(each.title, "", titles=(each.title,), text=each.text) for each in chosen],
        BM25Retriever(passages),
        Articles(passages),
    )


# The page


def write_page(bench: Benchmark, names: Sequence[str], out: Path) -> None:
    """Measure parts and write the page."""
    chosen = [part for name, part in PARTS.items() if name in names]
    parts = [f"## {heading}\n\n{write(bench)}" for heading, write in chosen]
    machine = report.machine()
    head = f"""# Results

Written by `{report.command()}`.

{bench.model}, greedy, default settings, at most {TOKENS} tokens, three passages; 95 % intervals in
parentheses.
{machine["processor"]}, {machine["threads"]} threads, torch {machine["torch"]}, transformers
{machine["transformers"]}, {bench.dtype}.
*{LIST}*: the sentences of the passages that are nearest to the question, cut to so many tokens.
What each figure means: [evaluation.md](evaluation.md). The 7-million-parameter model that is
shipped, measured as in the paper: [results_small_model.md](results_small_model.md).
"""
    report.write_page(head, parts, out)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", type=Path, required=True, help="questions with a paragraph")
    parser.add_argument("--entity-questions", type=Path, required=True, help="with gold_title")
    parser.add_argument("--articles", type=Path, nargs="+", required=True, help="what is searched")
    parser.add_argument("--embedder", help="sentence-transformers model; default: letters alone")
    parser.add_argument("--model", help="hub id, folder or .gguf file; default: the offline one")
    parser.add_argument("--dtype", help="number format; default: what suits the processor")
    parser.add_argument("--examples", type=int, default=200, help="for each table (default: 200)")
    parser.add_argument(
        "--sweep-examples", type=int, default=40, help="for ablations (default: 40)"
    )
    parser.add_argument("--searched", type=int, default=3000, help="articles (default: 3000)")
    parser.add_argument("--work", type=Path, default=Path("answers"), help="folder of results")
    parser.add_argument("--out", type=Path, default=Path("docs/results.md"))
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=[name for name in PARTS if name != "answers"],
        metavar="PART",
        help=f"{', '.join(PARTS)} (default: all but the answers, which quote other people's texts)",
    )
    options = parser.parse_args(argv)
    embedder = SentenceTransformerEmbedder(options.embedder) if options.embedder else None
    dtype = options.dtype or str(default_dtype(None, None, None)).removeprefix("torch.")
    engine = nest_demo.load_engine(None, model=options.model, embedder=embedder, dtype=dtype)
    bench = Benchmark(
        engine,
        embedder,
        with_given_passages(options.questions),
        lambda: with_found_passages(
            read_examples(options.entity_questions), options.articles, options.searched
        ),
        cache(lambda: articles_to_search(options.articles, options.searched)),
        options.work,
        options.examples,
        options.sweep_examples,
        shown=20,
        dtype=dtype,
        model=Path(options.model or nest_demo.default_model()).name,
    )
    write_page(bench, options.parts, options.out)


if __name__ == "__main__":
    try:
        main()
    except NestError as error:
        raise SystemExit(f"error: {error}") from error
