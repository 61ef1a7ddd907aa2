"""The decoding loop: nearest neighbour speculative decoding with one forward pass per step.

    frontier = outputs at the last accepted token            # no forward: the last one already told
    loop:
        draft   = propose(frontier, index)                   # search, mix, pick, copy
        outputs = session.extend(draft)                      # the only forward
        m       = verify(draft, outputs)                     # search and mix at every draft position
        session.truncate(to m accepted tokens)
        frontier = outputs[m - 1]

Sequences of a batch share the forward and nothing else: each advances by its own accepted length, enters and leaves
between two steps, and fails alone where the failure is its own.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile

import torch
from torch import Tensor

from nest_engine.config import NestConfig
from nest_engine.draft_length import DraftLength
from nest_engine.drafting import nearest_entry
from nest_engine.interfaces import Session
from nest_engine.mixture import Mixture, distance_scale, mix
from nest_engine.sampling import pick, warp, without
from nest_engine.suffix_match import SUFFIX_TOKENS, SuffixMatcher
from nest_engine.token_index import TokenIndex
from nest_engine.trace import Trace
from nest_engine.types import DecodeStats, Draft, FinishReason, Frontier, Outputs, PhaseSeconds, Provenance
from nest_engine.verification import accept_lossless, accept_relaxed, accepted_prefix

LogitsProcessor = Callable[[Sequence[int], Tensor], Tensor]
"""All token ids so far and the next-token logits ``[V]``, to new logits ``[V]``."""

StoppingCriterion = Callable[[Sequence[int]], bool]
"""All token ids so far, to whether the answer ends with the last of them."""


class Stopwatch:
    """Seconds by phase.

    Args:
        other: a stopwatch whose seconds to begin with.
    """

    def __init__(self, other: Stopwatch | None = None) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        if other is not None:
            self.add(other)

    def add(self, other: Stopwatch) -> None:
        """Add the seconds of another stopwatch: a phase that several answers waited for together."""
        for name, seconds in other.seconds.items():
            self.seconds[name] += seconds

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of the block to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def reading(self) -> PhaseSeconds:
        """Return the seconds so far."""
        return PhaseSeconds(**self.seconds)


class Answer:
    """One answer in the making.

    Args:
        prompt_ids: tokens of the prompt.
        frontier: the model's state after the prompt.
        index: what may be copied; belongs to this answer alone, since copied entries are masked.
        config: settings.
        eos_ids: tokens that end the answer.
        max_tokens: most tokens of the answer: the configured number, or what the context leaves.
        draft_length: chooses the length of drafts.
        stopwatch: where to add up the time.
        process_logits: changes the model's logits before anything else sees them.
        is_stopped: ends the answer at a token, on top of ``eos_ids``.
    """

    def __init__(
        self,
        prompt_ids: Sequence[int],
        frontier: Frontier,
        index: TokenIndex,
        config: NestConfig,
        *,
        eos_ids: frozenset[int],
        max_tokens: int,
        draft_length: DraftLength,
        stopwatch: Stopwatch,
        process_logits: LogitsProcessor | None = None,
        is_stopped: StoppingCriterion | None = None,
    ) -> None:
        self.prompt_ids = list(prompt_ids)
        self.index = index
        self.config = config
        self.stopwatch = stopwatch
        self.token_ids: list[int] = []
        self.entries: list[int | None] = []
        self.lambdas: list[float] = []
        self.trace = Trace()
        self.finish_reason: FinishReason | None = None
        self.error: Exception | None = None  # what failed in this answer alone
        self.num_forwards = 1  # the prompt's
        self.num_steps = 0
        self.spans: list[tuple[int, int]] = []  # where the accepted part of each draft begins, and its length
        self._num_rejected = 0
        self._frontier = frontier
        self._scale = distance_scale(frontier.hidden_D.shape[-1], config.knn_temperature)
        self._continuation: int | None = None  # the entry that follows a wholly accepted draft
        self._rejected: int | None = None  # the token that ended the last draft
        self._eos_ids = eos_ids
        self._max_tokens = max_tokens
        self._draft_length = draft_length
        self._process_logits = process_logits
        self._is_stopped = is_stopped
        self._is_lossless = config.method == "lossless"
        # What the model said before it may say again. Only lossless drafts can come from there: they have no source,
        # and the model alone decides whether they stand.
        self._text = SuffixMatcher(prompt_ids) if self._is_lossless else None
        self._generator = None if config.greedy else _generator(config.seed, frontier.logits_V.device)

    @property
    def is_done(self) -> bool:
        """Whether the answer is finished, or has failed."""
        return self.finish_reason is not None or self.error is not None

    @contextmanager
    def failing_alone(self) -> Iterator[None]:
        """End this answer, and no other, where the block fails: its callbacks are its own."""
        try:
            yield
        except Exception as error:
            self.error = error

    def propose(self) -> Draft:
        """Search, mix and pick at the frontier, then draft what a passage continues with (steps 1 to 6, and 8).

        Returns:
            a draft whose first token is decided.
        """
        mixture = self._mixture(self._frontier.logits_V[None], self._frontier.hidden_D[None])
        self.lambdas += mixture.lambda_Q.tolist()
        self.trace.begin_step()
        rejected = self._rejected
        if self._continuation is not None:
            token = self.index.value(self._continuation)
            if self._accepts(mixture, [token]):
                return self._copy_from(self._continuation)
            rejected = token

        # Relaxed acceptance may pick a rejected token after all; lossless sampling has to leave it out.
        pick_probs_V = without(self._pick_probs(mixture)[0], rejected if self._is_lossless else None)
        token = pick(pick_probs_V, self._generator)
        self.trace.pick(token, mixture.probs_QV, mixture.lambda_Q)
        if rejected is not None and not self.config.draft_after_rejection:
            return Draft((token,))
        if self._text is not None:
            if (draft := self._matching_draft(self._text, token)) is not None:
                return draft  # found without a search
            mixture = self._searched(mixture.probs_QV, self._frontier.hidden_D[None])
        may_copy = mixture.lambda_Q[0] <= self.config.delta
        entry = nearest_entry(mixture.neighbors, 0, token, self._scale) if may_copy else None
        return Draft((token,)) if entry is None else self._copy_from(entry)

    def verify(self, draft: Draft, outputs: Outputs) -> int:
        """Return how many tokens of a draft stand; the first is already decided (step 7).

        Args:
            draft: the draft.
            outputs: the model's state after each of its tokens.
        """
        if len(draft) == 1:
            return 1
        # The state after token j - 1 judges token j; the one after the last token is the next frontier.
        mixture = self._mixture(outputs.logits_TV[:-1], outputs.hidden_TD[:-1], draft.tokens)
        with self.stopwatch.phase("verification"):
            num_verified = self._accepts(mixture, draft.tokens[1:])
        self.lambdas += mixture.lambda_Q[:num_verified].tolist()
        return 1 + num_verified

    def accept(self, draft: Draft, num_accepted: int, outputs: Outputs | None) -> None:
        """Append the accepted tokens and move the frontier behind them (steps 8 to 10).

        Args:
            draft: the draft.
            num_accepted: how many of its tokens stand.
            outputs: the model's state after each of its tokens; None when the answer is complete without them.
        """
        num_before = len(self.token_ids)
        copied = draft.entries[:num_accepted]
        self.token_ids += draft.tokens[:num_accepted]
        self.entries += copied or [None] * num_accepted
        self.index.mark_copied(copied)
        if self._text is not None:
            self._text.extend(draft.tokens[:num_accepted])
        was_cut = num_accepted < len(draft)
        self._rejected = draft.tokens[num_accepted] if was_cut else None
        continues = bool(copied) and copied[0] == self._continuation
        goes_on = copied and not was_cut and self.config.max_draft_tokens > 1  # no spans, no continuations
        self._continuation = self.index.continuation(copied[-1]) if goes_on else None
        if outputs is not None:
            self._frontier = outputs.frontier(num_accepted - 1)
        if copied or len(draft) > 1:
            self._draft_length.observe(len(draft), num_accepted, continues=continues)
            self.spans.append((num_before, num_accepted))
            self._num_rejected += len(draft) - num_accepted
        if self._is_stopped is not None:
            self._stop_after(num_before)
        if self.token_ids[-1] in self._eos_ids:
            self.finish_reason = "eos"
        elif len(self.token_ids) == self._max_tokens:
            self.finish_reason = "length"

    def is_completed_by(self, token: int) -> bool:
        """Return whether the answer ends with ``token``: then nobody needs the model's state after it."""
        return token in self._eos_ids or len(self.token_ids) + 1 == self._max_tokens

    def cut(self, num_tokens: int) -> None:
        """Forget the tokens of the answer beyond ``num_tokens``: a stop string reaches back behind its own end."""
        del self.token_ids[num_tokens:], self.entries[num_tokens:], self.lambdas[num_tokens:]

    def provenance(self, start: int = 0) -> list[Provenance | None]:
        """Return where each token was copied from, beginning with token ``start``."""
        return [None if entry is None else self.index.provenance(entry) for entry in self.entries[start:]]

    def stats(self) -> DecodeStats:
        """Return what the answer has cost so far."""
        num_tokens = len(self.token_ids)
        spans = [min(length, num_tokens - start) for start, length in self.spans if start < num_tokens]
        return DecodeStats(
            prompt_tokens=len(self.prompt_ids),
            completion_tokens=num_tokens,
            lm_forwards=self.num_forwards,
            steps=self.num_steps,
            drafted_tokens=sum(spans) + self._num_rejected,
            accepted_tokens=sum(spans),
            mean_accepted_span=sum(spans) / len(spans) if spans else 0.0,
            attributed_share=sum(entry is not None for entry in self.entries) / num_tokens if num_tokens else 0.0,
            mean_lambda=sum(self.lambdas) / num_tokens if num_tokens else 1.0,
            seconds=self.stopwatch.reading(),
        )

    def _stop_after(self, num_before: int) -> None:
        """Cut the answer behind the first new token at which the stopping criterion holds."""
        assert self._is_stopped is not None
        for num_tokens in range(num_before + 1, len(self.token_ids) + 1):
            if self._is_stopped(self.prompt_ids + self.token_ids[:num_tokens]):
                self.cut(num_tokens)
                self.finish_reason = "stop"
                return

    def _copy_from(self, entry: int) -> Draft:
        """Draft the passage from ``entry`` on."""
        entries = self.index.span(entry, self._longest_draft(continues=entry == self._continuation))
        return Draft(tuple(self.index.value(entry) for entry in entries), tuple(entries))

    def _matching_draft(self, text: SuffixMatcher, token: int) -> Draft | None:
        """Draft what followed where the text so far stood before: in a passage, or else in prompt and answer."""
        so_far = [*text.tokens[-SUFFIX_TOKENS:], token]
        in_passages, in_text = self.index.match(so_far), text.longest(so_far)
        copied = None if in_passages is None else self._copy_from(in_passages[0])
        if in_text is None or (in_passages is not None and in_passages[1] >= in_text.length):
            return copied
        repeated = text.continuation(in_text.position, token, self._longest_draft(continues=False) - 1)
        # A chat prompt holds end-of-sequence tokens: nothing may be drafted behind one.
        draft = Draft((token, *takewhile(lambda following: following not in self._eos_ids, repeated)))
        says_the_same = copied is not None and copied.tokens == draft.tokens[: len(copied)]
        return copied if says_the_same else draft  # a copy from a passage has a source

    def _longest_draft(self, *, continues: bool) -> int:
        return min(self._draft_length.limit(continues=continues), self._max_tokens - len(self.token_ids))

    def _mixture(self, logits_QV: Tensor, hidden_QD: Tensor, draft: Sequence[int] = ()) -> Mixture:
        """Search and mix at ``Q`` positions (steps 1 to 4); position ``i`` follows ``draft[: i + 1]``.

        Lossless text comes from the model alone, whatever the datastore says: lambda is 1.
        """
        with self.stopwatch.phase("verification"):
            lm_probs_QV = self._processed(logits_QV, draft).softmax(-1)
        if self._is_lossless:
            return mix(lm_probs_QV, None, scale=1.0, alpha=0.0, tau=1.0)
        return self._searched(lm_probs_QV, hidden_QD)

    def _searched(self, lm_probs_QV: Tensor, hidden_QD: Tensor) -> Mixture:
        with self.stopwatch.phase("token_search"):
            return mix(
                lm_probs_QV,
                self.index.search(hidden_QD, self.config.k),
                scale=self._scale,
                alpha=self.config.alpha,
                tau=self.config.tau,
                fixed_lambda=self.config.fixed_lambda,
            )

    def _processed(self, logits_QV: Tensor, draft: Sequence[int]) -> Tensor:
        if self._process_logits is None:
            return logits_QV
        so_far = self.prompt_ids + self.token_ids
        return torch.stack(
            [self._process_logits([*so_far, *draft[: i + 1]], logits_V) for i, logits_V in enumerate(logits_QV)]
        )

    def _pick_probs(self, mixture: Mixture) -> Tensor:
        """Return the distributions that tokens are picked from."""
        if self._generator is None:
            return mixture.probs_QV
        config = self.config
        return warp(mixture.probs_QV, temperature=config.temperature, top_k=config.top_k, top_p=config.top_p)

    def _accepts(self, mixture: Mixture, tokens: Sequence[int]) -> int:
        """Return how many of the tokens, one for each position of the mixture, stand before the first rejection."""
        tokens_Q = torch.tensor(tokens, device=mixture.probs_QV.device)
        if self._is_lossless:
            is_accepted_Q = accept_lossless(self._pick_probs(mixture), tokens_Q, self._generator)
        else:
            is_accepted_Q = accept_relaxed(mixture.probs_QV, tokens_Q, self.config.gamma)
        num_accepted = accepted_prefix(is_accepted_Q)
        probs_Q = mixture.probs_QV.gather(1, tokens_Q[:, None])[:, 0]
        self.trace.judge(tokens, num_accepted, probs_Q, mixture.lambda_Q)
        return num_accepted


class Decoder:
    """Advance answers together, one forward pass per step; they enter between two steps and leave when they are done.

    Args:
        session: the session that read the prompts, one row per answer.
        answers: the answers, in the session's order.
    """

    def __init__(self, session: Session, answers: Sequence[Answer]) -> None:
        self._session = session
        self._answers = list(answers)

    def enter(self, session: Session, answers: Sequence[Answer]) -> None:
        """Advance more answers from the next step on; arguments as for the class.

        If that fails, the answers so far can go on.
        """
        self._release_finished()
        if self._answers:
            self._session.join(session)
        else:
            self._session = session
        self._answers += answers

    def close(self) -> None:
        """Give up the answers."""
        self._answers = []
        self._session.keep([])

    @torch.inference_mode()
    def step(self) -> None:
        """Advance every unfinished answer by the accepted part of one draft.

        Raises:
            Exception: if the model fails: nobody knows then what the session holds, and no answer can go on.
        """
        self._release_finished()
        drafts = self._complete_without_forward(self._propose())
        if not drafts:
            return
        outputs = self._extend(drafts)
        for answer, draft, output in zip(self._answers, drafts, outputs, strict=True):
            with answer.failing_alone():
                answer.accept(draft, answer.verify(draft, output), output)
        self._session.truncate([len(answer.prompt_ids) + len(answer.token_ids) for answer in self._answers])

    def _propose(self) -> list[Draft]:
        """Return the drafts of the answers; those that cannot make one have left."""
        drafts = []
        for answer in self._answers:
            with answer.failing_alone():
                drafts.append(answer.propose())
        self._release_finished()
        return drafts

    def _extend(self, drafts: Sequence[Draft]) -> list[Outputs]:
        start = time.perf_counter()
        outputs = self._session.extend([draft.tokens for draft in drafts])
        elapsed = time.perf_counter() - start
        for answer in self._answers:
            answer.num_forwards += 1
            answer.num_steps += 1
            answer.stopwatch.seconds["lm_forward"] += elapsed
        return outputs

    def _complete_without_forward(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Finish the answers whose decided token is their last; return the drafts of the others."""
        remaining = []
        for answer, draft in zip(self._answers, drafts, strict=True):
            if answer.is_completed_by(draft.tokens[0]):
                with answer.failing_alone():
                    answer.accept(draft, 1, None)
                answer.num_steps += 1
            else:
                remaining.append(draft)
        self._release_finished()
        return remaining

    def _release_finished(self) -> None:
        rows = [row for row, answer in enumerate(self._answers) if not answer.is_done]
        self._session.keep(rows)
        self._answers = [self._answers[row] for row in rows]


def _generator(seed: int | None, device: torch.device) -> torch.Generator:
    """Return a source of randomness; without a seed it follows ``torch.manual_seed``."""
    if seed is None:
        seed = int(torch.randint(2**62, (1,)))
    return torch.Generator(device).manual_seed(seed)
