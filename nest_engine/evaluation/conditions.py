"""The two conditions of every measurement: the subject's article can be searched, or is kept out.

With the article (``gold``) copying pays. Without it (``no-gold``) whatever is copied comes from
elsewhere, which shows whether a method knows when not to copy.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import Literal

from nest_engine.interfaces import PassageRetriever
from nest_engine.records import Passage

Condition = Literal["gold", "no-gold"]
CONDITIONS: tuple[Condition, ...] = ("gold", "no-gold")

# Passages of the article itself that a search may find without having to be repeated.
_SPARE_PASSAGES = 16


def request_for(title: str) -> str:
    """Return the request by which an article is asked for."""
    return f"Tell me about {title}."


def title_key(title: str) -> str:
    """Return a title normalized for comparison: spaces, case and compatible characters."""
    return " ".join(unicodedata.normalize("NFKC", title).replace("_", " ").casefold().split())


def is_about(passage: Passage, title_keys: Collection[str]) -> bool:
    """Return whether a passage comes from one of the articles with these ``title_key``."""
    return title_key(passage.title) in title_keys


def search(
    retriever: PassageRetriever, queries: Sequence[str], titles_B: Sequence[Iterable[str]], k: int
) -> list[dict[Condition, tuple[Passage, ...]]]:
    """Search once for both conditions.

    Args:
        retriever: first-stage search over the passages.
        queries: what to search for, ``[B]``.
        titles_B: titles of the articles that each query is about.
        k: passages wanted in each condition.

    Returns:
        for each query and condition up to ``k`` passages, best first; fewer only if the search
        finds no more.
    """
    keys_B = [frozenset(map(title_key, titles)) for titles in titles_B]
    found_B: list[tuple[Passage, ...]] = [()] * len(queries)
    pending, num_wanted = list(range(len(queries))) if k else [], k + _SPARE_PASSAGES
    while pending:
        results = retriever.retrieve([queries[row] for row in pending], num_wanted)
        for row, result in zip(pending, results, strict=True):
            found_B[row] = tuple(result)
        pending = [
            row
            for row in pending
            if len(found_B[row]) >= num_wanted and len(_kept(found_B[row], keys_B[row])) < k
        ]
        num_wanted *= 4
    return [
        {"gold": found[:k], "no-gold": _kept(found, keys)[:k]}
        for found, keys in zip(found_B, keys_B, strict=True)
    ]


def _kept(found: Iterable[Passage], title_keys: Collection[str]) -> tuple[Passage, ...]:
    return tuple(passage for passage in found if not is_about(passage, title_keys))
