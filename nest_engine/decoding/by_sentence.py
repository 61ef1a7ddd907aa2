"""NEST sentence by sentence: what is quoted are whole sentences, and the one that answers first.

Behind the end of a sentence, and at the beginning of an answer, the passages' sentences stand for
election: each has as many votes as it is trusted, and the model has a share of its own. Once
something is quoted, the end stands, too; where the model wants to end, it ends, but not before it
has begun: where a sentence answers, an answer is not empty. Behind what was quoted without a full
stop (an item of a list, a row of a table) the next begins a paragraph. A sentence that was begun at
its beginning is copied to its end: what it says is the source's business (names and numbers are
implausible to a model; that is why they are looked up). Everywhere else p_M decides as in the
paper, among the tokens that the model finds plausible.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nest_engine.citations.sentences import ends_sentence
from nest_engine.citations.words import is_unspaced
from nest_engine.datastore.token_index import Beginning
from nest_engine.decoding.acceptance import RelaxedAcceptance
from nest_engine.decoding.interpolation import Interpolation
from nest_engine.decoding.mixture import Mixture, model_alone
from nest_engine.decoding.proposal import Draft, SpanProposal
from nest_engine.decoding.sampling import Sampler

if TYPE_CHECKING:
    from nest_engine.decoding.sequence import SequenceState

_ENOUGH = 0.45  # the end's votes: where no sentence is trusted as much, nothing more is quoted
# The first sentence of the passage that introduces a document says whom the others mean: once they
# are quoted, its trust grows by as much, if it names the document's whole title.
_INTRODUCES = 7.0
_SHORTEST = 3  # tokens of a sentence that can be chosen
_CHARACTER = 4  # tokens that hold at least the first character of a sentence
_PART = "\N{REPLACEMENT CHARACTER}"
_TAIL = 64  # tokens that tell whether a sentence has ended


class SentenceAcceptance(RelaxedAcceptance):
    """Tokens come from p_M; a sentence's first from an election, and its others from itself.

    Args:
        interpolation: searches and mixes.
        sampler: picks.
        gamma: relaxation of the test of drafts that do not begin with their sentence.
        plausibility: as for ``RelaxedAcceptance``.
        decode: token ids to text.
        encode: text to token ids, without control tokens.
    """

    def __init__(
        self,
        interpolation: Interpolation,
        sampler: Sampler,
        gamma: float,
        plausibility: float,
        *,
        decode: Callable[[Sequence[int]], str],
        encode: Callable[[str], Sequence[int]],
    ) -> None:
        super().__init__(interpolation, sampler, gamma, plausibility)
        self._decode = decode
        self._encode = encode
        self._first_tokens: dict[tuple[int, bool], int | None] = {}  # by entry, if behind a space

    def target(
        self,
        sequence: SequenceState,
        lm_probs_QV: Tensor,
        hidden_QD: Tensor,
        draft: Sequence[int] = (),
    ) -> Mixture:
        """Return p_M; within a sentence that is quoted, the sentence itself."""
        if sequence.quotes_sentence:
            following = draft[1:] or [sequence.index.value(_next_entry(sequence))]
            return _certain(following, lm_probs_QV)
        if not draft and (text := self._tail(sequence)) is not None:
            may_end = bool(sequence.token_ids) and not self._begins_paragraph(sequence)
            probs_QV = lm_probs_QV if may_end else _without_end(lm_probs_QV, sequence.eos_ids)
            wants_to_end = int(probs_QV[0].argmax()) in sequence.eos_ids
            elected = None if wants_to_end else self._election(sequence, probs_QV, text, may_end)
            return elected or model_alone(lm_probs_QV)
        return super().target(sequence, lm_probs_QV, hidden_QD, draft)

    def _tail(self, sequence: SequenceState) -> str | None:
        """Return the text behind which a sentence begins, its end at least; None within one."""
        if not sequence.token_ids:
            return self._decode(sequence.prompt_ids[-_TAIL:])
        text = self._decode(sequence.token_ids[-_TAIL:])
        return text if ends_sentence(text) or _is_quotation(sequence, sequence.entries) else None

    def _begins_paragraph(self, sequence: SequenceState) -> bool:
        """Return whether the answer so far ends with what was elected to begin a paragraph."""
        is_gap = sequence.token_ids[-1:] == [self._paragraph]
        return is_gap and _is_quotation(sequence, sequence.entries[:-1])

    def _election(
        self, sequence: SequenceState, lm_probs_QV: Tensor, text: str, may_end: bool
    ) -> Mixture | None:
        """Return who may begin the sentence behind ``text``; None if the model alone may."""
        own = sequence.config.own_words
        gap = self._paragraph if sequence.token_ids and not ends_sentence(text) else None
        if gap is not None:
            text += "\n"
        quoted = {each.passage for each in sequence.provenance() if each is not None}
        votes: dict[int, float] = {}
        beginnings: dict[int, int] = {}
        for each in sequence.index.beginnings:
            token = self._first_token(sequence, each, text)
            introduces = each.introduces if each.passage in quoted else 0.0
            trust = each.trust * _INTRODUCES**introduces
            if token is not None and trust > votes.get(token, 0.0):
                votes[token], beginnings[token] = trust, each.entry
        # What begins behind a space of its own is elected there.
        beginnings = {token: entry for token, entry in beginnings.items() if token != self._space}
        if votes and gap is not None:
            votes, beginnings = {gap: max(votes.values())}, {}
        if quoted and may_end and sequence.eos_ids:
            votes[min(sequence.eos_ids)] = _ENOUGH
        if not votes or own == 1:
            return None
        lm_V = lm_probs_QV[0]
        votes_V = torch.zeros_like(lm_V)
        votes_V[list(votes)] = votes_V.new_tensor(list(votes.values()))
        probs_V = own * lm_V + (1 - own) * votes_V / votes_V.sum()
        lambda_Q = lm_probs_QV.new_full((1,), own)
        return Mixture(probs_V[None], lambda_Q, None, beginnings)

    def _first_token(self, sequence: SequenceState, beginning: Beginning, text: str) -> int | None:
        """Return how a sentence begins behind ``text``; None if it cannot be quoted there."""
        index, entry = sequence.index, beginning.entry
        if beginning.length < _SHORTEST or not index.can_copy(entry):
            return None
        needs_space = bool(text[-1:].strip())
        key = entry, needs_space
        if key not in self._first_tokens:
            tokens = [index.value(entry + i) for i in range(min(beginning.length, _CHARACTER))]
            self._first_tokens[key] = self._spaced(tokens, needs_space)
        token = self._first_tokens[key]
        if token is None and needs_space and sequence.token_ids:
            return self._space
        # An answer may begin with a space, or without one.
        return index.value(entry) if token is None else token

    def _spaced(self, tokens: Sequence[int], needs_space: bool) -> int | None:
        """Return a sentence's first token where a space has to stand in front of it, or not.

        None if no single token is spelt so.
        """
        text = self._decode(tokens)
        has_space, character = text.startswith(" "), text.lstrip(" ")[:1]
        if has_space == needs_space or (needs_space and is_unspaced(character)):
            return tokens[0]
        word = self._decode(tokens[:1]).lstrip(" ")
        if word and _PART not in word:  # the first bytes of a character are no word
            spaced = self._encode(f" {word}" if needs_space else word)
            return spaced[0] if len(spaced) == 1 else None
        return None

    @cached_property
    def _space(self) -> int | None:
        tokens = self._encode(" ")
        return tokens[0] if len(tokens) == 1 else None

    @cached_property
    def _paragraph(self) -> int | None:
        """The token that begins a paragraph, or at least a line."""
        for gap in ("\n\n", "\n"):
            if len(tokens := self._encode(gap)) == 1:
                return tokens[0]
        return None


class SentenceProposal(SpanProposal):
    """Draft the sentence that was elected; elsewhere copy on as in the paper."""

    def draft(self, sequence: SequenceState, token: int, target: Mixture) -> Draft:
        """Return a sentence, a span of a passage, or the token alone."""
        entry = (target.beginnings or {}).get(token)
        if entry is None:
            return super().draft(sequence, token, target)
        draft = sequence.copy_from(entry)
        sequence.quotes_sentence = True
        return replace(draft, tokens=(token, *draft.tokens[1:]))


def _is_quotation(sequence: SequenceState, entries: Sequence[int | None]) -> bool:
    """Return whether entries end with a whole sentence of a passage, whatever that ends with."""
    last = entries[-1] if entries else None
    sentence = [] if last is None else sequence.index.sentence_to(last)
    return bool(sentence) and entries[-len(sentence) :] == sentence


def _next_entry(sequence: SequenceState) -> int:
    assert sequence.continuation is not None
    return sequence.continuation


def _without_end(probs_QV: Tensor, eos_ids: Collection[int]) -> Tensor:
    """Return distributions that leave out the end, unless there is nothing else."""
    others_QV = probs_QV.clone()
    others_QV[:, list(eos_ids)] = 0.0
    total_Q1 = others_QV.sum(-1, keepdim=True)
    return torch.where(total_Q1 > 0, others_QV / total_Q1, probs_QV)


def _certain(tokens: Sequence[int], like_QV: Tensor) -> Mixture:
    """Return distributions that hold each of some tokens for certain."""
    probs_QV = torch.zeros_like(like_QV)
    probs_QV[torch.arange(len(tokens)), torch.tensor(list(tokens))] = 1.0
    return Mixture(probs_QV, like_QV.new_zeros(len(tokens)), None)
