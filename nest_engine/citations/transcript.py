"""The text of one answer as it grows: stop strings, releasable text, final citations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nest_engine.citations.attribution import Attributor
from nest_engine.citations.detokenizer import Detokenizer
from nest_engine.records import Citation, Provenance, TracedToken

if TYPE_CHECKING:
    from nest_engine.decoding.sequence import SequenceState


@dataclass(frozen=True)
class Release:
    """Text and citations that have become final."""

    text: str
    citations: list[Citation]


class Transcript:
    """Follow one answer from tokens to text.

    Args:
        sequence: the answer being decoded.
        decode: token ids to text.
        attributor: cites the answer.
    """

    def __init__(
        self,
        sequence: SequenceState,
        decode: Callable[[Sequence[int]], str],
        attributor: Attributor,
    ) -> None:
        self._sequence = sequence
        self._detokenizer = Detokenizer(decode)
        self._attributor = attributor
        self._num_pushed = 0
        self._num_released = 0  # characters
        self._provenance: list[Provenance | None] = []
        self.text = ""
        self.citations: list[Citation] = []

    def advance(self) -> Release:
        """Read the answer's new tokens, apply stop strings, and release what is final.

        Returns:
            the text and citations that no later token can change.
        """
        for token in self._sequence.token_ids[self._num_pushed :]:
            self._detokenizer.push(token)
        self._num_pushed = len(self._sequence.token_ids)
        if self._sequence.finish_reason is not None:
            self._detokenizer.flush()
        self.text = self._detokenizer.text
        self._stop()
        is_final = self._sequence.finish_reason is not None
        end = len(self.text) - (
            0 if is_final else _held_back(self.text, self._sequence.config.stop)
        )
        return self._release(end, is_final=is_final)

    def trace(self) -> list[TracedToken]:
        """Return how each token of the answer was decoded, with its text."""
        provenance = self._sequence.provenance()
        traced: list[TracedToken] = []
        standing: list[int] = []
        shown = 0  # characters
        for entry in self._sequence.trace.entries(len(self._sequence.token_ids)):
            source = None
            if entry.status == "rejected":
                text = self._detokenizer.text_after(standing, entry.token_id)
            else:
                end = min(self._detokenizer.ends[len(standing)], len(self.text))
                text, shown = self.text[shown:end], max(shown, end)
                source = provenance[len(standing)]
                standing.append(entry.token_id)
            figures = entry.probability, entry.lambda_, source, entry.step, entry.dropped
            traced.append(TracedToken(entry.token_id, text, entry.status, *figures))
        return traced

    def _stop(self) -> None:
        """Cut the answer before the stop string that was completed first.

        One step may bring several stop strings, and tokens after them, as part of a draft.
        """
        stops = [
            (start + len(stop), start)
            for stop in self._sequence.config.stop
            if (start := self.text.find(stop, self._num_released)) >= 0
        ]
        if not stops:
            return
        _, cut = min(stops)
        self.text = self.text[:cut]
        self._sequence.cut(sum(start < cut for start in self._detokenizer.starts))
        self._sequence.finish_reason = "stop"

    def _release(self, end: int, *, is_final: bool) -> Release:
        starts, ends = self._detokenizer.starts, self._detokenizer.ends
        self._provenance += self._sequence.provenance(len(self._provenance))
        num_tokens = len(self._sequence.token_ids)
        # Drop what a stop string cut off.
        del starts[num_tokens:], ends[num_tokens:], self._provenance[num_tokens:]
        citations = self._attributor.settle(
            self.text[:end], starts, ends, self._provenance, is_final=is_final
        )
        self.citations += citations
        released = Release(self.text[self._num_released : end], citations)
        self._num_released = end
        return released


def _held_back(text: str, stops: Sequence[str]) -> int:
    """Return how many characters at the end of ``text`` may be the beginning of a stop string."""
    longest = 0
    for stop in stops:
        for length in range(min(len(stop) - 1, len(text)), longest, -1):
            if text.endswith(stop[:length]):
                longest = length
                break
    return longest
