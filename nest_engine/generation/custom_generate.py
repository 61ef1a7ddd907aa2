"""NEST inside transformers: ``generate(..., custom_generate=engine.as_custom_generate(...))``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteriaList,
)
from transformers.utils import ModelOutput

from nest_engine.citations.detokenizer import Detokenizer
from nest_engine.config import NestConfig
from nest_engine.decoding.sequence import LogitsProcessor, StoppingCriterion
from nest_engine.errors import ConfigError, InputError
from nest_engine.generation.passage_search import find_passages
from nest_engine.generation.prompts import locate
from nest_engine.generation.request import Request, quotable_sentences
from nest_engine.generation.run import Run, answer_all
from nest_engine.interfaces import TokenizedText
from nest_engine.output import NestOutput
from nest_engine.records import Citation, Passage

if TYPE_CHECKING:
    from nest_engine.engine import NestEngine


@dataclass
class NestDecoderOnlyOutput(ModelOutput):
    """What ``model.generate(..., return_dict_in_generate=True)`` returns.

    Args:
        sequences: prompt and answer of each row, padded at the end, ``[B, T]``.
        citations: citations of each row; answer offsets count in the row's decoded answer.
        outputs: the whole answers.
    """

    sequences: Tensor | None = None
    citations: tuple[tuple[Citation, ...], ...] | None = None
    outputs: tuple[NestOutput, ...] | None = None


_NOT_KEPT = ("output_scores", "output_logits", "output_attentions", "output_hidden_states")


def custom_generate(
    engine: NestEngine, passages: Sequence[Passage] | None, config: NestConfig
) -> Callable[..., Tensor | NestDecoderOnlyOutput]:
    """Return a decoding method for ``model.generate(..., custom_generate=...)``.

    Length, sampling, logits processors and stopping criteria come from ``model.generate``; what is
    copied and how far it is trusted comes from ``config``. Passages that are in the prompt are
    found there; none are placed in it. transformers keeps a ``streamer`` to itself: to stream, use
    ``engine.stream``.

    Args:
        engine: the engine on the same model.
        passages: what may be quoted; None asks the engine's retriever with the decoded prompt.
        config: settings.

    Returns:
        the callable.
    """

    def decode(
        model: PreTrainedModel,
        input_ids: Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        **model_kwargs: Any,
    ) -> Tensor | NestDecoderOnlyOutput:
        if model is not getattr(engine.language_model, "model", None):
            raise ConfigError(
                "this decoding method belongs to another model: make it with the engine of this one"
            )
        if generation_config.num_beams != 1:
            raise ConfigError(
                f"num_beams={generation_config.num_beams}: NEST decodes one sequence, not beams"
            )
        wanted = [name for name in _NOT_KEPT if getattr(generation_config, name, None)]
        if wanted:
            raise ConfigError(
                f"{wanted[0]}=True is not supported by this decoding method: it keeps no such "
                f"tensors"
            )
        num_prompt = input_ids.shape[1]
        if num_prompt == 0:
            raise InputError(
                "there are no input_ids (inputs_embeds alone cannot be searched); give token ids"
            )
        settings = config.replace(
            max_new_tokens=generation_config.max_length - num_prompt,
            temperature=1.0 if generation_config.do_sample else 0.0,  # the processors warp already
            top_k=None,
            top_p=1.0,
            stop=(),
        )
        mask = model_kwargs.get("attention_mask")
        is_read = torch.ones_like(input_ids, dtype=torch.bool) if mask is None else mask.bool()
        prompts = [
            _read_back(engine, row[keep].tolist())
            for row, keep in zip(input_ids, is_read, strict=True)
        ]
        texts = [text for text, _ in prompts]
        found = find_passages(engine.retriever, texts, [passages] * len(texts), texts, settings)
        requests = []
        for row, ((text, tokens), row_passages) in enumerate(zip(prompts, found, strict=True)):
            sentences_P, is_refusal_sure = quotable_sentences(
                engine.language_model.tokenizer, row_passages, text, settings, engine.nearness
            )
            requests.append(
                Request(
                    settings,
                    text,
                    tokens,
                    row_passages,
                    locate(text, row_passages),
                    sentences_P,
                    process_logits=_on_row(logits_processor, input_ids, row, len(tokens.token_ids)),
                    is_refusal_sure=is_refusal_sure,
                    is_stopped=_after_row(stopping_criteria, input_ids, row, len(tokens.token_ids)),
                )
            )
        run = Run(engine.language_model, engine.key_cache, eos_ids=_eos_ids(generation_config))
        outputs = answer_all(run, requests)
        sequences = _sequences(input_ids, outputs, generation_config)
        if not generation_config.return_dict_in_generate:
            return sequences
        return NestDecoderOnlyOutput(
            sequences, tuple(output.citations for output in outputs), tuple(outputs)
        )

    return decode


def _read_back(engine: NestEngine, token_ids: Sequence[int]) -> tuple[str, TokenizedText]:
    """Return the text of a prompt that arrives as tokens, and each token's characters in it."""
    detokenizer = Detokenizer(engine.language_model.tokenizer.decode)
    for token in token_ids:
        detokenizer.push(token)
    detokenizer.flush()
    return detokenizer.text, TokenizedText(
        tuple(token_ids), tuple(detokenizer.starts), tuple(detokenizer.ends)
    )


def _on_row(
    processors: LogitsProcessorList, input_ids: Tensor, row: int, num_read: int
) -> LogitsProcessor | None:
    """Return what the processors do to one row at one position."""
    if not processors:
        return None

    def process(token_ids: Sequence[int], logits_V: Tensor) -> Tensor:
        token_ids_BT = _as_batch(token_ids[num_read:], input_ids, row)
        processed: Tensor = processors(token_ids_BT, logits_V.expand(len(token_ids_BT), -1).clone())
        return processed[row]

    return process


def _after_row(
    criteria: StoppingCriteriaList, input_ids: Tensor, row: int, num_read: int
) -> StoppingCriterion | None:
    """Return whether the criteria end one row."""
    if not criteria:
        return None
    return lambda token_ids: bool(
        criteria(_as_batch(token_ids[num_read:], input_ids, row), None)[row]
    )


def _as_batch(answer_ids: Sequence[int], input_ids: Tensor, row: int) -> Tensor:
    """Return a row as ``generate`` would show it: padded at the start, in a batch of full size.

    Rows are at different lengths here, so every row of the batch is a copy of this one.
    """
    padded = torch.tensor([*input_ids[row].tolist(), *answer_ids], device=input_ids.device)
    return padded.expand(len(input_ids), -1)


def _eos_ids(generation_config: GenerationConfig) -> frozenset[int]:
    eos = generation_config.eos_token_id
    return frozenset([eos] if isinstance(eos, int) else eos or [])


def _sequences(
    input_ids: Tensor, outputs: Sequence[NestOutput], generation_config: GenerationConfig
) -> Tensor:
    """Return prompts and answers ``[B, T]``, short answers padded at the end."""
    padding = generation_config.pad_token_id or 0
    width = max(len(output.token_ids) for output in outputs)
    answers = [
        [*output.token_ids, *[padding] * (width - len(output.token_ids))] for output in outputs
    ]
    return torch.cat([input_ids, torch.tensor(answers, device=input_ids.device)], dim=1)
