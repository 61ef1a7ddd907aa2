"""The articles of a corpus, put together again from its passages."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

from nest_engine.evaluation.conditions import title_key
from nest_engine.records import Passage


class Articles:
    """Find the passages of an article by its title.

    Args:
        passages: the corpus; only the positions of its passages are stored.
    """

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages
        self._rows: dict[str, list[int]] = defaultdict(list)
        digest = hashlib.sha256()
        for row, passage in enumerate(passages):
            digest.update(f"{passage.title}\0{passage.text}\0".encode())
            if passage.title:
                self._rows[title_key(passage.title)].append(row)
        self.fingerprint = digest.hexdigest()[:16]

    def holds(self, titles: Iterable[str]) -> bool:
        """Return whether the corpus has any of the articles."""
        return any(title_key(title) in self._rows for title in titles)

    def passages(self, titles: Iterable[str]) -> list[Passage]:
        """Return the passages of the articles, in the order of the corpus."""
        return [
            self._passages[row] for title in titles for row in self._rows.get(title_key(title), ())
        ]
