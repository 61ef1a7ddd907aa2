"""The first stage: the passages of each prompt, handed over or found in one search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from nest_engine.citations.words import words_of
from nest_engine.config import NestConfig
from nest_engine.errors import InputError, NestError, RetrievalError
from nest_engine.interfaces import PassageRetriever
from nest_engine.records import Passage

_MORE = 5  # times as many passages where some say the same


def find_passages(
    retriever: PassageRetriever | None,
    prompts: Sequence[str],
    passages_B: Sequence[Sequence[Passage] | None],
    queries_B: Sequence[str | None],
    config: NestConfig,
) -> list[tuple[Passage, ...]]:
    """Return the passages of each prompt: those handed over, else those that a search finds.

    Args:
        retriever: asked once for all prompts without passages; None finds nothing.
        prompts: the prompts.
        passages_B: passages handed over, or None, for each prompt.
        queries_B: what to search for, or None for the prompt itself.
        config: says how many to search for; ``lm`` has none.

    Returns:
        passages of each prompt, best first.

    Raises:
        RetrievalError: if the search fails.
        InputError: if what was handed over is not a sequence of passages.
    """
    found_B = [() if passages is None else _as_passages(passages) for passages in passages_B]
    missing = [row for row, passages in enumerate(passages_B) if passages is None]
    k = config.passages_to_find
    if retriever is None or not missing or k == 0:
        return found_B
    queries = [queries_B[row] or prompts[row] for row in missing]
    for row, query, result in zip(missing, queries, retrieve(retriever, queries, k), strict=True):
        found_B[row] = result
        if copies_among(result) and len(result) >= k:  # they take places of others
            (more,) = retrieve(retriever, [query], k * _MORE)
            found_B[row] = _with_copies(more, k)
    return found_B


def copies_among(passages: Sequence[Passage]) -> dict[int, int]:
    """Return which passages say what an earlier one says, each with the first of them.

    White space, and in what characters the words are set, makes no difference.
    """
    firsts: dict[str, int] = {}
    copies = {}
    for number, passage in enumerate(passages):
        first = firsts.setdefault(_said(passage.text), number)
        if first != number:
            copies[number] = first
    return copies


@lru_cache(maxsize=1 << 12)
def _said(text: str) -> str:
    return " ".join(word.key for word in words_of(text))


def _with_copies(passages: tuple[Passage, ...], num_distinct: int) -> tuple[Passage, ...]:
    """Return the best passages that together say so many different things."""
    copies = copies_among(passages)
    distinct = [number for number in range(len(passages)) if number not in copies]
    return passages[: distinct[num_distinct] if num_distinct < len(distinct) else len(passages)]


def _as_passages(given: Iterable[Passage]) -> tuple[Passage, ...]:
    if isinstance(given, (Passage, str)) or not isinstance(given, Iterable):
        raise InputError(
            f"passages must be a sequence of Passage objects, got {type(given).__name__}"
        )
    passages = tuple(given)
    for passage in passages:
        if not isinstance(passage, Passage):
            raise InputError(
                f"passages must be Passage objects, got {type(passage).__name__}: "
                "use Passage(text, title=...)"
            )
    return passages


def retrieve(
    retriever: PassageRetriever, queries: Sequence[str], k: int
) -> list[tuple[Passage, ...]]:
    """Return up to ``k`` passages for each query, best first.

    Raises:
        RetrievalError: if the search fails.
    """
    name = type(retriever).__name__
    try:
        results = retriever.retrieve(queries, k)
    except NestError:
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise RetrievalError(f"{name} failed: {reason}") from error
    try:
        found = [_as_passages(result) for result in results]
    except (InputError, TypeError) as error:
        raise RetrievalError(
            f"{name}.retrieve() must return one list of passages for each query: {error}"
        ) from error
    if len(found) != len(queries):
        raise RetrievalError(
            f"{name}.retrieve() returned {len(found)} results for {len(queries)} queries; "
            "it must return one list of passages for each query"
        )
    return found
