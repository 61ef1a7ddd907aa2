"""The decoding loop: nearest neighbour speculative decoding, one forward pass per step.

One step of one sequence; ``docs/algorithm.md`` explains each number, and the code carries them.

    propose     1  search    the k entries of the token index nearest to the hidden state
                2  p_kNN     a distribution over the tokens that follow them
                3  lambda    how far to trust the model rather than the neighbours
                4  p_M       lambda p_LM + (1 - lambda) p_kNN
                5  pick      a token from p_M
                6  draft     that token, and what follows it where it is copied from
    extend                   one forward over the draft: the only one of the step
    verify      7  accept    the drafted tokens in order, each judged by 1 to 4 at its position
    accept      8  continue  behind a draft that stands; pick anew where one was rejected
                9  mask      what was copied: no sentence is copied twice
               10  end       at an end-of-sequence token, a stopping criterion or the length limit

The forward that verifies a draft also yields the model's state after the last accepted token. That
state is the next step's *frontier*, so no forward is spent on finding out where to go on.

``SequenceState`` holds what is known of a sequence. Two policies decide: an ``Acceptance`` which
distribution tokens come from and which of them stand (1 to 5, and 7), a ``Proposal`` what to draft
(6). Sequences of a batch share the forward and nothing else: each advances by its own accepted
length, enters and leaves between two steps, and fails alone where the failure is its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from nest_engine.decoding.mixture import Mixture
from nest_engine.decoding.proposal import Draft
from nest_engine.decoding.sequence import SequenceState
from nest_engine.interfaces import Outputs, Session


def propose(sequence: SequenceState) -> Draft:
    """Return a draft that begins at the frontier; its first token is decided, the others are not.

    Args:
        sequence: the sequence.
    """
    sequence.trace.begin_step()
    frontier, rejected = sequence.frontier, sequence.rejected
    target = sequence.target(frontier.logits_V[None], frontier.hidden_D[None])  # 1 to 4
    if sequence.continuation is not None:  # 8: the last draft stood whole, and its passage goes on
        draft = sequence.copy_from(sequence.continuation)
        if _accepted(sequence, draft.tokens[:1], target):
            return draft
        rejected = draft.tokens[0]
    token = sequence.acceptance.pick(target, rejected)  # 5
    sequence.trace.pick(token, target.probs_QV, target.lambda_Q)
    if rejected is not None and not sequence.config.draft_after_rejection:  # 8, as published
        return Draft((token,))
    return sequence.proposal.draft(sequence, token, target)  # 6


def verify(sequence: SequenceState, draft: Draft, outputs: Outputs) -> int:
    """Return how many tokens of a draft stand.

    Args:
        sequence: the sequence.
        draft: the draft.
        outputs: the model's state after each of its tokens.
    """
    if len(draft) == 1:
        return 1
    # The state after token j - 1 judges token j. The one after the last token is the next frontier.
    target = sequence.target(outputs.logits_TV[:-1], outputs.hidden_TD[:-1], draft.tokens)  # 1 to 4
    with sequence.stopwatch.phase("verification"):
        return 1 + _accepted(sequence, draft.tokens[1:], target)  # 7


def accept(
    sequence: SequenceState, draft: Draft, num_accepted: int, outputs: Outputs | None
) -> None:
    """Append the accepted tokens and move the frontier behind them.

    Args:
        sequence: the sequence.
        draft: the draft.
        num_accepted: how many of its tokens stand.
        outputs: the model's state after each of them; None when the sequence ends without it.
    """
    num_before = len(sequence.token_ids)
    copied = draft.entries[:num_accepted]
    sequence.append(draft.tokens[:num_accepted], copied)
    sequence.observe(draft, num_accepted)
    stands_whole = num_accepted == len(draft)
    sequence.rejected = None if stands_whole else draft.tokens[num_accepted]  # 8
    sequence.continuation = sequence.after(copied) if stands_whole else None  # 8
    sequence.quotes_sentence &= sequence.continuation is not None
    sequence.index.mark_copied(copied)  # 9
    if outputs is not None:
        sequence.frontier = outputs.frontier(num_accepted - 1)
    sequence.end_where_due(num_before)  # 10


def _accepted(sequence: SequenceState, tokens: Sequence[int], target: Mixture) -> int:
    """Return how many drafted tokens, one at each position, stand before the first rejection."""
    tokens_Q = torch.tensor(tokens, device=target.probs_QV.device)
    num_accepted = sequence.acceptance.accepted(target, tokens_Q)
    probs_Q = target.probs_QV.gather(1, tokens_Q[:, None])[:, 0]
    sequence.trace.judge(tokens, num_accepted, probs_Q, target.lambda_Q)
    return num_accepted


class Decoder:
    """Advance sequences together, one forward pass per step.

    Args:
        session: the session that read the prompts, one row per sequence.
        sequences: the sequences, in the session's order.
    """

    def __init__(self, session: Session, sequences: Sequence[SequenceState]) -> None:
        self._session = session
        self._sequences = list(sequences)

    def enter(self, session: Session, sequences: Sequence[SequenceState]) -> None:
        """Advance more sequences from the next step on; arguments as for the class.

        If that fails, the sequences so far can go on.
        """
        self._release_finished()
        if self._sequences:
            self._session.join(session)
        else:
            self._session = session
        self._sequences += sequences

    def close(self) -> None:
        """Give up the sequences."""
        self._sequences = []
        self._session.keep([])

    @torch.inference_mode()
    def step(self) -> None:
        """Advance every unfinished sequence by the accepted part of one draft.

        Raises:
            Exception: if the model fails: nobody knows then what the session holds, and no sequence
                can go on.
        """
        self._release_finished()
        drafts = self._complete_without_forward(self._propose())
        if not drafts:
            return
        outputs = self._extend(drafts)
        for sequence, draft, output in zip(self._sequences, drafts, outputs, strict=True):
            with sequence.catching_errors():
                accept(sequence, draft, verify(sequence, draft, output), output)
        self._session.truncate([sequence.num_tokens for sequence in self._sequences])

    def _propose(self) -> list[Draft]:
        """Return the drafts of the sequences; those that could not make one have left."""
        drafts = []
        for sequence in self._sequences:
            with sequence.catching_errors():
                drafts.append(propose(sequence))
        self._release_finished()
        return drafts

    def _complete_without_forward(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Finish the sequences that end with the token just decided; return the others' drafts."""
        remaining = []
        for sequence, draft in zip(self._sequences, drafts, strict=True):
            if sequence.is_completed_by(draft.tokens[0]):
                with sequence.catching_errors():
                    accept(sequence, draft, 1, None)
            else:
                remaining.append(draft)
        self._release_finished()
        return remaining

    def _extend(self, drafts: Sequence[Draft]) -> list[Outputs]:
        start = time.perf_counter()
        outputs = self._session.extend([draft.tokens for draft in drafts])
        elapsed = time.perf_counter() - start
        for sequence in self._sequences:
            sequence.num_forwards += 1
            sequence.stopwatch.seconds["lm_forward"] += elapsed
        return outputs

    def _release_finished(self) -> None:
        rows = [row for row, sequence in enumerate(self._sequences) if not sequence.is_done]
        self._session.keep(rows)
        self._sequences = [self._sequences[row] for row in rows]
