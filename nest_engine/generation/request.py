"""One request, ready to be read: settings, prompt with its passages, tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from nest_engine._stopwatch import Stopwatch
from nest_engine._validation import require_text
from nest_engine.citations.next_turn import next_turn_after
from nest_engine.citations.sentences import Sentence, sentences_of
from nest_engine.config import NestConfig
from nest_engine.datastore.passage_keys import PassageKeys
from nest_engine.decoding.sequence import LogitsProcessor, StoppingCriterion
from nest_engine.errors import ContextOverflowError, InputError
from nest_engine.generation.nearness import Nearness
from nest_engine.generation.passage_search import copies_among, find_passages
from nest_engine.generation.prompts import (
    LocatedPassage,
    follows_up,
    in_this_turn,
    locate,
    place,
    question_in,
    question_start,
    untrusted_ranges,
)
from nest_engine.generation.sentence_trust import trusted
from nest_engine.interfaces import LanguageModel, TokenizedText, Tokenizer
from nest_engine.records import Passage

if TYPE_CHECKING:
    import regex

    from nest_engine.engine import NestEngine

T = TypeVar("T")

_NO_LIMIT = 1 << 40  # tokens


@dataclass(frozen=True)
class Request:
    """One prompt and what may be quoted in its answer.

    Args:
        config: settings.
        prompt: the text that the model reads.
        tokens: the prompt's tokens.
        passages: what may be quoted.
        located: the passages that are in the prompt.
        sentences: the sentences of each passage, trusted as they answer the question; empty when
            spans may go beyond them, None if none of them seems to answer it: then drafts are only
            accepted where they are what the model itself writes, as in ``lossless``.
        untrusted: character ranges of the prompt that came from passages.
        notices: what the caller should know; grows while the request is worked on.
        stopwatch: seconds spent on the request.
        process_logits: changes the model's logits before anything else sees them.
        is_stopped: ends the answer at a token.
        read_ahead: keys that were computed before the prompt is read, by title and text of their
            passages; None if nobody has tried.
        query: the question, when the caller named it.
        is_refusal_sure: whether really nothing answers the question where ``sentences`` is None.
        next_turn: what ends the answer, where the model begins another turn.
        reads_reasoning: whether what the model says to itself is told from its answer.
    """

    config: NestConfig
    prompt: str
    tokens: TokenizedText
    passages: tuple[Passage, ...]
    located: Sequence[LocatedPassage]
    sentences: Sequence[Sequence[Sentence]] | None = ()
    untrusted: Sequence[tuple[int, int]] = ()
    notices: list[str] = field(default_factory=list)
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    process_logits: LogitsProcessor | None = None
    is_stopped: StoppingCriterion | None = None
    read_ahead: Mapping[tuple[str, str], PassageKeys] | None = None
    query: str | None = None
    is_refusal_sure: bool = False
    next_turn: regex.Pattern[str] | None = None
    reads_reasoning: bool = True

    @cached_property
    def copies(self) -> dict[int, int]:
        """The passages that say what an earlier one says, each with the first of them."""
        return copies_among(self.passages)

    @property
    def may_copy(self) -> bool:
        """Whether what the passages say may replace what the model itself would write."""
        return self.sentences is not None

    @property
    def quotes_sentences(self) -> bool:
        """Whether an answer goes sentence by sentence."""
        return self.may_copy and self.config.mixes and self.config.by_sentence

    @property
    def is_silent(self) -> bool:
        """Whether there is nothing to quote, and the model is not to have a word of its own."""
        goes_by_sentence = self.config.mixes and self.config.by_sentence
        has_none = not (self.may_copy and self.passages)
        return has_none and goes_by_sentence and self.config.own_words == 0

    @property
    def may_cite(self) -> bool:
        """Whether what the model repeats of the passages is cited."""
        return self.may_copy or not self.is_refusal_sure

    def require_room(self, context: int | None) -> None:
        """Make sure that an answer fits in the context; add a notice when it has to be shorter.

        Raises:
            InputError: if the prompt is empty.
            ContextOverflowError: if the prompt fills the context.
        """
        room, wanted = self.room(context), self.config.max_new_tokens
        if wanted is not None and room < wanted:
            self.notices.append(
                f"the answer was limited to {room} tokens instead of {wanted}: "
                f"the prompt takes "
                f"{len(self.tokens.token_ids)} of the context's {context}"
            )

    def room(self, context: int | None) -> int:
        """Return the most tokens that the answer may have in a context of ``context`` tokens.

        Raises:
            InputError: if the prompt is empty.
            ContextOverflowError: if the prompt fills the context.
        """
        num_tokens, limit = len(self.tokens.token_ids), self.config.max_new_tokens or _NO_LIMIT
        if num_tokens == 0:
            raise InputError("the prompt is empty; give the model at least one token to continue")
        if context is None:
            return limit
        if num_tokens >= context:
            raise ContextOverflowError.no_room(num_tokens, context)
        return min(limit, context - num_tokens)


def prepare(
    engine: NestEngine,
    prompts: Sequence[str],
    passages: Sequence[Sequence[Passage] | None] | None,
    queries: Sequence[str | None] | None,
    config: NestConfig,
) -> list[Request]:
    """Find passages for each prompt, write them into it where the method says so, and tokenize.

    Args:
        engine: brings the model, the retriever, and how passages are written into prompts.
        prompts: the prompts.
        passages: what may be quoted, for each prompt; None asks the retriever.
        queries: what to search for, for each prompt, and what their sentences are to answer.
        config: settings.

    Returns:
        one request for each prompt.
    """
    queries_B = _for_each(prompts, "queries", queries)
    passages_B = _for_each(prompts, "passages", passages)
    stopwatch = Stopwatch()
    with stopwatch.phase("passage_search"):
        found_B = find_passages(engine.retriever, prompts, passages_B, queries_B, config)
    return [
        _prepare(
            engine.language_model,
            prompt,
            found,
            query,
            config,
            background=engine.background,
            nearness=engine.nearness,
            stopwatch=stopwatch,
        )
        for prompt, found, query in zip(prompts, found_B, queries_B, strict=True)
    ]


def _for_each(
    prompts: Sequence[str], name: str, given: Sequence[T | None] | None
) -> Sequence[T | None]:
    if isinstance(prompts, str):
        raise InputError(
            "prompts must be a sequence of strings, got one string; use generate() for one prompt"
        )
    if given is None:
        return [None] * len(prompts)
    if len(given) != len(prompts):
        raise InputError(
            f"{len(prompts)} prompts but {len(given)} {name}; give one for each prompt"
        )
    return given


def _prepare(
    language_model: LanguageModel,
    prompt: str,
    passages: tuple[Passage, ...],
    query: str | None,
    config: NestConfig,
    *,
    background: str,
    nearness: Nearness,
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
        nearness: tells how far sentences can be trusted to answer the query.
        stopwatch: seconds spent on the request so far.

    Returns:
        the request.
    """
    require_text("prompt", prompt)
    has_template = language_model.tokenizer.has_chat_template
    next_turn = None if has_template else next_turn_after(prompt)
    notices = []
    question = query or prompt
    control_strings = _control_offsets(language_model.tokenizer, prompt)
    if passages and follows_up(prompt, query, control_strings):
        notices.append(
            f"{query!r} was searched for by itself, though it goes on with the conversation; give "
            "query= in words that stand alone"
        )
    located = in_this_turn(prompt, locate(prompt, passages), control_strings)
    if config.uses_prompt_passages and prompt and passages and not located:
        context = language_model.context_length
        answer_tokens = _reserved(config.max_new_tokens, context)
        room = None if context is None else context - answer_tokens
        copies = copies_among(passages)
        distinct = [number for number in range(len(passages)) if number not in copies]
        placeable = distinct[: config.prompt_passages]
        try:
            prompt, located = _place_fitting(
                language_model.tokenizer,
                prompt,
                [passages[number] for number in placeable],
                query,
                room,
                background,
            )
            located = [replace(each, number=placeable[each.number]) for each in located]
        except InputError as error:
            if not config.uses_datastore:
                raise
            notices.append(f"the passages are quoted, but the model did not read them: {error}")
        else:
            if len(located) < len(placeable):
                notices.append(
                    f"{len(located)} of {len(placeable)} passages were placed in the prompt: the "
                    f"others do not fit in the "
                    f"context of {context} tokens beside an answer of {answer_tokens}"
                )
    untrusted = untrusted_ranges(
        prompt, passages, located, language_model.tokenizer.control_strings
    )
    tokens = language_model.tokenizer.encode_prompt(prompt, untrusted)
    sentences_P, is_refusal_sure = quotable_sentences(
        language_model.tokenizer, passages, question, config, nearness
    )
    request = Request(
        config,
        prompt,
        tokens,
        passages,
        located,
        sentences_P,
        untrusted,
        notices,
        Stopwatch(stopwatch),
        query=query,
        is_refusal_sure=is_refusal_sure,
        next_turn=next_turn,
    )
    if config.method != "lm" and not (passages and request.may_copy):
        notices.append(_unanswered(request))
    return request


def _unanswered(request: Request) -> str:
    """Return what to say of a question that no sentence answers."""
    number = len(request.passages)
    them = "passage" if number == 1 else f"{number} passages"
    answers = f"no sentence of the {them} seems to answer the question" if number else "no passages"
    if request.is_silent:
        return f"{answers}: nothing is said, since own_words=0 leaves the model no word"
    if not number:
        return f"{answers}: the model answered alone"
    cited = "nothing is cited" if request.is_refusal_sure else "what it repeats of them is cited"
    return f"{answers}: the model chose every word, and {cited}"


def _reserved(max_new_tokens: int | None, context: int | None) -> int:
    """Return how many tokens of the context to keep free of passages, for the answer."""
    if context is None:
        return max_new_tokens or 0
    # Whoever asks for more than half of the context does not know it: passages come first.
    most = context // 2
    return max_new_tokens if max_new_tokens is not None and max_new_tokens <= most else most // 2


def quotable_sentences(
    tokenizer: Tokenizer,
    passages: Sequence[Passage],
    asked: str,
    config: NestConfig,
    nearness: Nearness,
) -> tuple[list[list[Sentence]] | None, bool]:
    """Return the sentences of passages with their trust, and whether really nothing answers.

    Args:
        tokenizer: the model's.
        passages: what may be quoted.
        asked: a question, or a prompt that may hold passages.
        config: settings.
        nearness: tells how near sentences are to the question.

    Returns:
        the sentences of each passage, in characters; nothing where spans may go beyond them, and
        None if none answers what is asked; and whether it is sure then that the passages do not.
    """
    if not (config.by_sentence and config.uses_datastore and passages):
        return [], False
    question = question_in(asked, passages, _control_offsets(tokenizer, asked))
    sentences_P = trusted(
        nearness, question, passages, [sentences_of(passage.text) for passage in passages]
    )
    is_refusal = sentences_P is None and nearness.knows_wording
    return sentences_P, is_refusal and nearness.asks_of_all(question) is None


def _place_fitting(
    tokenizer: Tokenizer,
    prompt: str,
    passages: Sequence[Passage],
    query: str | None,
    room: int | None,
    background: str,
) -> tuple[str, list[LocatedPassage]]:
    """Write as many passages into the prompt as ``room`` tokens hold."""
    at = question_start(prompt, query, _control_offsets(tokenizer, prompt))
    for number in range(len(passages), 0, -1):
        text, located = place(prompt, passages[:number], at=at, background=background)
        tokens = tokenizer.encode_prompt(
            text, untrusted_ranges(text, passages[:number], located, tokenizer.control_strings)
        )
        if room is None or len(tokens.token_ids) <= room:
            return text, located
    return prompt, []


def _control_offsets(tokenizer: Tokenizer, prompt: str) -> list[tuple[int, int]]:
    """Return where control strings are in a prompt."""
    tokens = tokenizer.encode_prompt(prompt)
    return [
        (start, end)
        for token, start, end in zip(*tokens, strict=True)
        if token in tokenizer.control_ids and end > start
    ]
