"""One request, ready to be read: settings, prompt with its passages, tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nest_engine.config import NestConfig
from nest_engine.decoder import LogitsProcessor, StoppingCriterion, Stopwatch
from nest_engine.errors import ContextOverflowError, InputError
from nest_engine.interfaces import LanguageModel, TokenizedText
from nest_engine.prompts import LocatedPassage, locate, place, question_start
from nest_engine.types import Passage, require_text


@dataclass(frozen=True)
class Request:
    """One prompt and what may be quoted in its answer.

    Args:
        config: settings.
        prompt: the text that the model reads.
        tokens: the prompt's tokens.
        passages: what may be quoted.
        located: the passages that stand in the prompt.
        notices: what the caller should know; grows while the request is worked on.
        stopwatch: seconds spent on the request.
        process_logits: changes the model's logits before anything else sees them.
        is_stopped: ends the answer at a token.
    """

    config: NestConfig
    prompt: str
    tokens: TokenizedText
    passages: tuple[Passage, ...]
    located: list[LocatedPassage]
    notices: list[str] = field(default_factory=list)
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    process_logits: LogitsProcessor | None = None
    is_stopped: StoppingCriterion | None = None

    def room(self, context: int | None) -> int:
        """Return the most tokens that the answer may have in a context of ``context`` tokens.

        Raises:
            InputError: if the prompt is empty.
            ContextOverflowError: if the prompt fills the context.
        """
        num_tokens, limit = len(self.tokens.token_ids), self.config.max_new_tokens
        if num_tokens == 0:
            raise InputError("the prompt is empty; give the model at least one token to continue")
        if context is None:
            return limit
        if num_tokens >= context:
            raise ContextOverflowError(
                f"the prompt has {num_tokens} tokens and the model's context holds {context}, which leaves no room for "
                "an answer; shorten the prompt or place fewer passages in it"
            )
        return min(limit, context - num_tokens)


def prepare(
    language_model: LanguageModel,
    prompt: str,
    passages: tuple[Passage, ...],
    query: str | None,
    config: NestConfig,
    *,
    background: str,
    stopwatch: Stopwatch,
) -> Request:
    """Write passages into the prompt where the method says so, and tokenize.

    Args:
        language_model: the model that will read the prompt.
        prompt: the caller's prompt.
        passages: what may be quoted, best first.
        query: the question, when the caller named it.
        config: settings.
        background: template that writes passages into a prompt.
        stopwatch: seconds spent on the request so far.

    Returns:
        the request.
    """
    require_text("prompt", prompt)
    notices = []
    if config.method != "lm" and not passages:
        notices.append("no passages: the model answered alone")
    located = locate(prompt, passages)
    if config.uses_prompt_passages and passages and not located:
        prompt, located = _place_fitting(
            language_model, prompt, passages[: config.prompt_passages], query, config, background, notices
        )
    tokens = encode_prompt(language_model, prompt, located)
    request = Request(config, prompt, tokens, passages, located, notices, Stopwatch(stopwatch))
    room = request.room(language_model.context_length)
    if room < config.max_new_tokens:
        notices.append(
            f"the answer was limited to {room} tokens instead of {config.max_new_tokens}: the prompt takes "
            f"{len(tokens.token_ids)} of the context's {language_model.context_length}"
        )
    return request


def encode_prompt(language_model: LanguageModel, prompt: str, located: Sequence[LocatedPassage]) -> TokenizedText:
    """Tokenize a prompt; control strings in the passages that stand in it are plain text."""
    return language_model.tokenizer.encode_prompt(
        prompt, [(passage.untrusted_start, passage.end) for passage in located]
    )


def _place_fitting(
    language_model: LanguageModel,
    prompt: str,
    passages: Sequence[Passage],
    query: str | None,
    config: NestConfig,
    background: str,
    notices: list[str],
) -> tuple[str, list[LocatedPassage]]:
    """Write as many passages into the prompt as the context holds beside the answer."""
    plain = encode_prompt(language_model, prompt, ())
    is_chat = any(token in language_model.tokenizer.control_ids for token in plain.token_ids[1:])
    at = question_start(prompt, query, is_chat=is_chat)
    context = language_model.context_length
    for number in range(len(passages), 0, -1):
        text, located = place(prompt, passages[:number], at=at, background=background)
        num_tokens = len(encode_prompt(language_model, text, located).token_ids)
        if context is None or num_tokens + config.max_new_tokens <= context:
            break
    else:
        number, text, located = 0, prompt, []
    if number < len(passages):
        notices.append(
            f"{number} of {len(passages)} passages were placed in the prompt: the others do not fit in the context "
            f"of {context} tokens beside an answer of {config.max_new_tokens}"
        )
    return text, located
