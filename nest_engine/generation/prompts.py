"""Passages in the prompt: finding them there, and placing them there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import regex

from nest_engine.citations.languages import is_question
from nest_engine.citations.sentences import sentences_of
from nest_engine.errors import InputError
from nest_engine.interfaces import TokenizedPassage, TokenizedText
from nest_engine.models.tokenization import titled_text
from nest_engine.records import Passage

BACKGROUND = "Background: {passages}\n\n"

# "Question: " and the like, in front of what is asked.
_COLONS = ":\N{FULLWIDTH COLON}"
_LABEL = regex.compile(rf"^\W{{0,4}}\w+(?: \w+){{0,2}} ?[{_COLONS}]\s*(?=\S)")
_ROLE = regex.compile(r"\w+(?:\n+|\Z)")
_PLAIN_TURN = regex.compile(r"^(?:Question|Answer): ", regex.MULTILINE)
_PRONOUNS = frozenset(
    [
        *("he", "she", "it", "they", "him", "her", "them", "his", "hers", "its", "their"),
        *("this", "that", "these", "those"),
    ]
)
_GOES_ON = regex.compile(r"(?:and|but|what about|how about)\b", regex.IGNORECASE)
_LONGEST_FOLLOW_UP = 12  # words
_AROUND = "?!.,;:'\"()"

# Shorter texts occur in a prompt by coincidence: a word, or a control string of its template.
_SHORTEST_LOCATED = 32


@dataclass(frozen=True)
class LocatedPassage:
    """A passage that occurs word for word in a prompt.

    Args:
        number: index into the passages of the request.
        start: first character of its text in the prompt.
        end: one past the last character.
        untrusted_start: where text from outside begins: at the title, when we wrote that too.
    """

    number: int
    start: int
    end: int
    untrusted_start: int


def locate(prompt: str, passages: Sequence[Passage]) -> list[LocatedPassage]:
    """Find passages in a prompt, first come first served where they overlap.

    Args:
        prompt: the prompt.
        passages: the passages.

    Returns:
        disjoint ranges, in the order of the prompt.
    """
    located: list[LocatedPassage] = []
    for number, passage in enumerate(passages):
        start = prompt.find(passage.text) if len(passage.text) >= _SHORTEST_LOCATED else -1
        end = start + len(passage.text)
        if start >= 0 and all(end <= other.start or start >= other.end for other in located):
            located.append(LocatedPassage(number, start, end, start))
    return sorted(located, key=lambda found: found.start)


def place(
    prompt: str, passages: Sequence[Passage], *, at: int, background: str = BACKGROUND
) -> tuple[str, list[LocatedPassage]]:
    """Write passages into a prompt as background.

    Args:
        prompt: the prompt.
        passages: what to write, best first.
        at: character of the prompt in front of which to write.
        background: template with ``{passages}``.

    Returns:
        the longer prompt, and where each passage is in it.
    """
    before, after = background.split("{passages}")
    text = prompt[:at] + before
    located = []
    for number, passage in enumerate(passages):
        text += "\n\n" if number else ""
        titled = titled_text(passage)
        text += titled
        located.append(
            LocatedPassage(
                number, len(text) - len(passage.text), len(text), len(text) - len(titled)
            )
        )
    return text + after + prompt[at:], located


def untrusted_ranges(
    prompt: str,
    passages: Sequence[Passage],
    placed: Sequence[LocatedPassage],
    control_strings: Collection[str] = (),
    *,
    titles: bool = True,
) -> list[tuple[int, int]]:
    """Return every stretch of a prompt that came from a passage and must be read as plain text.

    A passage may occur in a prompt several times, stripped of surrounding space, and overlap with
    others: all of it counts, and so do titles. Short texts count only if they hold a control string
    and more; a lone control string cannot be told from the template's own.

    Args:
        prompt: the prompt.
        passages: all passages of the request.
        placed: passages known to be in the prompt, however short.
        control_strings: what steers the model.
        titles: whether titles of passages count.

    Returns:
        disjoint character ranges, in order.
    """
    ranges = [(passage.untrusted_start, passage.end) for passage in placed]
    texts = {passage.text.strip() for passage in passages}
    if titles:
        texts |= {passage.title.strip() for passage in passages}
    texts -= {"", *control_strings}
    for text in texts:
        if len(text) < _SHORTEST_LOCATED and not any(
            control in text for control in control_strings
        ):
            continue
        start = prompt.find(text)
        while start >= 0:
            ranges.append((start, start + len(text)))
            start = prompt.find(text, start + 1)
    merged: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            start, end = merged[-1][0], max(end, merged.pop()[1])
        merged.append((start, end))
    return merged


def question_in(
    text: str,
    passages: Sequence[Passage],
    control_strings: Sequence[tuple[int, int]] = (),
) -> str:
    """Return what a text asks, apart from passages, control strings and instructions around it.

    In a prompt, which holds passages, control strings or a label with nothing behind it
    ("Answer:"), that is the last sentence with a question mark, or else the last line with a label
    ("Query: ..."), or else all that is no passage, labels in front of one if there is nothing else
    ("Write a summary of the following:"); in a chat, of the last turn unless that is nothing but
    passages. Any other text is a question.

    Args:
        text: a question, or a prompt that may hold passages.
        passages: all passages of the request.
        control_strings: where control strings are in the text.
    """
    turns = _turns(text, control_strings)
    for start, end in turns[-1:]:
        said = text[start:end]
        asked = _asked(said, passages) or (len(turns) == 1 and _asked(said, passages, labels=True))
        if asked and asked.strip():
            return asked.strip()
    return (
        _asked(text, passages, control_strings)
        or _asked(text, passages, control_strings, labels=True)
        or text
    )


def _asked(
    text: str,
    passages: Sequence[Passage],
    control_strings: Sequence[tuple[int, int]] = (),
    *,
    labels: bool = False,
) -> str:
    """Return what a text asks, or nothing; arguments as for :func:`question_in`.

    With ``labels``, one with nothing behind it may be what is asked.
    """
    # A title in a line with other words is part of what is asked: "Tell me about ...".
    in_text = untrusted_ranges(text, passages, locate(text, passages), titles=False)
    others = [*in_text, *control_strings]
    titles = {passage.title.strip() for passage in passages}
    kept, end = [], 0
    for start, stop in sorted(others):
        kept.append(text[end : max(start, end)])
        end = max(stop, end)
    written = [line.strip() for line in "\n".join([*kept, text[end:]]).splitlines()]
    lines = [
        line
        for line in written
        if any(map(str.isalnum, line)) and (labels or line[-1] not in _COLONS)
    ]
    lines = [line for line in lines if line not in titles] or lines
    if not others and not any(line[-1:] in _COLONS for line in written if line):
        return text
    plain = [_LABEL.sub("", line) for line in lines]
    questions = [
        sentence
        for line in plain
        for start, end, *_ in sentences_of(line)
        if is_question((sentence := line[start:end]).rstrip("\"'”’»」) "))
    ]
    labelled = [after for after, line in zip(plain, lines, strict=True) if after != line]
    asked = questions or labelled
    return asked[-1] if asked else "\n".join(lines)


def question_start(
    prompt: str, query: str | None, control_strings: Sequence[tuple[int, int]]
) -> int:
    """Return where background belongs: at the start, or before the question in a chat message.

    Args:
        prompt: the prompt.
        query: what was searched for, when the caller named it: mostly the question as it stands in
            the prompt. A question in other words leaves the last turn.
        control_strings: where control strings are in the prompt; more than a leading one make it
            a chat.

    Raises:
        InputError: if the question cannot be found in a chat prompt.
    """
    leading = control_strings[0][1] if control_strings and control_strings[0][0] == 0 else 0
    if not _is_chat(control_strings):
        return leading
    # Behind the last control string the answer begins: a template may hold the query's words there,
    # as in "model:".
    start = prompt.rfind(query, 0, control_strings[-1][0]) if query else -1
    if start < 0 and query:
        start = max((start for start, _ in _turns(prompt, control_strings)), default=-1)
    if start < 0:
        raise InputError(
            f"query={query!r} does not stand in the chat prompt, so passages cannot be placed in "
            f"front of the "
            "question; give the question as query=, or write the passages into the prompt yourself"
        )
    return start


def _is_chat(control_strings: Sequence[tuple[int, int]]) -> bool:
    """Return whether there are more control strings than one in front of a text."""
    return len(control_strings) > sum(start == 0 for start, _ in control_strings[:1])


def _turns(prompt: str, control_strings: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the character ranges of the turns of a chat, without their roles, but for the answer.

    Between two control strings stands a turn, with its role in a line of its own or without, or
    the role alone.
    """
    turns = []
    for (_, start), (end, _) in pairwise(control_strings):
        text = prompt[start:end]
        role = _ROLE.match(text)
        if text.strip() and not (role and role.end() == len(text)):
            turns.append((start + (role.end() if role else 0), end))
    return turns


def in_this_turn(
    prompt: str,
    located: Sequence[LocatedPassage],
    control_strings: Sequence[tuple[int, int]],
) -> list[LocatedPassage]:
    """Return the passages that a prompt holds for its last turn: no quotations in earlier answers.

    Those stand in the first turn, that of the instructions, or in the last.

    Args:
        prompt: the prompt, of one turn or several.
        located: the passages that it holds.
        control_strings: where control strings are in the prompt.
    """
    if _is_chat(control_strings):
        turns = _turns(prompt, control_strings)
    else:
        starts = [turn.start() for turn in _PLAIN_TURN.finditer(prompt)]
        turns = list(pairwise([*starts, len(prompt)]))
    if len(turns) < 2:
        return list(located)
    earlier = range(turns[1][0], turns[-1][0])
    return [each for each in located if each.start not in earlier]


def leans_on_context(question: str) -> bool:
    """Return whether a question seems to go on with a conversation: "When did he discover it?".

    Of English questions alone: short ones with a pronoun, or a beginning such as "And", and without
    a name.
    """
    words = question.split()
    if len(words) > _LONGEST_FOLLOW_UP or any(word[:1].isupper() for word in words[1:]):
        return False
    said = {word.strip(_AROUND).lower() for word in words}
    return bool(said & _PRONOUNS) or bool(_GOES_ON.match(question)) or len(words) == 1


def follows_up(prompt: str, query: str | None, control_strings: Sequence[tuple[int, int]]) -> bool:
    """Return whether a query is the last turn of a conversation, and leans on the turns before."""
    if query is None or not leans_on_context(query):
        return False
    turns = _turns(prompt, control_strings) if _is_chat(control_strings) else []
    num_turns = len(turns) or len(_PLAIN_TURN.findall(prompt))
    return num_turns > 2 and query in prompt


def require_background(background: str) -> str:
    """Return a background template if it has exactly one place for passages."""
    if background.count("{passages}") != 1:
        raise InputError(f"background={background!r} must hold {{passages}} exactly once")
    return background


def passage_in_prompt(
    prompt: TokenizedText, located: LocatedPassage, text: str
) -> tuple[int, TokenizedPassage]:
    """Return the prompt tokens that stand for a passage, as its tokens.

    A token that also covers characters outside the passage is left out, unless those are the
    space before it.

    Args:
        prompt: the tokenized prompt.
        located: where the passage is.
        text: the prompt's text.

    Returns:
        index of the first such token in the prompt, and the tokens with offsets in the passage.
    """
    inside = [
        i
        for i, (start, end) in enumerate(zip(prompt.starts, prompt.ends, strict=True))
        if located.start < end <= located.end
        and (start >= located.start or text[start : located.start].isspace())
    ]
    if not inside:
        return 0, TokenizedPassage((), (), (), ())
    first, last = inside[0], inside[-1] + 1
    return first, TokenizedPassage(
        context_ids=(),
        token_ids=prompt.token_ids[first:last],
        starts=tuple(max(start - located.start, 0) for start in prompt.starts[first:last]),
        ends=tuple(end - located.start for end in prompt.ends[first:last]),
    )
