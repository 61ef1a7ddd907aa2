"""Answers as users get them: a record that knows how to show itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nest_engine.citations.rendering import to_html, to_html_fragment, to_markdown
from nest_engine.citations.verdicts import judge_sentences
from nest_engine.records import (
    AnswerSentence,
    Citation,
    DecodeStats,
    FinishReason,
    Passage,
    Provenance,
    TracedToken,
    plain,
)


@dataclass(frozen=True)
class NestOutput:
    """An answer with its sources.

    Args:
        text: the answer; never contains the prompt, nor the model's reasoning.
        citations: verified quotations, in the order of the answer.
        finish_reason: ``eos``, ``stop``, ``length`` or ``cancelled``.
        stats: cost and provenance figures.
        token_ids: tokens of the answer, those of the reasoning in front of it included.
        provenance: source of each token, or None.
        lambdas: interpolation coefficient at each token.
        prompt: the text that the model read, passages placed in it included.
        passages: what could be quoted, in the order ``Provenance.passage`` counts them.
        notices: anything a caller should know, such as passages that did not fit.
        trace: how decoding came to each token, with the rejected drafts between them: for those who
            tune.
        reasoning: what a model that reasons said to itself in front of the answer; it quotes
            nothing.
        stop_string: the one of the ``stop`` strings that ended the answer, if one did.
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
    reasoning: str = ""
    stop_string: str | None = None

    @property
    def usage(self) -> dict[str, int]:
        """Token usage under the names that LLM APIs share."""
        prompt, completion = self.stats.prompt_tokens, self.stats.completion_tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    @property
    def sentences(self) -> tuple[AnswerSentence, ...]:
        """The answer's sentences: each quoted whole, spliced from pieces, or the model's own."""
        return judge_sentences(
            self.text,
            self.citations,
            self.passages,
            is_cut_off=self.finish_reason == "length",
        )

    def to_markdown(self) -> str:
        """Return the answer with numbered footnotes."""
        return to_markdown(self)

    def to_html(
        self, path: str | Path | None = None, *, title: str = "Answer", tokens: bool = False
    ) -> str:
        """Return a stand-alone page that shows what was copied from where.

        Args:
            path: file to write the page to, or None.
            title: title of the page.
            tokens: also show how decoding came to each token: lambda, p_M, what was drafted,
                accepted and rejected.
        """
        page = to_html(self, title=title, tokens=tokens)
        if path is not None:
            Path(path).write_text(page, encoding="utf-8")
        return page

    def _repr_html_(self) -> str:
        """Show the answer in a notebook."""
        return to_html_fragment(self)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict: what was answered and quoted, and what it cost.

        It has text, citations, sentences, finish reason, usage, stats, passages, notices, and the
        model's reasoning, if there is any.
        """
        shown = (
            "text",
            "citations",
            "sentences",
            "finish_reason",
            "usage",
            "stats",
            "passages",
            "notices",
        )
        reasoning = {"reasoning": self.reasoning} if self.reasoning else {}
        return {name: plain(getattr(self, name)) for name in shown} | reasoning


@dataclass(frozen=True)
class NestChunk:
    """A piece of a streamed answer.

    Concatenating the chunks gives the answer: ``text`` as ``NestOutput.text``, ``citations`` as
    ``NestOutput.citations``. Offsets of citations count from the start of the answer.

    Args:
        text: text that is final; may be empty.
        citations: citations that have become final with this chunk.
        output: the whole answer, on the last chunk only.
        reasoning: what the model has gone on saying to itself in front of the answer.
        settled: characters of the answer so far whose citations are all known.
    """

    text: str
    citations: tuple[Citation, ...] = ()
    output: NestOutput | None = None
    reasoning: str = ""
    settled: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether the chunk says nothing new."""
        return not (self.text or self.reasoning or self.citations or self.output)

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why decoding stopped; None before the last chunk."""
        return self.output.finish_reason if self.output else None
