"""The datastore of one request: key, value and provenance of each token that can be copied."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from nest_engine.citations.sentences import Sentence
from nest_engine.datastore.passage_keys import PassageKeys
from nest_engine.decoding.mixture import Neighbors, squared_distances
from nest_engine.decoding.suffix_match import SEPARATOR, SuffixMatcher
from nest_engine.records import Provenance


class Beginning(NamedTuple):
    """Where a sentence begins that may answer what was asked.

    Args:
        entry: of its first token.
        length: in tokens.
        trust: how far it can be trusted to answer, in (0, 1].
        passage: number of its passage.
        introduces: how far it says whom the others of its passage mean, in [0, 1].
    """

    entry: int
    length: int
    trust: float
    passage: int
    introduces: float


class TokenIndex:
    """Exact nearest-neighbour search over the tokens of a handful of passages.

    Entry ``i`` holds a key (the hidden state before a token), a value (that token) and the token's
    position. Entries of a passage are consecutive, so the continuation of entry ``i`` is entry
    ``i + 1``. Masked entries take no part in a search: they are left out, not moved to infinity,
    since the farthest neighbour enters lambda. An entry without a key is not found by a search, but
    a draft may begin there all the same: where its sentence does, or where the text so far stands.

    Args:
        passages: keys of each passage, in first-stage order; None for a passage that cannot be
            copied from.
        forbidden: token ids that must never be copied (control tokens).
        mask_copied: whether :meth:`mark_copied` masks entries.
        sentences: of each passage, its sentences by their tokens: no span goes beyond its sentence,
            and what a sentence says counts as far as it is trusted. Empty lets spans go on.
    """

    def __init__(
        self,
        passages: Sequence[PassageKeys | None],
        *,
        forbidden: Collection[int] = (),
        mask_copied: bool = True,
        sentences: Sequence[Sequence[Sentence]] = (),
    ) -> None:
        self.mask_copied = mask_copied
        self._values: list[int] = []
        self._passage_ends: list[int] = []  # for each entry: one past the last entry of its passage
        # the last token of each passage, by the end of its entries
        self._last: dict[int, Provenance] = {}
        self._sentence_starts: dict[int, int] = {}  # the first entry of a sentence, by its last
        self._sentences: dict[tuple[int, ...], list[int]] = {}  # where each begins, by its tokens
        self._twins: dict[int, list[int]] = {}  # entries that say the same in another place
        self.beginnings: list[Beginning] = []
        keyed: list[int] = []  # entries
        keys: list[Tensor] = []
        for number, passage in enumerate(passages):
            if passage is None or not passage.tokens.token_ids:
                continue
            token_ids = passage.tokens.token_ids
            start, end = len(self._values), len(self._values) + len(token_ids)
            if sentences:
                self._add_sentences(number, sentences[number], token_ids)
            self._values += token_ids
            self._passage_ends += [end] * len(token_ids)
            self._last[end] = Provenance(number, len(token_ids) - 1)
            if len(passage.keys_TD):
                keyed += range(start + passage.first, end)
                keys.append(passage.keys_TD)
        self._pair_twins()
        self._copyable = [value not in forbidden for value in self._values]
        self._num_found = 0  # entries that a search can find
        if keyed:
            self._keys_ND = torch.cat(keys).float()
            self._norms_N = self._keys_ND.square().sum(-1)
            device = self._keys_ND.device
            self._entries_N = torch.tensor(keyed, device=device)
            self._values_N = torch.tensor([self._values[entry] for entry in keyed], device=device)
            self._mask_N = torch.tensor(
                [not self._copyable[entry] for entry in keyed], device=device
            )
            self._num_found = int((~self._mask_N).sum())
            self._trust_N = self._trust_of(keyed)
        self._key_of = {entry: key for key, entry in enumerate(keyed)}

    def __len__(self) -> int:
        """Return the number of entries that a search can still find."""
        return self._num_found

    def search(self, query_QD: Tensor, k: int) -> Neighbors | None:
        """Find the ``k`` nearest entries of each query, or all entries when there are fewer.

        Args:
            query_QD: hidden states.
            k: number of neighbours.

        Returns:
            the neighbours, or None when nothing can be copied.
        """
        k = min(k, len(self))
        if k == 0:
            return None
        distances_QN = squared_distances(query_QD.float(), self._keys_ND, self._norms_N)
        distances_QN.masked_fill_(self._mask_N, torch.inf)
        distances_QK, keys_QK = distances_QN.topk(k, dim=-1, largest=False)
        trust_QK = None if self._trust_N is None else self._trust_N[keys_QK]
        return Neighbors(distances_QK, self._values_N[keys_QK], self._entries_N[keys_QK], trust_QK)

    def span(self, entry: int, limit: int) -> list[int]:
        """Return the entries that can be copied from ``entry`` onwards, within its passage.

        Args:
            entry: first entry of the span.
            limit: maximum length of the span.

        Returns:
            consecutive entries; empty when ``entry`` itself cannot be copied.
        """
        end = min(entry + limit, self._passage_ends[entry])
        blocked = next((i for i in range(entry, end) if not self._copyable[i]), end)
        last = next((i for i in range(entry, blocked) if i in self._sentence_starts), blocked - 1)
        return list(range(entry, last + 1))

    def continuation(self, entry: int) -> int | None:
        """Return the entry after ``entry``, if it is of the same text and can be copied."""
        following = entry + 1
        if entry in self._sentence_starts or following >= self._passage_ends[entry]:
            return None
        return following if self._copyable[following] else None

    def sentence_to(self, entry: int) -> list[int]:
        """Return the entries of the sentence that ends at an entry; none if no sentence does."""
        start = self._sentence_starts.get(entry)
        return [] if start is None else list(range(start, entry + 1))

    def can_copy(self, entry: int) -> bool:
        """Return whether an entry may be copied."""
        return self._copyable[entry]

    def match(self, text: Sequence[int]) -> tuple[int, int] | None:
        """Find the entry where a passage agrees longest with the end of a text, token for token.

        Args:
            text: tokens; the last one must be the entry's value.

        Returns:
            the entry and the number of tokens that agree, at least two; None when no passage
            agrees.
        """
        matcher, entries = self._matcher
        found = matcher.longest(text)
        return None if found is None else (entries[found.position], found.length)

    @cached_property
    def _matcher(self) -> tuple[SuffixMatcher, list[int]]:
        """Return a matcher over the copyable tokens of all passages, and the entry of each token.

        The matcher prefers later places, so the passage that the first stage ranked best comes
        last.
        """
        tokens: list[int] = []
        entries: list[int] = []
        for end, start in pairwise([*reversed(self._last), 0]):
            tokens += [
                SEPARATOR,
                *(self._values[i] if self._copyable[i] else SEPARATOR for i in range(start, end)),
            ]
            entries += [SEPARATOR, *range(start, end)]
        return SuffixMatcher(tokens), entries

    def value(self, entry: int) -> int:
        """Return the token of an entry."""
        return self._values[entry]

    def provenance(self, entry: int) -> Provenance:
        """Return the passage and position of an entry's token."""
        end = self._passage_ends[entry]
        last = self._last[end]
        return Provenance(last.passage, last.position - (end - 1 - entry))

    def _add_sentences(
        self, passage: int, sentences: Sequence[Sentence], token_ids: Sequence[int]
    ) -> None:
        """Add the sentences of the passage whose entries come next."""
        first = len(self._values)
        for start, end, trust, introduces in sentences:
            # But for the first token, which depends on the space in front of the sentence.
            said = tuple(token_ids[start + 1 : end])
            self._sentences.setdefault(said, []).append(first + start)
            if trust > 0:
                self.beginnings.append(
                    Beginning(first + start, end - start, trust, passage, introduces)
                )
            self._sentence_starts[first + end - 1] = first + start

    def _pair_twins(self) -> None:
        """Note which entries are of a sentence that stands in several places.

        Chunks of a document overlap, and people keep a text in several files.
        """
        for said, starts in self._sentences.items():
            if len(starts) > 1 and said:
                for offset in range(len(said) + 1):
                    places = [start + offset for start in starts]
                    self._twins |= dict.fromkeys(places, places)

    def _trust_of(self, entries: Sequence[int]) -> Tensor | None:
        """Return how far entries count: as their sentence does; None if all count the same."""
        if not self.beginnings:
            return None
        trust = [1.0] * len(self._values)
        for each in self.beginnings:
            trust[each.entry : each.entry + each.length] = [each.trust] * each.length
        return torch.tensor([trust[entry] for entry in entries], device=self._keys_ND.device)

    def mark_copied(self, entries: Sequence[int]) -> None:
        """Mask copied entries, so that no sentence is said again, wherever it stands."""
        if not self.mask_copied or not entries:
            return
        entries = [twin for entry in entries for twin in self._twins.get(entry, [entry])]
        for entry in entries:
            self._copyable[entry] = False
        keys = sorted({self._key_of[entry] for entry in entries if entry in self._key_of})
        if keys:
            marked = torch.tensor(keys, device=self._mask_N.device)
            self._num_found -= int((~self._mask_N[marked]).sum())
            self._mask_N[marked] = True
