"""What a client may ask for at most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nest_engine.errors import InputError
from nest_engine.records import Passage
from nest_engine.serving.server.requests import Asked, CompletionsRequest


@dataclass(frozen=True)
class Limits:
    """What one request may ask for at most; the model's context is a limit as well.

    Args:
        body_bytes: size of a request.
        prompt_chars: characters of all messages together.
        passages: passages of a request, and passages searched for.
        passage_chars: characters of one of its passages.
        choices: answers to one prompt, ``n``.
        prompts: prompts of one request for Completions.
        new_tokens: tokens of an answer; who asks for more is told.
    """

    body_bytes: int = 4 * 2**20
    prompt_chars: int = 200_000
    passages: int = 64
    passage_chars: int = 20_000
    choices: int = 8
    prompts: int = 64
    new_tokens: int = 4096

    def check(self, asked: Asked, passages: Sequence[Passage]) -> None:
        """Check a request against the limits. The server's own defaults may exceed them.

        Args:
            asked: the request.
            passages: those that it brings.

        Raises:
            InputError: if the request exceeds a limit; the message names both numbers.
        """
        self.check_passages(
            [len(passage.text) + len(passage.title) for passage in passages],
            asked.options.settings().get("num_passages", 0),
        )
        _check(
            "the messages have",
            sum(len(message.text) for message in asked.conversation()),
            "characters",
            self.prompt_chars,
        )
        if isinstance(asked, CompletionsRequest):
            _check("prompt has", len(asked.texts), "texts", self.prompts)
        _check("n asks for", asked.num_choices(), "answers", self.choices)

    def check_passages(self, lengths: Sequence[int], to_find: int) -> None:
        """Check the passages of a request.

        Args:
            lengths: characters of each passage that it brings.
            to_find: how many it asks for.

        Raises:
            InputError: if they exceed a limit; the message names both numbers.
        """
        _check("nest.passages has", len(lengths), "passages", self.passages)
        _check("nest.num_passages asks for", to_find, "passages", self.passages)
        _check("a passage has", max(lengths, default=0), "characters", self.passage_chars)


def _check(what: str, number: int, unit: str, most: int) -> None:
    if number > most:
        raise InputError(f"{what} {number:,} {unit}; this server takes at most {most:,}")
