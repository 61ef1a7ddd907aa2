"""Baselines: transformers alone, prompt lookup, suffix decoding, NEST as published."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessorList

from nest_engine.interfaces import LanguageModel, Outputs, Prefill, Session
from nest_engine.models.huggingface import HuggingFaceLanguageModel

# For prompt lookup, as transformers advises.
LONGEST_DRAFT = 10


@dataclass(frozen=True)
class Answered:
    """Answers of a rival to a batch of prompts.

    Args:
        token_ids: tokens of all answers.
        num_forwards: forward passes of the model.
        seconds: wall-clock time.
        drafted: number of drafted tokens; 0 if the method drafts nothing.
        accepted: number of drafted tokens that were accepted.
    """

    token_ids: tuple[int, ...]
    num_forwards: int
    seconds: float
    drafted: int = 0
    accepted: int = 0

    @property
    def num_tokens(self) -> int:
        """Tokens of all answers."""
        return len(self.token_ids)


def generate(
    language_model: HuggingFaceLanguageModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    logits_processor: LogitsProcessorList | None = None,
    **options: Any,
) -> Answered:
    """Answer by transformers' ``generate``, greedily, prompts padded at the start.

    Args:
        language_model: the model.
        prompts: token ids of each prompt.
        max_new_tokens: most tokens of each answer.
        logits_processor: changes the logits.
        options: further arguments of ``generate``, such as ``prompt_lookup_num_tokens``.
    """
    width = max(map(len, prompts))
    token_ids_BT = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask_BT = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    with counted_forwards(language_model.model) as count:
        began = time.perf_counter()
        output = language_model.model.generate(
            token_ids_BT,
            attention_mask=mask_BT,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            logits_processor=logits_processor,
            **options,
        )
        seconds = time.perf_counter() - began
    said = [_ended(row[width:].tolist(), language_model.eos_ids) for row in output]
    return Answered(tuple(itertools.chain(*said)), count.forwards, seconds)


def prompt_lookup(
    language_model: HuggingFaceLanguageModel, prompt: Sequence[int], max_new_tokens: int
) -> Answered:
    """Answer one prompt by transformers' prompt lookup, with n-grams of the text as drafts."""
    return generate(
        language_model,
        [prompt],
        max_new_tokens,
        prompt_lookup_num_tokens=LONGEST_DRAFT,
        max_matching_ngram_size=3,
    )


def suffix_decoding(
    language_model: HuggingFaceLanguageModel, prompt: Sequence[int], max_new_tokens: int
) -> Answered:
    """Answer one prompt by suffix decoding (``arctic-inference``), verified greedily.

    Raises:
        ModuleNotFoundError: if ``arctic-inference`` is not installed.
    """
    from arctic_inference.suffix_decoding import SuffixDecodingCache

    suffixes = SuffixDecodingCache(max_tree_depth=64, max_cached_requests=0)
    began = time.perf_counter()
    suffixes.start_request(0, list(prompt))
    session, [prefill] = language_model.prefill([prompt])
    answer: list[int] = []
    logits_V = prefill.frontier.logits_V
    num_forwards, drafted, accepted = 1, 0, 0
    while True:
        token = int(logits_V.argmax())
        answer.append(token)
        if token in language_model.eos_ids or len(answer) == max_new_tokens:
            break
        suffixes.add_active_response(0, [token])
        draft = suffixes.speculate(
            0,
            [*prompt, *answer],
            max_spec_tokens=min(64, max_new_tokens - len(answer)),
            min_token_prob=0.1,
        ).token_ids
        [outputs] = session.extend([[token, *draft]])
        num_forwards += 1
        predicted = outputs.logits_TV[:-1].argmax(-1).tolist()
        accepted_ids = [
            t
            for t, _ in itertools.takewhile(
                lambda pair: pair[0] == pair[1], zip(draft, predicted, strict=True)
            )
        ]
        drafted, accepted = drafted + len(draft), accepted + len(accepted_ids)
        if accepted_ids:
            answer += accepted_ids
            suffixes.add_active_response(0, accepted_ids)
        session.truncate([len(prompt) + len(answer)])
        logits_V = outputs.logits_TV[len(accepted_ids)]
        ended = next((i for i, t in enumerate(answer) if t in language_model.eos_ids), None)
        if ended is not None or len(answer) == max_new_tokens:
            break
    suffixes.stop_request(0)
    return Answered(
        tuple(_ended(answer, language_model.eos_ids)),
        num_forwards,
        time.perf_counter() - began,
        drafted,
        accepted,
    )


class LlamaCpp:
    """llama.cpp by itself, greedily: its own decoding loop over its own sampler, in C.

    Args:
        file: the GGUF file.
        eos_ids: tokens that end an answer.
        flash_attn: whether attention is computed in blocks, as llama.cpp's server does.
        context: most tokens of a prompt with its answer.
    """

    def __init__(
        self, file: str, eos_ids: frozenset[int], *, flash_attn: bool = True, context: int = 4096
    ) -> None:
        from nest_engine.models.llama_cpp.library import bindings

        self._llama = llama = bindings()
        self._eos_ids = eos_ids
        self._model = llama.llama_model_load_from_file(
            file.encode(), llama.llama_model_default_params()
        )
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = context
        parameters.n_threads = parameters.n_threads_batch = torch.get_num_threads()
        parameters.flash_attn_type = (
            llama.LLAMA_FLASH_ATTN_TYPE_ENABLED
            if flash_attn
            else llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        parameters.no_perf = True
        self._context = llama.llama_init_from_model(self._model, parameters)
        self._sampler = llama.llama_sampler_init_greedy()

    def answer(self, prompt: Sequence[int], max_new_tokens: int) -> Answered:
        """Answer one prompt, of which nothing is known."""
        llama, context = self._llama, self._context
        began = time.perf_counter()
        llama.llama_memory_clear(llama.llama_get_memory(context), False)
        batch_size = llama.llama_n_batch(context)
        for start in range(0, len(prompt), batch_size):
            self._read(prompt[start : start + batch_size])
        said: list[int] = []
        while True:
            said.append(llama.llama_sampler_sample(self._sampler, context, -1))
            if said[-1] in self._eos_ids or len(said) == max_new_tokens:
                return Answered(tuple(said), len(said), time.perf_counter() - began)
            self._read(said[-1:])

    def _read(self, token_ids: Sequence[int]) -> None:
        tokens = (self._llama.llama_token * len(token_ids))(*token_ids)
        status = self._llama.llama_decode(
            self._context, self._llama.llama_batch_get_one(tokens, len(token_ids))
        )
        assert status == 0, status


class LlamaCppLookup:
    """llama.cpp with the n-gram drafting that llama-cpp-python has.

    Args:
        file: the GGUF file.
        eos_ids: tokens that end an answer.
        context: most tokens of a prompt with its answer.
    """

    def __init__(self, file: str, eos_ids: frozenset[int], context: int = 4096) -> None:
        from llama_cpp import Llama
        from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

        self._eos_ids = eos_ids
        self._llama = Llama(
            file,
            n_ctx=context,
            n_threads=torch.get_num_threads(),
            n_threads_batch=torch.get_num_threads(),
            draft_model=LlamaPromptLookupDecoding(max_ngram_size=3, num_pred_tokens=LONGEST_DRAFT),
            verbose=False,
        )

    def answer(self, prompt: Sequence[int], max_new_tokens: int) -> Answered:
        """Answer one prompt, of which nothing is known."""
        self._llama.reset()
        began = time.perf_counter()
        said: list[int] = []
        for token in self._llama.generate(list(prompt), temp=0.0, repeat_penalty=1.0):
            said.append(token)
            if token in self._eos_ids or len(said) == max_new_tokens:
                break
        return Answered(tuple(said), len(said), time.perf_counter() - began)


class TwoForwards:
    """A language model that spends two forwards on every span, as the published schedule does.

    There, one forward over the last token finds where to copy from, and another verifies the copied
    span; the state after the last accepted token is computed again. The text is the same.

    Args:
        language_model: the model.
    """

    def __init__(self, language_model: LanguageModel) -> None:
        self._language_model = language_model
        self.num_forwards = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._language_model, name)

    def prefill(self, prompts: Sequence[Sequence[int]]) -> tuple[Session, list[Prefill]]:
        """Read prompts and open a session on them."""
        self.num_forwards += 1
        session, prefills = self._language_model.prefill(prompts)
        return _TwoForwardsSession(self, session), prefills


class _TwoForwardsSession:
    def __init__(self, owner: TwoForwards, session: Session) -> None:
        self._owner, self._session = owner, session
        self._drafts: Sequence[Sequence[int]] = ()

    @property
    def lengths(self) -> tuple[int, ...]:
        return self._session.lengths

    def extend(self, drafts: Sequence[Sequence[int]]) -> list[Outputs]:
        self._owner.num_forwards += 1
        self._before, self._drafts = self._session.lengths, drafts
        return self._session.extend(drafts)

    def truncate(self, lengths: Sequence[int]) -> None:
        self._session.truncate(lengths)
        # The last accepted token is read once more.
        if any(len(draft) > 1 for draft in self._drafts):
            last = [
                [draft[length - before - 1]]
                for draft, length, before in zip(self._drafts, lengths, self._before, strict=True)
            ]
            self._session.truncate([length - 1 for length in lengths])
            self._session.extend(last)
            self._owner.num_forwards += 1

    def keep(self, rows: Sequence[int]) -> None:
        self._session.keep(rows)

    def join(self, other: _TwoForwardsSession) -> None:
        self._session.join(other._session)


@dataclass
class _Count:
    forwards: int = 0


@contextmanager
def counted_forwards(model: torch.nn.Module) -> Iterator[_Count]:
    """Count the forward passes of a model during the block."""
    count = _Count()

    def increment(*arguments: Any) -> None:
        count.forwards += 1

    handle = model.register_forward_pre_hook(increment)
    try:
        yield count
    finally:
        handle.remove()


def _ended(token_ids: Sequence[int], eos_ids: frozenset[int]) -> Sequence[int]:
    """Return the tokens up to and including the first that ends the answer."""
    ends = (number for number, token in enumerate(token_ids, 1) if token in eos_ids)
    return token_ids[: next(ends, len(token_ids))]
