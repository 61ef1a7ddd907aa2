"""Test without a model: a language model that follows a script, and what it needs.

    model = ScriptedLanguageModel("Helium is a gas.")
    engine = NestEngine(model)
    passages = [Passage("Helium is a gas.")]
    engine.generate("What is helium? ", passages=passages).text  # "Helium is a gas."

The scripted model reads bytes, so every character outside ASCII is split over several tokens. It
predicts its script, its hidden state depends on the last few bytes, and it counts its forward
passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nest_engine.interfaces import (
    ForwardCost,
    Frontier,
    Message,
    Outputs,
    Prefill,
    TokenizedPassage,
    TokenizedText,
)
from nest_engine.models.tokenization import plain_chat
from nest_engine.records import Passage

EOS = 256
_VOCAB_SIZE = 257
_WIDTH = 32

Script = Callable[[bytes], int]
"""Maps all bytes so far to the token that the model predicts next."""


class ByteTokenizer:
    """One token per UTF-8 byte, and an end-of-sequence token whose string is ``</s>``."""

    control_ids = frozenset([EOS])
    control_strings = frozenset(["</s>"])
    has_chat_template = False
    reasoning_ids = frozenset([ord("<")])

    def encode_prompt(self, text: str, untrusted: Sequence[tuple[int, int]] = ()) -> TokenizedText:
        """Encode text as bytes; a prompt cannot contain the end-of-sequence token."""
        token_ids: list[int] = []
        starts: list[int] = []
        ends: list[int] = []
        for position, char in enumerate(text):
            encoded = char.encode()
            token_ids += encoded
            starts += [position] * len(encoded)
            ends += [position + 1] * len(encoded)
        return TokenizedText(tuple(token_ids), tuple(starts), tuple(ends))

    def encode_passage(self, passage: Passage) -> TokenizedPassage:
        """Encode a passage after its title, or after an end-of-sequence token if it has none."""
        text = self.encode_prompt(passage.text)
        context = tuple(f"{passage.title}. ".encode()) if passage.title else (EOS,)
        return TokenizedPassage(context, *text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of bytes, with incomplete characters replaced."""
        return bytes(token for token in token_ids if token != EOS).decode("utf-8", errors="replace")

    def format_question(self, question: str, **chat_template_kwargs: Any) -> str:
        """Format a question as ``Question: ... Answer:``."""
        return self.format_chat([Message("user", question)])

    def format_chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        **chat_template_kwargs: Any,
    ) -> str:
        """Format a conversation as plain text."""
        return plain_chat(messages, tools)


class ScriptedLanguageModel:
    """A language model that predicts what its script says.

    Args:
        script: a text, said once after any prompt; or a function from all bytes so far to the next
            token.
        confidence: probability of the scripted token; the rest is spread over the other tokens.
        memory: how many of the last bytes the hidden state depends on; texts with the same ending
            are close.
        context_length: maximum number of tokens that the model reads.

    Attributes:
        num_forwards: forward passes over sequences so far.
        num_encoded: passages encoded so far.
    """

    def __init__(
        self,
        script: str | Script = "",
        *,
        confidence: float = 0.9,
        memory: int = 6,
        context_length: int | None = None,
    ) -> None:
        self.tokenizer = ByteTokenizer()
        self.context_length = context_length
        self.eos_ids = frozenset([EOS])
        self.device = torch.device("cpu")
        self.forward_cost = ForwardCost(two=1.0, more=0.01)
        self.fingerprint = f"scripted, memory {memory}"
        self.num_forwards = 0
        self.num_encoded = 0
        self._script = script
        self._confidence = confidence
        self._memory = memory
        generator = torch.Generator().manual_seed(0)
        directions = torch.randn(memory, _VOCAB_SIZE, _WIDTH, generator=generator)
        # What a token adds to the hidden state, by its age: older ones add less.
        self._directions = torch.stack([d * 0.7**age for age, d in enumerate(directions)])

    def encode(self, passages: Sequence[TokenizedPassage]) -> list[Tensor]:
        """Return the hidden state before each token of each passage."""
        self.num_encoded += len(passages)
        keys = []
        for passage in passages:
            tokens = [*passage.context_ids, *passage.token_ids]
            positions = range(max(len(passage.context_ids), 1), len(tokens))
            rows = [self._hidden(tokens[:position]) for position in positions]
            keys.append(torch.stack(rows) if rows else torch.empty(0, _WIDTH))
        return keys

    def prefill(self, prompts: Sequence[Sequence[int]]) -> tuple[ScriptedSession, list[Prefill]]:
        """Prefill prompts and open a session on them."""
        session = ScriptedSession(self, [len(prompt) for prompt in prompts])
        outputs = session.extend(prompts)
        return session, [Prefill(output.frontier(-1), output.hidden_TD) for output in outputs]

    def _state(self, tokens: Sequence[int], prompt_length: int) -> Frontier:
        probs_V = torch.full((_VOCAB_SIZE,), (1 - self._confidence) / (_VOCAB_SIZE - 1))
        probs_V[self._wanted(tokens, prompt_length)] = self._confidence
        return Frontier(probs_V.log(), self._hidden(tokens))

    def _wanted(self, tokens: Sequence[int], prompt_length: int) -> int:
        if callable(self._script):
            return self._script(bytes(token for token in tokens if token != EOS))
        said = len(tokens) - prompt_length
        script = self._script.encode()
        return script[said] if 0 <= said < len(script) else EOS

    def _hidden(self, tokens: Sequence[int]) -> Tensor:
        recent = list(tokens[-self._memory :])
        ages = list(range(len(recent) - 1, -1, -1))
        return self._directions[ages, recent].sum(0)


class ScriptedSession:
    """The rows that a scripted model has read.

    Args:
        model: the model.
        prompt_lengths: tokens of each row's prompt.
    """

    def __init__(self, model: ScriptedLanguageModel, prompt_lengths: Sequence[int]) -> None:
        self._model = model
        self._prompt_lengths = list(prompt_lengths)
        self._rows: list[list[int]] = [[] for _ in prompt_lengths]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens held for each row."""
        return tuple(len(row) for row in self._rows)

    def extend(self, drafts: Sequence[Sequence[int]]) -> list[Outputs]:
        """Read each row's draft after its tokens."""
        self._model.num_forwards += 1
        outputs = []
        for row, prompt_length, draft in zip(self._rows, self._prompt_lengths, drafts, strict=True):
            states = []
            for token in draft:
                row.append(token)
                states.append(self._model._state(row, prompt_length))
            outputs.append(
                Outputs(
                    torch.stack([state.logits_V for state in states]),
                    torch.stack([state.hidden_D for state in states]),
                )
            )
        return outputs

    def truncate(self, lengths: Sequence[int]) -> None:
        """Forget each row's tokens beyond ``lengths``."""
        for row, length in zip(self._rows, lengths, strict=True):
            if length > len(row):
                raise ValueError(f"a row of {len(row)} tokens cannot be cut back to {length}")
            del row[length:]

    def keep(self, rows: Sequence[int]) -> None:
        """Drop every row that is not listed."""
        self._rows = [self._rows[row] for row in rows]
        self._prompt_lengths = [self._prompt_lengths[row] for row in rows]

    def join(self, other: ScriptedSession) -> None:
        """Append the rows of another session."""
        self._rows += other._rows
        self._prompt_lengths += other._prompt_lengths
