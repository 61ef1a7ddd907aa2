"""Requests on their way to answers: what `generate`, `generate_batch` and `stream` share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import cast

from nest_engine.attribution import Attributor
from nest_engine.config import NestConfig
from nest_engine.datastore import build_datastores
from nest_engine.decoder import Answer, Decoder, Stopwatch
from nest_engine.draft_length import AdaptiveDraftLength, DraftLength, FixedDraftLength
from nest_engine.errors import InputError
from nest_engine.interfaces import LanguageModel, Prefill, Session
from nest_engine.key_cache import KeyCache
from nest_engine.request import Request
from nest_engine.transcript import Release, Transcript
from nest_engine.types import FinishReason, NestOutput

Cancel = Callable[[], bool]
"""Asked between steps; True ends decoding."""


class Run:
    """Decode requests together.

    Args:
        language_model: the model.
        key_cache: where passage keys are kept between requests.
        requests: one for each answer.
        eos_ids: tokens that end an answer; the model's own by default.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        key_cache: KeyCache,
        requests: Sequence[Request],
        *,
        eos_ids: frozenset[int] | None = None,
    ) -> None:
        self._requests = requests
        eos_ids = language_model.eos_ids if eos_ids is None else eos_ids
        forbidden = language_model.tokenizer.control_ids | eos_ids
        session, prefills = _read_prompts(language_model, requests)
        self._datastores = build_datastores(language_model, key_cache, requests, prefills)
        self.answers: list[Answer] = []
        self._transcripts: list[Transcript] = []
        for request, prefill, datastore in zip(requests, prefills, self._datastores, strict=True):
            with request.stopwatch.phase("index_building"):
                index = datastore.index(forbidden, mask_copied=request.config.mask_copied)
            answer = Answer(
                request.tokens.token_ids,
                prefill.frontier,
                index,
                request.config,
                eos_ids=eos_ids,
                max_tokens=request.room(language_model.context_length),
                draft_length=_draft_length(request.config, language_model),
                stopwatch=request.stopwatch,
                process_logits=request.process_logits,
                is_stopped=request.is_stopped,
            )
            attributor = Attributor(datastore.sources(), min_tokens=request.config.min_citation_tokens)
            self.answers.append(answer)
            self._transcripts.append(Transcript(answer, language_model.tokenizer.decode, attributor))
        self._decoder = Decoder(session, self.answers)

    @property
    def is_done(self) -> bool:
        """Whether every answer is finished."""
        return all(answer.finish_reason for answer in self.answers)

    def step(self, cancel: Cancel | None = None) -> list[Release]:
        """Advance every unfinished answer; return what each of all answers released."""
        if cancel is not None and not callable(cancel):
            raise InputError(f"cancel must be callable, got {type(cancel).__name__}; of an Event, give its is_set")
        unfinished = [answer.finish_reason is None for answer in self.answers]
        if cancel is not None and cancel():
            for answer in self.answers:
                answer.finish_reason = answer.finish_reason or "cancelled"
        else:
            self._decoder.step()
        return [
            transcript.advance() if was_unfinished else Release("", [])
            for transcript, was_unfinished in zip(self._transcripts, unfinished, strict=True)
        ]

    def outputs(self) -> list[NestOutput]:
        """Return the finished answers."""
        return [
            NestOutput(
                text=transcript.text,
                citations=tuple(transcript.citations),
                finish_reason=cast(FinishReason, answer.finish_reason),
                stats=dataclasses.replace(answer.stats(), encoded_passages=datastore.num_encoded),
                token_ids=tuple(answer.token_ids),
                provenance=tuple(answer.provenance()),
                lambdas=tuple(answer.lambdas),
                prompt=request.prompt,
                passages=request.passages,
                notices=tuple(request.notices),
                trace=tuple(transcript.trace()),
            )
            for request, datastore, answer, transcript in zip(
                self._requests, self._datastores, self.answers, self._transcripts, strict=True
            )
        ]


def _draft_length(config: NestConfig, language_model: LanguageModel) -> DraftLength:
    if config.adaptive_draft:
        return AdaptiveDraftLength(config.max_draft_tokens, language_model.marginal_token_cost)
    return FixedDraftLength(config.max_draft_tokens)


def _read_prompts(language_model: LanguageModel, requests: Sequence[Request]) -> tuple[Session, list[Prefill]]:
    stopwatch = Stopwatch()
    with stopwatch.phase("lm_forward"):
        session, prefills = language_model.prefill([request.tokens.token_ids for request in requests])
    for request in requests:
        request.stopwatch.add(stopwatch)
    return session, prefills
