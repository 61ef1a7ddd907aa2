"""The text of one answer as it grows: stop strings, releasable text, final citations."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from nest_engine.citations.circles import end_of_first_round, num_repeated
from nest_engine.citations.detokenizer import Detokenizer
from nest_engine.citations.reasoning import Reasoning, held_back
from nest_engine.records import Citation, Provenance, TracedToken

if TYPE_CHECKING:
    import regex

    from nest_engine.decoding.sequence import SequenceState


@dataclass(frozen=True)
class Release:
    """Text and citations that have become final, and the reasoning in front of them."""

    text: str
    citations: list[Citation]
    reasoning: str = ""
    settled: int = 0


class Settles(Protocol):
    """Cites an answer as it becomes final: see ``Attributor``.

    Attributes:
        settled: characters whose citations are all known.
    """

    settled: int

    def settle(
        self,
        text: str,
        starts: Sequence[int],
        ends: Sequence[int],
        provenance: Sequence[Provenance | None],
        *,
        is_final: bool,
    ) -> list[Citation]:
        """Return the citations that have become final."""
        ...


class Transcript:
    """Follow one answer from tokens to text.

    Args:
        sequence: the answer being decoded.
        decode: token ids to text.
        attributor: makes what cites the answer.
        reasons: whether the prompt ends where the model's reasoning begins; None takes all that the
            model says for its answer.
        next_turn: what ends the answer, where the model begins another turn.
        begins_quoting: whether a sentence may be quoted at once, behind white space: the space in
            front of it in its source is none of the answer's.
        ends_circles: whether the answer ends where the model goes round in circles.

    Attributes:
        text: the answer so far.
        citations: those that are final.
        stop_string: the stop string that ended the answer, if one did.
    """

    def __init__(
        self,
        sequence: SequenceState,
        decode: Callable[[Sequence[int]], str],
        attributor: Callable[[], Settles],
        *,
        reasons: bool | None = False,
        next_turn: regex.Pattern[str] | None = None,
        begins_quoting: bool = False,
        ends_circles: bool = False,
    ) -> None:
        self._sequence = sequence
        self._detokenizer = Detokenizer(decode)
        self._new_attributor, self._attributor = attributor, attributor()
        self._tells_reasoning = reasons is not None
        self._reasoning = Reasoning(has_begun=bool(reasons))
        self._reasoning.end = 0 if reasons is None else None
        self._sequence.is_reasoning = bool(reasons)
        self._next_turn = next_turn
        self._begins_quoting = begins_quoting
        self._ends_circles = ends_circles
        self._num_pushed = 0
        self._num_released = 0  # characters
        # Characters of each token in the answer, none for those of the reasoning in front of it.
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._provenance: list[Provenance | None] = []
        self.text = ""
        self.citations: list[Citation] = []
        self.stop_string: str | None = None

    def advance(self) -> Release:
        """Read the answer's new tokens, apply stop strings, and release what is final.

        Returns:
            the text and citations that no later token can change.
        """
        for token in self._sequence.token_ids[self._num_pushed :]:
            self._detokenizer.push(token)
        self._num_pushed = len(self._sequence.token_ids)
        if self._sequence.finish_reason is not None:
            self._detokenizer.flush(is_cut_off=self._sequence.finish_reason == "length")
        reasoning = self._reason()
        begin = self._reasoning.end
        if begin is None:
            return Release("", [], reasoning)
        if begin == 0 and self._begins_quoting and self._sequence.entries[:1] not in ([], [None]):
            begin = int(self._detokenizer.text.startswith(" "))
        self.text = self._detokenizer.text[begin:]
        for ours, all_ in (
            (self._starts, self._detokenizer.starts),
            (self._ends, self._detokenizer.ends),
        ):
            ours += [max(position - begin, 0) for position in all_[len(ours) :]]
        self._stop()
        is_final = self._sequence.finish_reason is not None
        end = len(self.text) - (0 if is_final else self._held_back())
        release = replace(self._release(end, is_final=is_final), reasoning=reasoning)
        if is_final and self._tells_reasoning and self._reasoning.read_again(self.text):
            self._begin_again()
        return release

    @property
    def reasoning(self) -> str:
        """What the model said to itself in front of the answer."""
        return self._reasoning.text

    @property
    def provenance(self) -> list[Provenance | None]:
        """Where each token of the answer was copied from; reasoning quotes nothing."""
        return self._provenance

    @property
    def num_reasoning_tokens(self) -> int:
        """Tokens in front of the answer."""
        begin = self._reasoning.end or 0
        return bisect_right(self._detokenizer.ends, begin) if begin else 0

    def trace(self) -> list[TracedToken]:
        """Return how each token of the answer was decoded, with its text."""
        traced: list[TracedToken] = []
        standing: list[int] = []
        shown = 0  # characters
        for entry in self._sequence.trace.entries(len(self._sequence.token_ids)):
            source = None
            if entry.status == "rejected":
                text = self._detokenizer.text_after(standing, entry.token_id)
            else:
                end = min(self._ends[len(standing)], len(self.text))
                text, shown = self.text[shown:end], max(shown, end)
                source = self._provenance[len(standing)]
                standing.append(entry.token_id)
            figures = entry.probability, entry.lambda_, source, entry.step, entry.dropped
            traced.append(TracedToken(entry.token_id, text, entry.status, *figures))
        return traced

    def _stop(self) -> None:
        """Cut the answer before the stop string that was completed first.

        One step may bring several stop strings, and tokens after them, as part of a draft.
        """
        stops = [
            (start + len(stop), start, stop)
            for stop in self._sequence.config.stop
            if (start := self.text.find(stop, self._num_released)) >= 0
        ]
        if self._next_turn and (turn := self._next_turn.search(self.text, self._num_released)):
            stops.append((turn.end(), turn.start(), ""))
        if self._ends_circles and (end := end_of_first_round(self.text)) is not None:
            stops.append((len(self.text), end, ""))
        if not stops:
            return
        _, cut, stop = min(stops)
        self.stop_string = stop or None
        self.text = self.text[:cut]
        num_kept = sum(start < cut for start in self._starts)
        self._sequence.cut(max(num_kept, self.num_reasoning_tokens))
        self._sequence.finish_reason = "stop"

    def _begin_again(self) -> None:
        """Read the whole answer without what was reasoning; what was released has been."""
        begin = self._reasoning.end or 0
        self.text = self.text[begin:]
        for positions in (self._starts, self._ends):
            positions[:] = [max(position - begin, 0) for position in positions]
        self.citations, self._provenance = [], []
        self._attributor, self._num_released = self._new_attributor(), 0
        self._release(len(self.text), is_final=True)

    def _held_back(self) -> int:
        """Return how many characters at the end may yet be cut off."""
        held = held_back(self.text, self._sequence.config.stop)
        if self._next_turn:
            begun = self._next_turn.search(self.text, self._num_released, partial=True)
            held = max(held, len(self.text) - begun.start() if begun else 0)
        return max(held, num_repeated(self.text)) if self._ends_circles else held

    def _reason(self) -> str:
        """Read on where the reasoning ends; return what it has gained."""
        before = len(self._reasoning.text)
        is_final = self._sequence.finish_reason is not None
        self._reasoning.read(self._detokenizer.text, is_final=is_final)
        self._sequence.is_reasoning = self._reasoning.is_open
        return self._reasoning.text[before:]

    def _release(self, end: int, *, is_final: bool) -> Release:
        num_reasoning, num_known = self.num_reasoning_tokens, len(self._provenance)
        self._provenance += [
            None if number < num_reasoning else source
            for number, source in enumerate(self._sequence.provenance(num_known), num_known)
        ]
        num_tokens = len(self._sequence.token_ids)
        # Drop what a stop string cut off.
        del self._starts[num_tokens:], self._ends[num_tokens:], self._provenance[num_tokens:]
        citations = self._attributor.settle(
            self.text[:end], self._starts, self._ends, self._provenance, is_final=is_final
        )
        self.citations += citations
        released = Release(
            self.text[self._num_released : end], citations, settled=self._attributor.settled
        )
        self._num_released = end
        return released
