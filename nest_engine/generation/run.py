"""Requests on their way to answers: what ``generate``, ``stream`` and the scheduler share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import cast

from nest_engine._stopwatch import Stopwatch
from nest_engine.citations.attribution import Attributor
from nest_engine.citations.reasoning import opens_reasoning
from nest_engine.citations.transcript import Transcript
from nest_engine.citing import TextAttributor
from nest_engine.datastore.key_cache import KeyCache
from nest_engine.datastore.token_index import TokenIndex
from nest_engine.decoding.acceptance import Acceptance, LosslessAcceptance, RelaxedAcceptance
from nest_engine.decoding.by_sentence import SentenceAcceptance, SentenceProposal
from nest_engine.decoding.decoder import Decoder
from nest_engine.decoding.draft_length import AdaptiveDraftLength, DraftLength, FixedDraftLength
from nest_engine.decoding.interpolation import Interpolation
from nest_engine.decoding.mixture import distance_scale
from nest_engine.decoding.proposal import Proposal, SpanProposal, SuffixProposal
from nest_engine.decoding.sampling import Sampler
from nest_engine.decoding.sequence import Ending, SequenceState
from nest_engine.errors import InputError
from nest_engine.generation.datastores import Datastore, build_datastores
from nest_engine.generation.request import Request
from nest_engine.interfaces import Frontier, LanguageModel, Prefill, Session, Tokenizer
from nest_engine.output import NestChunk, NestOutput
from nest_engine.records import Citation, FinishReason, Passage

Cancel = Callable[[], bool]
"""Asked between steps; True ends decoding."""


class Decoding:
    """One request on its way to its answer.

    Args:
        request: the request.
        datastore: what can be copied.
        sequence: the answer as tokens.
        transcript: the answer as text.
        num_known: tokens of the prompt that an earlier request had read.
    """

    def __init__(
        self,
        request: Request,
        datastore: Datastore,
        sequence: SequenceState,
        transcript: Transcript,
        num_known: int,
    ) -> None:
        self.sequence = sequence
        self._request = request
        self._datastore = datastore
        self._transcript = transcript
        self._num_known = num_known
        # What is final and has not been taken.
        self._text, self._reasoning = "", ""
        self._citations: list[Citation] = []
        self._settled = 0

    @property
    def is_done(self) -> bool:
        """Whether the answer is finished, or has failed."""
        return self.sequence.is_done

    def cancel(self) -> None:
        """End the answer with what it has, unless it has ended."""
        self.sequence.finish_reason = self.sequence.finish_reason or "cancelled"

    def advance(self) -> None:
        """Read the tokens that the answer has gained in a step."""
        with self.sequence.catching_errors():
            release = self._transcript.advance()
            self._text += release.text
            self._reasoning += release.reasoning
            self._citations += release.citations
            self._settled = release.settled

    def take(self) -> NestChunk:
        """Return what has become final since the last call; at the end also the whole answer.

        Raises:
            Exception: the error of this answer alone.
        """
        output = self.output if self.is_done else None
        chunk = NestChunk(
            self._text, tuple(self._citations), output, self._reasoning, self._settled
        )
        self._text, self._reasoning, self._citations = "", "", []
        return chunk

    def _unanswered(self) -> list[str]:
        """Return what to say of an answer whose reasoning came to no end."""
        if not self.sequence.is_reasoning:
            return []
        return [
            f"the answer is empty: the model was still reasoning after "
            f"{len(self.sequence.token_ids)} tokens; raise max_new_tokens, or, where the chat "
            "template knows it, give chat_template_kwargs={'enable_thinking': False}"
        ]

    @cached_property
    def output(self) -> NestOutput:
        """The finished answer.

        Raises:
            Exception: the error of this answer alone.
        """
        if self.sequence.error is not None:
            raise self.sequence.error
        return NestOutput(
            text=self._transcript.text,
            reasoning=self._transcript.reasoning,
            stop_string=self._transcript.stop_string,
            citations=tuple(self._transcript.citations),
            finish_reason=cast(FinishReason, self.sequence.finish_reason),
            stats=dataclasses.replace(
                self.sequence.stats(),
                cached_prompt_tokens=self._num_known,
                encoded_passages=self._datastore.num_encoded,
                unread_passages=self._datastore.num_unread,
            ),
            token_ids=tuple(self.sequence.token_ids),
            provenance=tuple(self._transcript.provenance),
            lambdas=tuple(self.sequence.lambdas()),
            prompt=self._request.prompt,
            passages=self._request.passages,
            notices=(*self._request.notices, *self._unanswered()),
            trace=tuple(self._transcript.trace()),
        )


class Run:
    """Decode requests together; they enter between two steps, and each leaves when it is done.

    Args:
        language_model: the model.
        key_cache: where passage keys are kept between requests.
        eos_ids: tokens that end an answer; the model's own by default.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        key_cache: KeyCache,
        *,
        eos_ids: frozenset[int] | None = None,
    ) -> None:
        self._language_model = language_model
        self._key_cache = key_cache
        self._eos_ids = language_model.eos_ids if eos_ids is None else eos_ids
        self._decoder: Decoder | None = None
        self._decodings: list[Decoding] = []

    def __len__(self) -> int:
        """Return the number of unfinished answers."""
        return len(self._decodings)

    def enter(self, requests: Sequence[Request]) -> list[Decoding]:
        """Read the prompts of requests and their new passages; decode from the next step on.

        If that fails, the unfinished answers can go on.

        Args:
            requests: one for each answer.

        Returns:
            the unfinished answers, in the order of the requests.
        """
        session, prefills = _read_prompts(self._language_model, requests)
        datastores = build_datastores(self._language_model, self._key_cache, requests, prefills)
        entering = [
            self._decoding(request, prefill, datastore)
            for request, prefill, datastore in zip(requests, prefills, datastores, strict=True)
        ]
        sequences = [decoding.sequence for decoding in entering]
        if self._decoder is None:
            self._decoder = Decoder(session, sequences)
        else:
            self._decoder.enter(session, sequences)
        self._decodings += entering
        return entering

    def step(self) -> list[Decoding]:
        """Advance every unfinished answer.

        Returns:
            those that were advanced; an error of one of them is raised by its ``take``.

        Raises:
            Exception: if the model fails; then no unfinished answer can go on.
        """
        advanced = self._decodings
        if self._decoder is not None:
            self._decoder.step()
        for decoding in advanced:
            decoding.advance()
        self._decodings = [decoding for decoding in advanced if not decoding.is_done]
        if not self._decodings:
            self._decoder = None  # an idle run holds no cache
        return advanced

    def steps(self, cancel: Cancel | None = None) -> Iterator[list[Decoding]]:
        """Step until every answer is done or ``cancel`` says so; yield what ``step`` returns.

        Raises:
            InputError: if ``cancel`` cannot be called.
        """
        if cancel is not None and not callable(cancel):
            raise InputError(
                f"cancel must be callable, got {type(cancel).__name__}; "
                "of an Event, give its is_set"
            )
        try:
            while self._decodings:
                if cancel is not None and cancel():
                    for decoding in self._decodings:
                        decoding.cancel()
                yield self.step()
        finally:
            self.close()

    def close(self) -> None:
        """Give up the unfinished answers and free what the model holds of them."""
        if self._decoder is not None:
            self._decoder.close()
        self._decoder, self._decodings = None, []

    def _decoding(self, request: Request, prefill: Prefill, datastore: Datastore) -> Decoding:
        lm, config = self._language_model, request.config
        with request.stopwatch.phase("index_building"):
            forbidden = lm.tokenizer.control_ids | self._eos_ids
            masks = config.mask_copied and request.may_copy
            index = datastore.index(forbidden, mask_copied=masks)
        acceptance, proposal = _policies(lm.tokenizer, index, prefill.frontier, request)
        sequence = SequenceState(
            request.tokens.token_ids,
            prefill.frontier,
            index,
            config,
            acceptance=acceptance,
            proposal=proposal,
            draft_length=_draft_length(request, lm),
            ending=Ending(self._eos_ids, request.room(lm.context_length), request.is_stopped),
            stopwatch=request.stopwatch,
            process_logits=request.process_logits,
            reasoning_ids=lm.tokenizer.reasoning_ids if request.reads_reasoning else frozenset(),
        )
        if request.is_silent:
            sequence.finish_reason = "eos"
        reads_reasoning = request.reads_reasoning and not request.is_silent
        transcript = Transcript(
            sequence,
            lm.tokenizer.decode,
            partial(_attributor, datastore, request),
            reasons=opens_reasoning(request.prompt) if reads_reasoning else None,
            next_turn=request.next_turn,
            begins_quoting=request.quotes_sentences and request.prompt[-1:].isspace(),
            ends_circles=config.mixes and not request.may_copy,
        )
        return Decoding(request, datastore, sequence, transcript, prefill.num_known)


def _attributor(datastore: Datastore, request: Request) -> Attributor | TextAttributor:
    """Return what cites an answer: by provenance, or by its words where the model chose them."""
    copied = Attributor(datastore.sources(), min_tokens=request.config.min_citation_tokens)
    if request.may_copy and request.config.mixes:
        return copied
    passages = datastore.passages if request.may_cite else ()
    return TextAttributor(passages, request.query, copied)


def _policies(
    tokenizer: Tokenizer, index: TokenIndex, frontier: Frontier, request: Request
) -> tuple[Acceptance, Proposal]:
    """Return what a method accepts and what it proposes."""
    config = request.config
    sampler = Sampler(config, frontier.logits_V.device)
    interpolation = Interpolation(index, config, request.stopwatch)
    scale = distance_scale(frontier.hidden_D.shape[-1], config.knn_temperature)
    spans = SpanProposal(config.delta, scale)
    if config.method == "lossless" or not request.may_copy:
        return LosslessAcceptance(sampler), SuffixProposal(spans, interpolation)
    relaxed = (interpolation, sampler, config.gamma, config.plausibility)
    if not request.quotes_sentences:
        return RelaxedAcceptance(*relaxed), spans
    return SentenceAcceptance(
        *relaxed,
        decode=tokenizer.decode,
        encode=lambda text: tokenizer.encode_passage(Passage(text)).token_ids,
    ), SentenceProposal(config.delta, scale)


def answer_all(
    run: Run, requests: Sequence[Request], cancel: Cancel | None = None
) -> list[NestOutput]:
    """Decode requests together until every answer is finished.

    Args:
        run: where to decode them.
        requests: one for each answer.
        cancel: asked between steps; True ends every answer.

    Returns:
        the answers, in the order of the requests.

    Raises:
        Exception: the first failure of any of them.
    """
    decodings = run.enter(requests)
    for advanced in run.steps(cancel):
        for decoding in advanced:
            decoding.take()
    return [decoding.output for decoding in decodings]


def _draft_length(request: Request, language_model: LanguageModel) -> DraftLength:
    config = request.config
    # Where the model chooses every word, most drafts fail at once: long ones are never worth it.
    adaptive = not request.may_copy if config.adaptive_draft is None else config.adaptive_draft
    if adaptive:
        return AdaptiveDraftLength(config.max_draft_tokens, language_model.forward_cost)
    return FixedDraftLength(config.max_draft_tokens)


def _read_prompts(
    language_model: LanguageModel, requests: Sequence[Request]
) -> tuple[Session, list[Prefill]]:
    stopwatch = Stopwatch()
    with stopwatch.phase("lm_forward"):
        session, prefills = language_model.prefill(
            [request.tokens.token_ids for request in requests]
        )
    for request in requests:
        request.stopwatch.add(stopwatch)
    return session, prefills
