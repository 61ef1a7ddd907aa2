"""What to draft behind a token that has been picked.

``SpanProposal`` is the paper's dynamic span selection: where the neighbours can be trusted, copy on
from the nearest of them. ``SuffixProposal`` first looks where the text so far stood before, which
needs no trust, because its drafts are verified against the model alone. A third way to draft is a
third class.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Protocol

from nest_engine.decoding.interpolation import Interpolation
from nest_engine.decoding.mixture import Mixture, Neighbors, costs
from nest_engine.decoding.suffix_match import SUFFIX_TOKENS, SuffixMatcher

if TYPE_CHECKING:
    from nest_engine.decoding.sequence import SequenceState


@dataclass(frozen=True)
class Draft:
    """Tokens proposed for one sequence; the first is decided, the others await verification.

    Args:
        tokens: token ids, at least one.
        entries: the index entry of each token, or empty when the draft is a plain token of the
            model.
        agreement: tokens, up to the first, that stand alike in the text so far and where the draft
            is copied from.
        next: the token that would have been drafted next, where a draft of one token was worth no
            more.
    """

    tokens: tuple[int, ...]
    entries: tuple[int, ...] = ()
    agreement: int = 1
    next: int | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def up_to(self, limit: int) -> Draft:
        """Return a draft of at most ``limit`` tokens."""
        following = self.tokens[1] if limit == 1 and len(self) > 1 else None
        return replace(
            self, tokens=self.tokens[:limit], entries=self.entries[:limit], next=following
        )


class Proposal(Protocol):
    """Decides what to draft."""

    def draft(self, sequence: SequenceState, token: int, target: Mixture) -> Draft:
        """Return a draft that begins with a picked token.

        Args:
            sequence: the sequence; its frontier is where the token was picked.
            token: the token.
            target: what it was picked from.
        """
        ...


class SpanProposal:
    """Copy on from the neighbour of largest weight that agrees with the picked token.

    Args:
        delta: copy only where lambda is at most this.
        scale: what distances are divided by (``mixture.distance_scale``).
    """

    def __init__(self, delta: float, scale: float) -> None:
        self._delta = delta
        self._scale = scale

    def draft(self, sequence: SequenceState, token: int, target: Mixture) -> Draft:
        """Return a span of a passage where lambda allows it, else the token alone."""
        if target.lambda_Q[0] > self._delta:
            return Draft((token,))
        entry = nearest_entry(target.neighbors, 0, token, self._scale)
        return Draft((token,)) if entry is None else sequence.copy_from(entry)


class SuffixProposal:
    """Draft what followed where the text so far stood before; elsewhere search and copy a span.

    Args:
        spans: what to do where the text so far is new.
        interpolation: searches for it; the target that tokens are picked from has no neighbours.
    """

    def __init__(self, spans: SpanProposal, interpolation: Interpolation) -> None:
        self._spans = spans
        self._interpolation = interpolation
        self._text = SuffixMatcher()  # prompt and answer: what was said may be said again

    def draft(self, sequence: SequenceState, token: int, target: Mixture) -> Draft:
        """Return what followed in a passage or in the text itself, else a span, else the token."""
        self._text.extend(sequence.tokens_from(len(self._text.tokens)))
        matching = self._matching(sequence, token)
        if matching is not None:
            return matching
        hidden_QD = sequence.frontier.hidden_D[None]
        mixture = self._interpolation.mix(target.probs_QV, hidden_QD)
        return self._spans.draft(sequence, token, mixture)

    def _matching(self, sequence: SequenceState, token: int) -> Draft | None:
        """Draft from the longer match: in a passage, or in prompt and answer."""
        so_far = [*self._text.tokens[-SUFFIX_TOKENS:], token]
        in_passages, in_text = sequence.index.match(so_far), self._text.longest(so_far)
        copied = None if in_passages is None else sequence.copy_from(*in_passages)
        if in_text is None or (in_passages is not None and in_passages[1] >= in_text.length):
            return copied
        limit = sequence.longest_draft(in_text.length)
        repeated = self._text.continuation(in_text.position, token, max(limit - 1, 1))
        # A chat prompt holds end-of-sequence tokens: nothing may be drafted behind one.
        kept = takewhile(lambda following: following not in sequence.eos_ids, repeated)
        draft = Draft((token, *kept), agreement=in_text.length).up_to(limit)
        says_the_same = copied is not None and copied.tokens == draft.tokens[: len(copied)]
        return copied if says_the_same else draft  # a copy from a passage has a source


def nearest_entry(neighbors: Neighbors | None, query: int, token: int, scale: float) -> int | None:
    """Return the neighbour of largest kNN weight among those whose value is ``token``.

    The weight falls with the distance, so that is the nearest one where all passages are equally
    relevant; equal weights (the same sentence in two passages) are settled by the order of the
    index, the first-stage ranking.

    Args:
        neighbors: nearest entries of each query.
        query: which query.
        token: the token that was picked.
        scale: what distances are divided by (``mixture.distance_scale``).

    Returns:
        an index entry, or None when no neighbour agrees with the pick.
    """
    if neighbors is None:
        return None
    agrees_K = neighbors.values_QK[query] == token
    entries_K = neighbors.entries_QK[query][agrees_K]
    if entries_K.numel() == 0:
        return None
    costs_K = costs(neighbors, scale)[query][agrees_K]
    return int(entries_K[costs_K == costs_K.min()].min())
