"""Frozen records that travel between the parts of the engine.

Axis suffixes in tensor names: ``B`` sequences of a batch, ``T`` tokens of a sequence or passage, ``Q`` queries,
``N`` entries of a token index, ``K`` neighbours of one query, ``D`` width of the hidden state, ``V`` vocabulary.

Character offsets are Unicode code points, half-open, over ``Passage.text`` and ``NestOutput.text``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nest_engine.errors import ConfigError, InputError

if TYPE_CHECKING:  # records need no torch: reading and showing citations stays light
    from torch import Tensor

FinishReason = Literal["eos", "stop", "length", "cancelled"]
TokenStatus = Literal["picked", "accepted", "rejected"]


def require_count(name: str, value: object, least: int = 1) -> None:
    """Raise ``ConfigError`` unless ``value`` is a whole number that is large enough."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name}={value!r} is not valid: expected a whole number of at least {least}")


def require_text(what: str, text: object) -> None:
    """Raise ``InputError`` unless ``text`` is a string that UTF-8 can hold."""
    if not isinstance(text, str):
        raise InputError(f"{what} must be str, got {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} holds a lone surrogate {text[error.start]!r} at offset {error.start}, which is not text; "
            "decode the source with errors='replace' or drop the character"
        ) from error


@dataclass(frozen=True)
class Passage:
    """A stretch of source text that may be quoted.

    Args:
        text: the quotable text; kept exactly as given.
        title: context for the model, never quoted.
        id: stable identifier; derived from title and text when empty.
        uri: where the source lives: a path or URL.
        score: relevance given by the first-stage search, higher is better.
        license: licence of the source, carried into citations.
        metadata: anything else. ``start_index`` is the offset of ``text`` in the source document.

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
        """Hex digest of ``text`` in UTF-8: tells whether a stored source has changed since it was quoted."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return a plain, JSON-ready dict (as far as ``metadata`` is)."""
        return {
            "id": self.id,
            "title": self.title,
            "text": self.text,
            "uri": self.uri,
            "score": self.score,
            "license": self.license,
            "metadata": dict(self.metadata),
        }


@dataclass(frozen=True)
class Citation:
    """A stretch of the answer that stands word for word in a passage.

    Invariant: ``answer[answer_start:answer_end] == passage.text[source_start:source_end] == cited_text``.

    Args:
        answer_start: first character in the answer.
        answer_end: one past the last character in the answer.
        passage_id: ``Passage.id`` of the source.
        source_start: first character in ``Passage.text``.
        source_end: one past the last character in ``Passage.text``.
        cited_text: the quoted text.
        title: title of the source.
        uri: location of the source.
        passage_sha256: ``Passage.sha256`` when it was quoted.
        token_start: first quoted token, an index into ``NestOutput.token_ids``.
        token_end: one past the last quoted token.
        score: first-stage relevance of the source.
        license: licence of the source.
        metadata: ``Passage.metadata`` of the source.
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

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict with every field."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"metadata": dict(self.metadata)}


class Provenance(NamedTuple):
    """Where an output token was copied from.

    Args:
        passage: index into the passages of the request.
        position: index of the token among the passage's tokens.
    """

    passage: int
    position: int


@dataclass(frozen=True)
class TracedToken:
    """How decoding came to a token of the answer, or turned one down.

    Args:
        token_id: the token.
        text: its characters; those spread over several tokens belong to the first, and control tokens have none.
        status: ``picked`` from p_M; ``accepted``: drafted, then verified; ``rejected``: drafted, verified and turned
            down, so not part of the answer.
        probability: p_M of the token at its place, before temperature; p_LM where the model alone decides.
        lambda_: interpolation coefficient at its place.
        provenance: where it was copied from, or None.
        step: the decoding step that decided it, from 0.
        dropped: of a rejected token: how many drafted tokens fell with it, itself included; otherwise 0.
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
        """Return a plain, JSON-ready dict."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields["lambda"] = fields.pop("lambda_")
        return fields | {"provenance": None if self.provenance is None else self.provenance._asdict()}


@dataclass(frozen=True)
class Neighbors:
    """The ``k`` nearest index entries of each query, nearest first.

    Args:
        distances_QK: squared L2 distances, float32.
        values_QK: token ids that follow the neighbours.
        entries_QK: rows of the token index.
        relevance_QK: relevance of the neighbours' passages, in (0, 1]; None when all count the same.
    """

    distances_QK: Tensor
    values_QK: Tensor
    entries_QK: Tensor
    relevance_QK: Tensor | None = None

    def __len__(self) -> int:
        return self.distances_QK.shape[-1]


@dataclass(frozen=True)
class Draft:
    """Tokens proposed for one sequence; the first is already decided, the others await verification.

    Args:
        tokens: token ids, at least one.
        entries: the index entry of each token, or empty when the draft is a plain token of the model.
    """

    tokens: tuple[int, ...]
    entries: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Outputs:
    """What one forward pass yields for one sequence.

    Args:
        logits_TV: next-token logits after each token of the draft, float32.
        hidden_TD: hidden state (the kNN query) after each token of the draft.
    """

    logits_TV: Tensor
    hidden_TD: Tensor

    def frontier(self, index: int) -> Frontier:
        """Return the model's state after token ``index`` of the draft."""
        return Frontier(self.logits_TV[index], self.hidden_TD[index])


@dataclass(frozen=True)
class Frontier:
    """The model's state after the last accepted token: the next step needs no forward to know it.

    Args:
        logits_V: next-token logits.
        hidden_D: hidden state of the last accepted token.
    """

    logits_V: Tensor
    hidden_D: Tensor


@dataclass(frozen=True)
class TokenizedPassage:
    """A passage as token ids that know which characters they stand for.

    Args:
        context_ids: tokens read before the text (start-of-text token, title); never quoted.
        token_ids: tokens of the text.
        starts: first character of each token in ``Passage.text``.
        ends: one past the last character of each token.
    """

    context_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]


@dataclass(frozen=True)
class PassageKeys:
    """Keys of a passage: one row for every token of its text that can be copied.

    Args:
        tokens: the tokenized passage.
        first: index of the first token that has a key: 1 when nothing precedes the text, otherwise 0.
        keys_TD: hidden state of the token *before* each token from ``first`` on: the value of
            a key is the token that follows it.
    """

    tokens: TokenizedPassage
    first: int
    keys_TD: Tensor

    @property
    def nbytes(self) -> int:
        """Size of the keys in bytes."""
        return int(self.keys_TD.nbytes)


@dataclass(frozen=True)
class PhaseSeconds:
    """Wall-clock seconds spent in each phase: the latency breakdown."""

    passage_search: float = 0.0
    index_building: float = 0.0
    lm_forward: float = 0.0
    token_search: float = 0.0
    verification: float = 0.0


@dataclass(frozen=True)
class DecodeStats:
    """What one answer cost and how it was made.

    Args:
        prompt_tokens: tokens of the prompt, passages placed in it included.
        completion_tokens: tokens of the answer, an end-of-sequence token included.
        lm_forwards: forward passes that produced the answer, the one over the prompt included.
        steps: decoding steps: one forward each, except a last step whose token ends the answer.
        encoded_passages: passages whose keys had to be computed for this answer; 0 when all were known.
        drafted_tokens: tokens of all drafts, each draft's decided first token included.
        accepted_tokens: those of them that stand in the answer.
        mean_accepted_span: mean length of the accepted part of a draft.
        attributed_share: share of the answer's tokens with a known source, short copies included.
        mean_lambda: mean interpolation coefficient over the answer's tokens; 1 means the model alone.
        seconds: wall-clock seconds by phase.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    lm_forwards: int = 0
    steps: int = 0
    encoded_passages: int = 0
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
        return asdict(self) | {
            "tokens_per_forward": self.tokens_per_forward,
            "acceptance_rate": self.acceptance_rate,
        }


@dataclass(frozen=True)
class NestOutput:
    """An answer with its sources.

    Args:
        text: the answer; never contains the prompt.
        citations: verified quotations, in the order of the answer.
        finish_reason: ``eos``, ``stop``, ``length`` or ``cancelled``.
        stats: cost and provenance figures.
        token_ids: tokens of the answer.
        provenance: source of each token, or None.
        lambdas: interpolation coefficient at each token.
        prompt: the text that the model read, passages placed in it included.
        passages: what could be quoted, in the order ``Provenance.passage`` counts them.
        notices: anything a caller should know, such as passages that did not fit.
        trace: how decoding came to each token, with the rejected drafts between them: for those who tune.
    """

    text: str
    citations: tuple[Citation, ...]
    finish_reason: FinishReason
    stats: DecodeStats
    token_ids: tuple[int, ...] = ()
    provenance: tuple[Provenance | None, ...] = ()
    lambdas: tuple[float, ...] = ()
    prompt: str = ""
    passages: tuple[Passage, ...] = ()
    notices: tuple[str, ...] = ()
    trace: tuple[TracedToken, ...] = field(default=(), repr=False)

    @property
    def usage(self) -> dict[str, int]:
        """Token usage under the names that LLM APIs share."""
        prompt, completion = self.stats.prompt_tokens, self.stats.completion_tokens
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def to_markdown(self) -> str:
        """Return the answer with numbered footnotes."""
        from nest_engine.rendering import to_markdown

        return to_markdown(self)

    def to_html(self, path: str | Path | None = None, *, title: str = "Answer", tokens: bool = False) -> str:
        """Return a stand-alone page that shows what was copied from where.

        Args:
            path: file to write the page to, or None.
            title: title of the page.
            tokens: also show how decoding came to each token: lambda, p_M, what was drafted, accepted and rejected.
        """
        from nest_engine.rendering import to_html

        page = to_html(self, title=title, tokens=tokens)
        if path is not None:
            Path(path).write_text(page, encoding="utf-8")
        return page

    def _repr_html_(self) -> str:
        """Show the answer in a notebook."""
        from nest_engine.rendering import to_html_fragment

        return to_html_fragment(self)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict: text, citations, finish reason, usage, statistics, sources and notices."""
        return {
            "text": self.text,
            "citations": [citation.to_dict() for citation in self.citations],
            "finish_reason": self.finish_reason,
            "usage": self.usage,
            "stats": self.stats.to_dict(),
            "passages": [passage.to_dict() for passage in self.passages],
            "notices": list(self.notices),
        }


@dataclass(frozen=True)
class NestChunk:
    """A piece of a streamed answer.

    Concatenating the chunks gives the answer: ``text`` as ``NestOutput.text``, ``citations`` as
    ``NestOutput.citations``. Offsets of citations count from the start of the answer.

    Args:
        text: text that is final; may be empty.
        citations: citations that have become final with this chunk.
        output: the whole answer, on the last chunk only.
    """

    text: str
    citations: tuple[Citation, ...] = ()
    output: NestOutput | None = None

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why decoding stopped; None before the last chunk."""
        return self.output.finish_reason if self.output else None


@dataclass(frozen=True)
class Score:
    """How well a text is predicted by the mixture p_M (or by the model alone).

    Args:
        num_tokens: tokens that were predicted.
        nll: their summed negative log-likelihood in nats.
        num_bytes: their size as UTF-8 text.
        mean_lambda: mean interpolation coefficient.
    """

    num_tokens: int
    nll: float
    num_bytes: int
    mean_lambda: float

    @property
    def perplexity(self) -> float:
        """``exp`` of the mean negative log-likelihood per token."""
        mean = self.nll / self.num_tokens
        return math.exp(mean) if mean < 700 else math.inf

    @property
    def bits_per_byte(self) -> float:
        """Negative log-likelihood in bits per byte of text: comparable between tokenizers."""
        return self.nll / (self.num_bytes * math.log(2))
