"""What is known of one sequence while it is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from nest_engine._stopwatch import Stopwatch
from nest_engine.config import NestConfig
from nest_engine.datastore.token_index import TokenIndex
from nest_engine.decoding.acceptance import Acceptance
from nest_engine.decoding.draft_length import DraftLength
from nest_engine.decoding.mixture import Mixture, model_alone
from nest_engine.decoding.proposal import Draft, Proposal
from nest_engine.decoding.suffix_match import SUFFIX_TOKENS
from nest_engine.decoding.trace import Trace
from nest_engine.interfaces import Frontier
from nest_engine.records import DecodeStats, FinishReason, Provenance

LogitsProcessor = Callable[[Sequence[int], Tensor], Tensor]
"""All token ids so far and the next-token logits ``[V]``, to new logits ``[V]``."""

StoppingCriterion = Callable[[Sequence[int]], bool]
"""All token ids so far, to whether the answer ends with the last of them."""


@dataclass(frozen=True)
class Ending:
    """When a sequence ends.

    Args:
        eos_ids: tokens that end it.
        max_tokens: most tokens of the answer: the configured number, or what the context leaves.
        criterion: ends it at a token, on top of ``eos_ids``.
    """

    eos_ids: frozenset[int]
    max_tokens: int
    criterion: StoppingCriterion | None = None


class SequenceState:
    """A prompt, the tokens accepted behind it, where they come from, and where to go on.

    Args:
        prompt_ids: tokens of the prompt.
        frontier: the model's state after the prompt.
        index: what may be copied; belongs to this sequence alone, since copied entries are masked.
        config: settings.
        acceptance: decides which tokens stand.
        proposal: decides what to draft.
        draft_length: chooses the length of drafts.
        ending: when the sequence ends.
        stopwatch: where to add up the time.
        process_logits: changes the model's logits before anything else sees them.
        reasoning_ids: the tokens by which a model begins to reason.
    """

    def __init__(
        self,
        prompt_ids: Sequence[int],
        frontier: Frontier,
        index: TokenIndex,
        config: NestConfig,
        *,
        acceptance: Acceptance,
        proposal: Proposal,
        draft_length: DraftLength,
        ending: Ending,
        stopwatch: Stopwatch,
        process_logits: LogitsProcessor | None = None,
        reasoning_ids: frozenset[int] = frozenset(),
    ) -> None:
        self.prompt_ids = list(prompt_ids)
        self.token_ids: list[int] = []
        self.entries: list[int | None] = []  # the index entry that each token was copied from
        self.frontier = frontier
        self.continuation: int | None = None  # the entry behind a draft that stood whole
        self.rejected: int | None = None  # the token that ended the last draft
        self.finish_reason: FinishReason | None = None
        self.error: Exception | None = None  # what failed in this sequence alone
        self.is_reasoning = False  # the answer has not begun, and nothing is copied
        self.quotes_sentence = False  # what is copied was begun at the beginning of its sentence
        self.index = index
        self.config = config
        self.acceptance = acceptance
        self.proposal = proposal
        self.stopwatch = stopwatch
        self.trace = Trace()
        self.num_forwards = 1  # the prompt's
        self.spans: list[tuple[int, int]] = []  # start and accepted length of each draft
        self._num_rejected = 0
        self._draft_length = draft_length
        self._foregone: tuple[int, int] | None = None  # a token that was not drafted, its agreement
        self._ending = ending
        self._process_logits = process_logits
        self._reasoning_ids = reasoning_ids

    @property
    def is_done(self) -> bool:
        """Whether the sequence has ended or failed."""
        return self.finish_reason is not None or self.error is not None

    @property
    def num_tokens(self) -> int:
        """Tokens of prompt and answer."""
        return len(self.prompt_ids) + len(self.token_ids)

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end the sequence."""
        return self._ending.eos_ids

    @contextmanager
    def catching_errors(self) -> Iterator[None]:
        """End this sequence, and no other, where the block fails: its callbacks are its own."""
        try:
            yield
        except Exception as error:
            self.error = error

    def target(self, logits_QV: Tensor, hidden_QD: Tensor, draft: Sequence[int] = ()) -> Mixture:
        """Return the distributions that tokens are picked from and judged by.

        Args:
            logits_QV: the model's logits.
            hidden_QD: its hidden states.
            draft: tokens behind the accepted ones; position ``i`` follows ``draft[: i + 1]``.
        """
        with self.stopwatch.phase("verification"):
            lm_probs_QV = self._processed(logits_QV, draft).softmax(-1)
        if self.is_reasoning or self._begins_to_reason(lm_probs_QV):
            return model_alone(lm_probs_QV)
        return self.acceptance.target(self, lm_probs_QV, hidden_QD, draft)

    def copy_from(self, entry: int, agreement: int = 1) -> Draft:
        """Draft the passage from ``entry`` on, with which the text so far agrees that far."""
        if entry == self.continuation:
            agreement = SUFFIX_TOKENS
        limit = self.longest_draft(agreement)
        entries = self.index.span(entry, max(limit, 2))
        tokens = tuple(self.index.value(entry) for entry in entries)
        return Draft(tokens, tuple(entries), agreement).up_to(limit)

    def tokens_from(self, start: int) -> list[int]:
        """Return the tokens of prompt and answer from position ``start`` on."""
        num_prompt = len(self.prompt_ids)
        return self.prompt_ids[start:] + self.token_ids[max(start - num_prompt, 0) :]

    def longest_draft(self, agreement: int) -> int:
        """Return how many tokens a draft may have with which the text so far agrees that far."""
        remaining = self._ending.max_tokens - len(self.token_ids)
        return min(self._draft_length.limit(agreement), remaining)

    def after(self, copied: Sequence[int]) -> int | None:
        """Return the entry behind copied ones, if spans are drafted and their passage goes on."""
        draws_spans = self.config.max_draft_tokens > 1
        return self.index.continuation(copied[-1]) if copied and draws_spans else None

    def append(self, tokens: Sequence[int], entries: Sequence[int]) -> None:
        """Append accepted tokens and the entries they were copied from, none for plain tokens."""
        self.token_ids += tokens
        self.entries += entries or [None] * len(tokens)

    def observe(self, draft: Draft, num_accepted: int) -> None:
        """Learn from a draft whose accepted tokens have just been appended."""
        if self._foregone is not None:  # what was not drafted shows now whether it would have stood
            token, agreement = self._foregone
            self._draft_length.observe(2, 1 + (draft.tokens[0] == token), agreement)
        self._foregone = None if draft.next is None else (draft.next, draft.agreement)
        if not draft.entries and len(draft) == 1:
            return
        self._draft_length.observe(len(draft), num_accepted, draft.agreement)
        self.spans.append((len(self.token_ids) - num_accepted, num_accepted))
        self._num_rejected += len(draft) - num_accepted

    def is_completed_by(self, token: int) -> bool:
        """Return whether the sequence ends with ``token``, so that no forward need follow."""
        is_last = len(self.token_ids) + 1 == self._ending.max_tokens
        return token in self._ending.eos_ids or is_last

    def end_where_due(self, num_before: int) -> None:
        """End the sequence if one of the tokens beyond the first ``num_before`` says so."""
        if self._ending.criterion is not None:
            for num_tokens in range(num_before + 1, len(self.token_ids) + 1):
                if self._ending.criterion(self.prompt_ids + self.token_ids[:num_tokens]):
                    self.cut(num_tokens)
                    self.finish_reason = "stop"
                    break
        if self.token_ids[-1] in self._ending.eos_ids:
            self.finish_reason = "eos"
        elif len(self.token_ids) == self._ending.max_tokens:
            self.finish_reason = "length"

    def cut(self, num_tokens: int) -> None:
        """Forget the answer's tokens beyond ``num_tokens``: a stop string reaches back."""
        del self.token_ids[num_tokens:], self.entries[num_tokens:]

    def provenance(self, start: int = 0) -> list[Provenance | None]:
        """Return where each token was copied from, beginning with token ``start``."""
        return [
            None if entry is None else self.index.provenance(entry)
            for entry in self.entries[start:]
        ]

    def lambdas(self) -> list[float]:
        """Return the interpolation coefficient at each token of the answer."""
        judged = self.trace.entries(len(self.token_ids))
        return [entry.lambda_ for entry in judged if entry.status != "rejected"]

    def stats(self) -> DecodeStats:
        """Return what the answer has cost so far."""
        num_tokens = len(self.token_ids)
        spans = [min(length, num_tokens - at) for at, length in self.spans if at < num_tokens]
        num_copied = sum(entry is not None for entry in self.entries)
        return DecodeStats(
            prompt_tokens=len(self.prompt_ids),
            completion_tokens=num_tokens,
            lm_forwards=self.num_forwards,
            steps=self.trace.num_steps,
            drafted_tokens=sum(spans) + self._num_rejected,
            accepted_tokens=sum(spans),
            mean_accepted_span=sum(spans) / len(spans) if spans else 0.0,
            attributed_share=num_copied / num_tokens if num_tokens else 0.0,
            mean_lambda=sum(self.lambdas()) / num_tokens if num_tokens else 1.0,
            seconds=self.stopwatch.reading(),
        )

    def _begins_to_reason(self, lm_probs_QV: Tensor) -> bool:
        """Return whether the model wants to reason before it answers, which no passage decides."""
        return not self.token_ids and int(lm_probs_QV[0].argmax()) in self._reasoning_ids

    def _processed(self, logits_QV: Tensor, draft: Sequence[int]) -> Tensor:
        if self._process_logits is None:
            return logits_QV
        so_far = self.prompt_ids + self.token_ids
        return torch.stack(
            [
                self._process_logits([*so_far, *draft[: i + 1]], logits_V)
                for i, logits_V in enumerate(logits_QV)
            ]
        )
