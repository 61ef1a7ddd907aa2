"""Turn tokens into text as they arrive, tracking the characters of each token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

# enough for any decoder that looks back, for example at the bytes of an unfinished character
_CONTEXT_TOKENS = 4
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Detokenizer:
    """Turn a growing list of tokens into text, tracking the characters of each token.

    A character whose bytes are spread over several tokens belongs to all of them; it appears once
    it is complete. The concatenation equals ``decode`` of all tokens, but for half a character at
    an end that a limit has set.

    Args:
        decode: token ids to text.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._token_ids: list[int] = []
        # Decoding starts here: one settled piece before the pending tokens, as context.
        self._window_start = 0
        self._window_text = ""  # text of that settled piece
        self._num_settled = 0
        self.text = ""
        self.starts: list[int] = []
        self.ends: list[int] = []

    def push(self, token: int) -> None:
        """Append a token; ``text`` grows when its characters are complete."""
        self._token_ids.append(token)
        window = self._decode(self._token_ids[self._window_start :])
        if not window.endswith(_REPLACEMENT):
            self._settle(window)

    def flush(self, *, is_cut_off: bool = False) -> None:
        """Append what is left of an incomplete character, unless the rest of it was cut off."""
        if self._num_settled < len(self._token_ids):
            window = self._decode(self._token_ids[self._window_start :])
            self._settle(window.removesuffix(_REPLACEMENT) if is_cut_off else window)

    def text_after(self, token_ids: Sequence[int], token: int) -> str:
        """Return what ``token`` would add to the text of ``token_ids``.

        It is decoded after the last few of them, because decoders treat a first token differently.
        """
        before = list(token_ids[-_CONTEXT_TOKENS:])
        return self._decode([*before, token])[len(self._decode(before)) :]

    def _settle(self, window: str) -> None:
        start = len(self.text)
        self.text += window[len(self._window_text) :]
        has_grown = len(self.text) > start
        num_pending = len(self._token_ids) - self._num_settled
        self.starts += [start] * num_pending
        self.ends += [len(self.text)] * num_pending
        # Tokens without text are no context: a decoder that strips leading space would strip that
        # of the next piece.
        if has_grown:
            self._window_start = self._num_settled
        self._num_settled = len(self._token_ids)
        self._window_text = self._decode(self._token_ids[self._window_start :])
