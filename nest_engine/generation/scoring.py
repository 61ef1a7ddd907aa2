"""Perplexity under p_M: how well the mixture predicts a given text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nest_engine.config import NestConfig
from nest_engine.datastore.key_cache import KeyCache
from nest_engine.decoding.interpolation import interpolate
from nest_engine.decoding.mixture import Mixture, Neighbors
from nest_engine.errors import ContextOverflowError, InputError
from nest_engine.generation.datastores import build_datastores
from nest_engine.generation.request import Request
from nest_engine.interfaces import LanguageModel, TokenizedText
from nest_engine.records import Score

_CHUNK_TOKENS = 256  # tokens scored in one forward; their distributions are held at once


@dataclass(frozen=True)
class Predicted:
    """Consecutive tokens of a text, and what there was to predict each of them from.

    Args:
        targets: the tokens.
        lm_probs_QV: p_LM before each of them.
        neighbors: nearest entries of the datastore; None where nothing may be copied.
        width: ``D``, width of the hidden state.
    """

    targets: list[int]
    lm_probs_QV: Tensor
    neighbors: Neighbors | None
    width: int

    def mixture(self, config: NestConfig) -> Mixture:
        """Return p_M before each token."""
        return interpolate(self.lm_probs_QV, self.neighbors, config, self.width)


class ForcedText:
    """A text that the model is led along, token by token, behind a prompt.

    Nothing is copied, so nothing is masked: the text may well be in the datastore.

    Args:
        language_model: the model.
        key_cache: where passage keys are kept.
        request: prompt, passages and settings.
        text: what to predict behind the prompt.

    Raises:
        InputError: if there is nothing to predict.
        ContextOverflowError: if prompt and text exceed the context.
    """

    @torch.inference_mode()
    def __init__(
        self, language_model: LanguageModel, key_cache: KeyCache, request: Request, text: str
    ) -> None:
        tokens = language_model.tokenizer.encode_prompt(request.prompt + text, request.untrusted)
        # something must stand before it
        first = max(sum(end <= len(request.prompt) for end in tokens.ends), 1)
        self.token_ids = tokens.token_ids[first:]
        if not self.token_ids:
            raise InputError(
                f"text={text!r} has no token to predict behind {request.prompt!r}: something must "
                f"stand before a "
                "predicted token, and a token that runs from the prompt into the text is not "
                "predicted; give more "
                "text, or a prompt"
            )
        context = language_model.context_length
        if context is not None and len(tokens.token_ids) > context:
            raise ContextOverflowError(
                f"prompt and text have {len(tokens.token_ids)} tokens and the model's context "
                f"holds {context}; "
                "score shorter pieces"
            )
        self.num_bytes = len(text[max(tokens.starts[first] - len(request.prompt), 0) :].encode())
        read = TokenizedText(*(part[:first] for part in tokens))
        self._session, [prefill] = language_model.prefill([read.token_ids])
        [datastore] = build_datastores(
            language_model, key_cache, [replace(request, tokens=read)], [prefill]
        )
        self.index = datastore.index(language_model.tokenizer.control_ids, mask_copied=False)
        self._frontier = prefill.frontier
        self._config = request.config

    @torch.inference_mode()
    def predict(self) -> Iterator[Predicted]:
        """Yield the text in pieces whose distributions fit into memory together."""
        mixes = self._config.uses_datastore and self._config.method != "lossless"
        for start in range(0, len(self.token_ids), _CHUNK_TOKENS):
            targets = list(self.token_ids[start : start + _CHUNK_TOKENS])
            [outputs] = self._session.extend([targets])
            logits_QV = torch.cat([self._frontier.logits_V[None], outputs.logits_TV[:-1]])
            hidden_QD = torch.cat([self._frontier.hidden_D[None], outputs.hidden_TD[:-1]])
            neighbors = self.index.search(hidden_QD, self._config.k) if mixes else None
            yield Predicted(targets, logits_QV.softmax(-1), neighbors, hidden_QD.shape[-1])
            self._frontier = outputs.frontier(-1)


@torch.inference_mode()
def score(language_model: LanguageModel, key_cache: KeyCache, request: Request, text: str) -> Score:
    """Predict every token of a text from those before it.

    Args:
        language_model: the model.
        key_cache: where passage keys are kept.
        request: prompt, passages and settings.
        text: what to predict behind the prompt.

    Returns:
        the score.

    Raises:
        InputError: if there is nothing to predict.
        ContextOverflowError: if prompt and text exceed the context.
    """
    forced = ForcedText(language_model, key_cache, request, text)
    log_probs: list[float] = []
    lambdas = 0.0
    for predicted in forced.predict():
        mixture = predicted.mixture(request.config)
        targets_Q = torch.tensor(predicted.targets, device=mixture.probs_QV.device)
        log_probs += mixture.probs_QV.gather(1, targets_Q[:, None])[:, 0].log().tolist()
        lambdas += float(mixture.lambda_Q.sum())
    return Score(
        len(log_probs),
        -math.fsum(log_probs),
        forced.num_bytes,
        lambdas / len(log_probs),
        tuple(log_probs),
    )
