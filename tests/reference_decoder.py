"""The oracle: NEST written as slowly and plainly as possible.

No cache, no batching, no speculation in the forward pass: every distribution is computed from
scratch by reading the whole text again. Only the order of decisions is the algorithm's. It shares
no code with the engine's decoding.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers


@dataclass
class Entry:
    """One token of a passage that can be copied."""

    key: torch.Tensor
    value: int
    passage: int
    position: int


@dataclass
class ReferenceAnswer:
    """What the oracle decided."""

    tokens: list[int] = field(default_factory=list)
    provenance: list[tuple[int, int] | None] = field(default_factory=list)
    lambdas: list[float] = field(default_factory=list)
    # status, token, p_M, lambda
    trace: list[tuple[str, int, float, float]] = field(default_factory=list)
    num_rejections: int = 0
    num_drafts: int = 0


@dataclass
class View:
    """Everything that is known about the next token."""

    lm: list[float]
    mixed: list[float]
    lambda_: float
    neighbors: list[tuple[float, int]]  # minus the logarithm of the weight, entry


class ReferenceDecoder:
    """A naive decoder.

    Args:
        model: a transformers model in float32.
        key_module: the module whose input is the hidden state that is searched with and for.
        control_ids: tokens that are never copied.
    """

    def __init__(
        self, model: transformers.PreTrainedModel, key_module: str, control_ids: set[int]
    ) -> None:
        self.model = model
        self.key_module = model.get_submodule(key_module)
        self.control_ids = control_ids

    def read(self, tokens: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and hidden states after every token."""
        seen: dict[str, torch.Tensor] = {}

        def keep(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen["hidden"] = (args[0] if args else kwargs["hidden_states"]).reshape(len(tokens), -1)

        handle = self.key_module.register_forward_pre_hook(keep, with_kwargs=True)
        with torch.no_grad():
            logits = self.model(
                torch.tensor([tokens], device=self.model.device), use_cache=False
            ).logits[0]
        handle.remove()
        return logits, seen["hidden"]

    def passage_entries(self, number: int, context: list[int], tokens: list[int]) -> list[Entry]:
        """Read a passage by itself and return its entries."""
        _, hidden = self.read(context + tokens)
        return [
            Entry(hidden[len(context) + position - 1], token, number, position)
            for position, token in enumerate(tokens)
            if len(context) + position > 0
        ]

    def prompt_entries(self, number: int, prompt: list[int], first: int, last: int) -> list[Entry]:
        """Return entries of a passage that stands in the prompt at tokens ``first`` to ``last``."""
        _, hidden = self.read(prompt)
        return [Entry(hidden[i - 1], prompt[i], number, i - first) for i in range(first, last)]

    def decode(
        self,
        prompt: list[int],
        entries: list[Entry],
        config: Any,
        eos_ids: set[int],
    ) -> ReferenceAnswer:
        """Decode greedily under a ``NestConfig``, word by word."""
        answer = ReferenceAnswer()
        masked = {i for i, entry in enumerate(entries) if entry.value in self.control_ids | eos_ids}
        continuation: int | None = None
        was_rejected = False
        lossless = config.method == "lossless"

        def look(suffix: list[int]) -> View:
            return self.look(prompt + answer.tokens + suffix, entries, masked, config)

        def stands(token: int, view: View) -> bool:
            if lossless:
                return token == argmax(view.lm)
            return view.mixed[token] > 0.5 * config.gamma * max(view.mixed)

        def note(status: str, token: int, view: View) -> None:
            probability = (view.lm if lossless else view.mixed)[token]
            answer.trace.append((status, token, probability, 1.0 if lossless else view.lambda_))

        def span(start: int) -> list[int]:
            found: list[int] = []
            limit = min(config.max_draft_tokens, config.max_new_tokens - len(answer.tokens))
            while len(found) < limit:
                i = start + len(found)
                same_passage = i < len(entries) and entries[i].passage == entries[start].passage
                if not same_passage or i in masked:
                    break
                found.append(i)
            return found

        while len(answer.tokens) < config.max_new_tokens:
            view = look([])
            copied: list[int] = []
            if continuation is not None and stands(entries[continuation].value, view):
                copied = span(continuation)
                note("accepted", entries[continuation].value, view)
            else:
                if continuation is not None:
                    note("rejected", entries[continuation].value, view)
                was_rejected = was_rejected or continuation is not None
                token = argmax(view.lm if lossless else view.mixed)
                note("picked", token, view)
                agreeing = [(d, i) for d, i in view.neighbors if entries[i].value == token]
                may_draft = config.draft_after_rejection or not was_rejected
                may_copy = view.lambda_ <= config.delta and may_draft
                repeated: list[int] = []
                if may_draft and lossless:  # what the text so far stood before needs no confidence
                    in_passage, in_text = self.match(
                        prompt + answer.tokens + [token], entries, masked
                    )
                    repeated = [] if in_text is None else in_text
                    copied = [] if in_passage is None else span(in_passage)
                    if (
                        in_text is not None
                        and [entries[i].value for i in copied[1:]] != in_text[: len(copied) - 1]
                    ):
                        copied = []
                if agreeing and may_copy and not copied and not repeated:
                    copied = span(min(agreeing)[1])
            draft = [entries[i].value for i in copied] or [token]
            if not copied and repeated:
                limit = min(config.max_draft_tokens, config.max_new_tokens - len(answer.tokens))
                draft = [token, *repeated][:limit]
            answer.num_drafts += len(copied) > 1

            accepted, lambdas = 1, [1.0 if lossless else view.lambda_]
            while accepted < len(draft):
                view = look(draft[:accepted])
                if not stands(draft[accepted], view):
                    note("rejected", draft[accepted], view)
                    break
                note("accepted", draft[accepted], view)
                lambdas.append(1.0 if lossless else view.lambda_)
                accepted += 1
            was_rejected = accepted < len(draft)
            answer.num_rejections += was_rejected

            answer.tokens += draft[:accepted]
            answer.lambdas += lambdas
            kept = copied[:accepted]
            answer.provenance += [(entries[i].passage, entries[i].position) for i in kept] or [
                None
            ] * accepted
            if config.mask_copied:
                masked |= set(kept)
            continuation = None
            if kept and not was_rejected and config.max_draft_tokens > 1:
                following = kept[-1] + 1
                goes_on = (
                    following < len(entries)
                    and entries[following].passage == entries[kept[-1]].passage
                )
                continuation = following if goes_on and following not in masked else None
            if answer.tokens[-1] in eos_ids:
                break
        return answer

    def match(
        self, text: list[int], entries: list[Entry], masked: set[int]
    ) -> tuple[int | None, list[int] | None]:
        """Find where the end of a text stood before: the best entry, and what followed it there.

        The longest agreement of two to eight tokens counts; then the better-ranked passage, the
        later place. The text itself counts where it agrees longer than any passage.
        """

        def agreement(before: list[int]) -> int:
            length = 0
            while (
                length < min(8, len(before), len(text)) and before[-1 - length] == text[-1 - length]
            ):
                length += 1
            return length

        in_passages = []
        for i, entry in enumerate(entries):
            before = []
            for j in range(i, -1, -1):
                if entries[j].passage != entry.passage or j in masked:
                    break
                before.insert(0, entries[j].value)
            in_passages.append((agreement(before), -entry.passage, i))
        in_text = [(agreement(text[: i + 1]), i) for i in range(len(text) - 1)]
        best, best_in_text = max(in_passages, default=(0, 0, 0)), max(in_text, default=(0, 0))
        in_passage = best[2] if best[0] >= 2 else None
        if best[0] >= best_in_text[0] or best_in_text[0] < 2:
            return in_passage, None
        repeated = list(text)
        for i in range(64):  # the repetition may run into itself
            repeated.append(repeated[best_in_text[1] + 1 + i])
        return in_passage, repeated[len(text) :]

    def look(self, tokens: list[int], entries: list[Entry], masked: set[int], config: Any) -> View:
        """Return p_LM, p_M, lambda and the neighbours after ``tokens``."""
        logits, hidden = self.read(tokens)
        lm = torch.softmax(logits[-1].double(), -1).tolist()
        query = hidden[-1].double()
        distances = [
            (float(((query - entry.key.double()) ** 2).sum()), i)
            for i, entry in enumerate(entries)
            if i not in masked
        ]
        nearest = sorted(distances)[: config.k]
        if not nearest:
            return View(lm, lm, 1.0, [])
        closest, farthest = nearest[0][0], nearest[-1][0]
        costs = [
            (distance - closest) / (config.knn_temperature * math.sqrt(len(query)))
            for distance, _ in nearest
        ]
        weights = [math.exp(-cost) for cost in costs]
        knn: dict[int, float] = defaultdict(float)
        for (_, i), weight in zip(nearest, weights, strict=True):
            knn[entries[i].value] += weight / sum(weights)
        ratio = closest / farthest if farthest > 0 else 1.0
        lambda_ = 1 / (1 + math.exp(-(ratio - config.alpha) / config.tau))
        if config.fixed_lambda is not None:
            lambda_ = config.fixed_lambda
        mixed = [
            lambda_ * p + (1 - lambda_) * knn.get(w, 0.0)
            if p >= config.plausibility * max(lm)
            else 0.0
            for w, p in enumerate(lm)
        ]
        mixed = [p / sum(mixed) for p in mixed]
        by_weight = [(cost, i) for cost, (_, i) in zip(costs, nearest, strict=True)]
        return View(lm, mixed, lambda_, by_weight)


def argmax(values: list[float]) -> int:
    """Return the index of the largest value."""
    return max(range(len(values)), key=values.__getitem__)
