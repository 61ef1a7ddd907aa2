"""Frozen records: passages, citations, figures. They need no torch.

Character offsets are Unicode code points, half-open, over ``Passage.text`` and ``NestOutput.text``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from nest_engine._page_boxes import cited_metadata
from nest_engine._validation import require_text

if TYPE_CHECKING:
    from typing_extensions import Self

FinishReason = Literal["eos", "stop", "length", "cancelled"]
TokenStatus = Literal["picked", "accepted", "rejected"]
SentenceKind = Literal["quoted", "spliced", "own"]
MatchKind = Literal["exact", "normalized"]


@dataclass(frozen=True)
class Record:
    """A frozen dataclass that can be written down."""

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict with every field, JSON-ready as far as ``metadata`` is."""
        return {each.name: plain(getattr(self, each.name)) for each in fields(self)}


def plain(value: Any) -> Any:
    """Return a value of a record as plain data."""
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, Provenance):
        return value._asdict()
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


@dataclass(frozen=True)
class Passage(Record):
    """A stretch of source text that may be quoted.

    Args:
        text: the quotable text; kept exactly as given.
        title: context for the model, never quoted.
        id: stable identifier; derived from title and text when empty.
        uri: where the source lives: a path or URL.
        score: relevance given by the first-stage search, higher is better.
        license: licence of the source, carried into citations.
        metadata: anything else. ``start_index`` is the offset of ``text`` in the source document,
            and ``section`` the headings that it begins below, a line each.

    Raises:
        InputError: if ``text`` or ``title`` cannot be encoded as UTF-8 (a lone surrogate).
    """

    text: str
    title: str = ""
    id: str = ""
    uri: str | None = None
    score: float | None = None
    license: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        require_text("Passage.text", self.text)
        require_text("Passage.title", self.title)
        object.__setattr__(self, "metadata", dict(self.metadata))
        if not self.id:
            digest = hashlib.sha256(f"{self.title}\0{self.text}".encode()).hexdigest()
            object.__setattr__(self, "id", digest[:16])

    @cached_property
    def sha256(self) -> str:
        """Hex digest of ``text`` in UTF-8: tells whether it has changed since it was cited."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()


@dataclass(frozen=True)
class SourcePlace(Record):
    """A place in a passage.

    Args:
        passage_id: ``Passage.id`` of the source.
        source_start: first character in ``Passage.text``.
        source_end: one past the last character.
    """

    passage_id: str
    source_start: int
    source_end: int


@dataclass(frozen=True)
class Citation(Record):
    """A stretch of the answer that occurs word for word in a passage.

    Invariant: ``passage.text[source_start:source_end] == cited_text``, and
    ``answer[answer_start:answer_end] == text_in_answer``, which is the same but for a match that is
    ``normalized``.

    Args:
        answer_start: first character in the answer.
        answer_end: one past the last character in the answer.
        passage_id: ``Passage.id`` of the source.
        source_start: first character in ``Passage.text``.
        source_end: one past the last character in ``Passage.text``.
        cited_text: the quoted text, in the source's own characters.
        title: title of the source.
        uri: location of the source.
        passage_sha256: ``Passage.sha256`` when it was quoted.
        token_start: first quoted token, an index into ``NestOutput.token_ids``.
        token_end: one past the last quoted token.
        score: first-stage relevance of the source.
        license: licence of the source.
        metadata: ``Passage.metadata`` of the source; where its page is known, with ``boxes``, the
            rectangles of the cited words: left, upper, right and lower edge, in points from the top
            left corner of ``page``, whose width and height are ``page_size``.
        match: ``exact``: the same characters; ``normalized``: the same words, set in other
            characters (typographic quotes, ligatures, white space, emphasis), which happens where
            an answer was cited after it was written.
        answer_text: what the answer has instead of ``cited_text``; None if the match is exact.
        also_in: the other places where the same words stand, in the best-ranked passage first; for
            a citation that was recorded while decoding, in passages of the same text.
    """

    answer_start: int
    answer_end: int
    passage_id: str
    source_start: int
    source_end: int
    cited_text: str
    title: str = ""
    uri: str | None = None
    passage_sha256: str = ""
    token_start: int = 0
    token_end: int = 0
    score: float | None = None
    license: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    match: MatchKind = "exact"
    answer_text: str | None = None
    also_in: tuple[SourcePlace, ...] = ()

    @classmethod
    def of(
        cls, passage: Passage, source: tuple[int, int], answer: tuple[int, int], **more: Any
    ) -> Self:
        """Return a citation of a passage.

        Args:
            passage: the source.
            source: first character in its text, and one past the last.
            answer: likewise in the answer.
            **more: the fields that the passage does not tell.
        """
        return cls(
            answer_start=answer[0],
            answer_end=answer[1],
            passage_id=passage.id,
            source_start=source[0],
            source_end=source[1],
            cited_text=passage.text[slice(*source)],
            title=passage.title,
            uri=passage.uri,
            passage_sha256=passage.sha256,
            score=passage.score,
            license=passage.license,
            metadata=cited_metadata(passage.metadata, *source),
            **more,
        )

    @property
    def source_key(self) -> tuple[str, str]:
        """What tells the source from others: its id and its text, since ids may be taken twice."""
        return self.passage_id, self.passage_sha256

    @property
    def text_in_answer(self) -> str:
        """The quoted text as the answer has it."""
        return self.cited_text if self.answer_text is None else self.answer_text


@dataclass(frozen=True)
class AnswerSentence(Record):
    """A sentence of the answer, and what its citations prove.

    Args:
        start: first character in the answer.
        end: one past the last character.
        kind: ``quoted``: one stretch of one source; ``spliced``: pieces of several places, or the
            model's words between them, so that its citations prove phrases and not the sentence;
            ``own``: the model's words.
    """

    start: int
    end: int
    kind: SentenceKind


class Provenance(NamedTuple):
    """Where an output token was copied from.

    Args:
        passage: index into the passages of the request.
        position: index of the token among the passage's tokens.
    """

    passage: int
    position: int


@dataclass(frozen=True)
class TracedToken(Record):
    """How decoding came to a token of the answer, or turned one down.

    Args:
        token_id: the token.
        text: its characters; those spread over several tokens belong to the first, and control
            tokens have none.
        status: ``picked`` from p_M; ``accepted``: drafted, then verified; ``rejected``: drafted,
            verified and turned down, so not part of the answer.
        probability: p_M of the token at its place, before temperature; p_LM where the model alone
            decides.
        lambda_: interpolation coefficient at its place.
        provenance: where it was copied from, or None.
        step: the decoding step that decided it, from 0.
        dropped: of a rejected token: how many drafted tokens fell with it, itself included;
            otherwise 0.
    """

    token_id: int
    text: str
    status: TokenStatus
    probability: float
    lambda_: float
    provenance: Provenance | None
    step: int
    dropped: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict; ``lambda_`` is called ``lambda``."""
        return {name.rstrip("_"): value for name, value in super().to_dict().items()}


@dataclass(frozen=True)
class PhaseSeconds(Record):
    """Wall-clock seconds spent in each phase: the latency breakdown."""

    passage_search: float = 0.0
    index_building: float = 0.0
    lm_forward: float = 0.0
    token_search: float = 0.0
    verification: float = 0.0


@dataclass(frozen=True)
class DecodeStats(Record):
    """What one answer cost and how it was made.

    Args:
        prompt_tokens: tokens of the prompt, passages placed in it included.
        cached_prompt_tokens: those at its beginning that an earlier request had read.
        completion_tokens: tokens of the answer, an end-of-sequence token included.
        lm_forwards: forward passes that produced the answer; the prompt counts as one, in however
            many pieces it was read.
        steps: decoding steps: one forward each, except a last step whose token ends the answer.
        encoded_passages: passages whose keys had to be computed for this answer; 0 when all were
            known.
        unread_passages: passages outside the prompt that may be quoted and were not read, since
            that would cost more than it gains; they are found by their sentences and words alone.
        drafted_tokens: tokens of all drafts, each draft's decided first token included.
        accepted_tokens: those of them that were accepted.
        mean_accepted_span: mean length of the accepted part of a draft.
        attributed_share: share of the answer's tokens that were copied from a passage, short copies
            included; 0 where a method copies nothing and is cited by its words.
        mean_lambda: mean interpolation coefficient over the answer's tokens; 1 means the model
            alone.
        seconds: wall-clock seconds by phase.
    """

    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0
    lm_forwards: int = 0
    steps: int = 0
    encoded_passages: int = 0
    unread_passages: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    mean_accepted_span: float = 0.0
    attributed_share: float = 0.0
    mean_lambda: float = 1.0
    seconds: PhaseSeconds = PhaseSeconds()

    @property
    def tokens_per_forward(self) -> float:
        """Answer tokens per forward pass of the model; 1.0 is ordinary decoding."""
        return self.completion_tokens / self.lm_forwards if self.lm_forwards else 0.0

    @property
    def acceptance_rate(self) -> float:
        """Share of the drafted tokens that were accepted."""
        return self.accepted_tokens / self.drafted_tokens if self.drafted_tokens else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict, the derived rates included."""
        return super().to_dict() | {
            "tokens_per_forward": self.tokens_per_forward,
            "acceptance_rate": self.acceptance_rate,
        }


@dataclass(frozen=True)
class Score:
    """How well a text is predicted by the mixture p_M (or by the model alone).

    Args:
        num_tokens: tokens that were predicted.
        nll: their summed negative log-likelihood in nats.
        num_bytes: their size as UTF-8 text.
        mean_lambda: mean interpolation coefficient.
        log_probs: of each of them, in nats.
    """

    num_tokens: int
    nll: float
    num_bytes: int
    mean_lambda: float
    log_probs: tuple[float, ...] = field(default=(), repr=False)

    @property
    def perplexity(self) -> float:
        """``exp`` of the mean negative log-likelihood per token."""
        mean = self.nll / self.num_tokens
        return math.exp(mean) if mean < 700 else math.inf

    @property
    def bits_per_byte(self) -> float:
        """Negative log-likelihood in bits per byte of text: comparable between tokenizers."""
        return self.nll / (self.num_bytes * math.log(2))


class CitedText(Protocol):
    """A text and what it quotes: what citations can be converted and shown from."""

    @property
    def text(self) -> str:
        """The text."""
        ...

    @property
    def citations(self) -> Sequence[Citation]:
        """Its quotations, in order; they never overlap."""
        ...

    @property
    def passages(self) -> Sequence[Passage]:
        """What could be quoted."""
        ...

    @property
    def sentences(self) -> Sequence[AnswerSentence]:
        """Its sentences, and what the citations prove of each."""
        ...


class DecodedText(CitedText, Protocol):
    """A cited text that says how it was decoded."""

    @property
    def finish_reason(self) -> FinishReason:
        """Why it ends where it ends."""
        ...

    @property
    def stats(self) -> DecodeStats:
        """Cost and provenance figures."""
        ...

    @property
    def notices(self) -> Sequence[str]:
        """What a reader should know."""
        ...

    @property
    def trace(self) -> Sequence[TracedToken]:
        """How decoding came to each token."""
        ...

    @property
    def reasoning(self) -> str:
        """What the model said to itself in front of the text."""
        ...
