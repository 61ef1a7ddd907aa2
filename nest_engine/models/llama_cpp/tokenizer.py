"""The tokenizer of a GGUF file: llama.cpp's tokens, with the characters that they stand for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import tokenizers
from transformers import PreTrainedTokenizerFast

from nest_engine.citations.reasoning import marks_among
from nest_engine.interfaces import TokenizedText
from nest_engine.models.llama_cpp.library import LlamaModel, bindings
from nest_engine.models.tokenization import OffsetTokenizer


class LlamaCppTokenizer(OffsetTokenizer):
    """The tokenizer that a GGUF file brings.

    Args:
        model: the model of the file.
    """

    def __init__(self, model: LlamaModel) -> None:
        llama = bindings()
        self._model = model
        self._pieces = model.pieces()
        attributes = model.attributes()
        control = attributes & (llama.LLAMA_TOKEN_ATTR_CONTROL | llama.LLAMA_TOKEN_ATTR_UNKNOWN)
        added = attributes & llama.LLAMA_TOKEN_ATTR_USER_DEFINED
        # llama.cpp reads these wherever they stand, as if they were control tokens.
        user_defined = [t for t in np.flatnonzero(added).tolist() if not self._is_space(t)]
        self.control_ids = frozenset(np.flatnonzero(control).tolist()) | frozenset(user_defined)
        written = {self._written(token) for token in self.control_ids}
        self.control_strings = frozenset(filter(None, written))
        shown = marks_among(self.control_strings)
        self._hidden_ids = {
            token for token in np.flatnonzero(control).tolist() if self._written(token) not in shown
        }
        # Strings may overlap: each place is tried.
        strings = "|".join(map(re.escape, self.control_strings))
        self._control_string = re.compile(f"(?={strings})" if strings else r"(?!)")
        self._unknown_ids = frozenset(
            np.flatnonzero(attributes & llama.LLAMA_TOKEN_ATTR_UNKNOWN).tolist()
        )
        # Some vocabularies write a space so, and cannot tell the sign from one.
        is_space = model.tokenize("a\u2581b".encode(), control=False) == model.tokenize(
            b"a b", control=False
        )
        self._spaces = "\u2581" if is_space else " "
        self._adds_space = self._pieces[model.tokenize(b"a", control=False)[0]].startswith(b" ")
        self._prefix_ids = () if model.bos is None else (model.bos,)
        self._owner = PreTrainedTokenizerFast(  # writes conversations, and knows no words
            tokenizer_object=tokenizers.Tokenizer(tokenizers.models.BPE()),
            chat_template=model.chat_template,
            **{
                name: self._written(token)
                for name, token in (("bos_token", model.bos), ("eos_token", model.eos))
                if token is not None
            },
        )

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of token ids, without control tokens and with spaces as they are."""
        pieces = [self._pieces[token] for token in token_ids if token not in self._hidden_ids]
        text = b"".join(pieces).decode("utf-8", "replace")
        return text.removeprefix(" ") if self._adds_space else text

    def _encode_trusted(self, text: str, offset: int, add_special_tokens: bool) -> TokenizedText:
        encoded = self._encode(text, offset, control=True)
        if not (add_special_tokens and self._model.adds_bos):
            return encoded
        return TokenizedText(
            (*self._prefix_ids, *encoded.token_ids),
            (*(offset for _ in self._prefix_ids), *encoded.starts),
            (*(offset for _ in self._prefix_ids), *encoded.ends),
        )

    def _encode_untrusted(self, text: str, offset: int) -> TokenizedText:
        encoded = self._encode(text, offset, control=False)
        if self.control_ids.isdisjoint(encoded.token_ids):
            return encoded
        # Some are read wherever they stand: cut the strings in two.
        cuts = [match.start() + 1 for match in self._control_string.finditer(text)]
        parts = [
            self._encode(text[start:end], offset + start, control=False)
            for start, end in pairwise([0, *cuts, len(text)])
        ]
        return TokenizedText(*(sum(of_parts, ()) for of_parts in zip(*parts, strict=True)))

    def _encode(self, text: str, offset: int, *, control: bool) -> TokenizedText:
        data = text.replace(self._spaces, " ").encode()
        token_ids = self._model.tokenize(data, control=control)
        starts, ends = self._places(data, token_ids)
        if len(data) > len(text):
            # The character of each byte; one past the last for the end.
            begins = (np.frombuffer(data, np.uint8) & 0xC0) != 0x80
            character = np.append(np.cumsum(begins) - 1, len(text))
            is_empty = starts == ends
            ends = np.where(is_empty, character[ends], character[ends - 1] + 1)
            starts = character[starts]
            ends = np.where(is_empty, starts, ends)
        return TokenizedText(
            tuple(token_ids), tuple((starts + offset).tolist()), tuple((ends + offset).tolist())
        )

    def _places(
        self, data: bytes, token_ids: Sequence[int]
    ) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], ...]:
        """Return the first byte of each token, and one past the last.

        The pieces of tokens are the text, but for a space that is added in front of words, spaces
        that are dropped beside control tokens, and characters that the vocabulary does not know.
        """
        places = np.zeros((2, len(token_ids)), np.int64)
        position = 0
        for number, token in enumerate(token_ids):
            piece = self._pieces[token]
            if not data.startswith(piece, position):
                is_unknown = token in self._unknown_ids
                position, piece = _found(data, position, piece, is_unknown=is_unknown)
            places[:, number] = position, position + len(piece)
            position += len(piece)
        return places[0], places[1]

    def _written(self, token: int) -> str:
        return self._pieces[token].decode("utf-8", "replace")

    def _is_space(self, token: int) -> bool:
        return self._written(token).isspace()


def _found(data: bytes, position: int, piece: bytes, *, is_unknown: bool) -> tuple[int, bytes]:
    """Return where a piece is that does not simply come next, and what of it stands there."""
    if is_unknown:  # it stands for a character
        end = position + 1
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end += 1
        return position, data[position:end]
    bare = piece.removeprefix(b" ")
    behind_space = position
    while data[behind_space : behind_space + 1].isspace():
        behind_space += 1
    for place, found in ((position, bare), (behind_space, piece), (behind_space, bare)):
        if data.startswith(found, place):
            return place, found
    place = data.find(bare, position)  # behind characters that the vocabulary leaves out
    return (position, b"") if place < 0 else (place, bare)
