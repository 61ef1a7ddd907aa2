"""What a client may ask for at most."""

from __future__ import annotations

from dataclasses import dataclass

from nest_engine.config import NestConfig
from nest_engine.errors import InputError
from nest_engine.interfaces import Message
from nest_engine.types import Passage


@dataclass(frozen=True)
class Limits:
    """What one request may ask for at most; the model's context limits prompts and answers besides.

    Args:
        body_bytes: size of a request.
        prompt_chars: characters of all messages together.
        passages: passages of a request, and passages searched for.
        passage_chars: characters of one of its passages.
        choices: answers to one request, ``n``.
        new_tokens: tokens of an answer.
    """

    body_bytes: int = 4 * 2**20
    prompt_chars: int = 200_000
    passages: int = 64
    passage_chars: int = 20_000
    choices: int = 8
    new_tokens: int = 4096

    def check(
        self, messages: list[Message], passages: tuple[Passage, ...] | None, config: NestConfig, choices: int
    ) -> None:
        """Make sure that a request keeps within the limits.

        Raises:
            InputError: if it does not; the message names both numbers.
        """
        _check("the messages have", sum(len(message.text) for message in messages), "characters", self.prompt_chars)
        _check("nest.passages has", len(passages or ()), "passages", self.passages)
        _check("nest.num_passages asks for", config.num_passages, "passages", self.passages)
        longest = max((len(passage.text) + len(passage.title) for passage in passages or ()), default=0)
        _check("a passage has", longest, "characters", self.passage_chars)
        _check("n asks for", choices, "answers", self.choices)
        _check("the request asks for", config.max_new_tokens, "tokens", self.new_tokens)


def _check(what: str, number: int, unit: str, most: int) -> None:
    if number > most:
        raise InputError(f"{what} {number:,} {unit}; this server takes at most {most:,}")
