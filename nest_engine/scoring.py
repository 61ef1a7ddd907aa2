"""Perplexity under p_M: how well the mixture predicts a given text."""

from __future__ import annotations

import dataclasses

import torch

from nest_engine.datastore import build_datastores
from nest_engine.errors import ContextOverflowError, InputError
from nest_engine.interfaces import LanguageModel, TokenizedText
from nest_engine.key_cache import KeyCache
from nest_engine.mixture import mix
from nest_engine.request import Request
from nest_engine.types import Score

_CHUNK_TOKENS = 256  # tokens scored in one forward; their distributions are held at once


@torch.inference_mode()
def score(language_model: LanguageModel, key_cache: KeyCache, request: Request, text: str) -> Score:
    """Predict every token of a text from those before it.

    Nothing is copied while scoring, so nothing is masked: the text may well be in the datastore.

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
    tokens = language_model.tokenizer.encode_prompt(request.prompt + text, request.untrusted)
    first = max(sum(end <= len(request.prompt) for end in tokens.ends), 1)  # something must stand before it
    num_scored = len(tokens.token_ids) - first
    if num_scored < 1:
        raise InputError(
            f"text={text!r} has no token to predict behind {request.prompt!r}: something must stand before a predicted "
            "token, and a token that runs from the prompt into the text is not predicted; give more text, or a prompt"
        )
    context = language_model.context_length
    if context is not None and len(tokens.token_ids) > context:
        raise ContextOverflowError(
            f"prompt and text have {len(tokens.token_ids)} tokens and the model's context holds {context}; "
            "score shorter pieces"
        )
    read = TokenizedText(*(part[:first] for part in tokens))
    session, [prefill] = language_model.prefill([read.token_ids])
    [datastore] = build_datastores(language_model, key_cache, [dataclasses.replace(request, tokens=read)], [prefill])
    index = datastore.index(language_model.tokenizer.control_ids, mask_copied=False)
    config = request.config
    mixes = config.uses_datastore and config.method != "lossless"

    nll, lambdas, frontier = 0.0, 0.0, prefill.frontier
    for start in range(first, len(tokens.token_ids), _CHUNK_TOKENS):
        targets = tokens.token_ids[start : start + _CHUNK_TOKENS]
        [outputs] = session.extend([targets])
        logits_QV = torch.cat([frontier.logits_V[None], outputs.logits_TV[:-1]])
        hidden_QD = torch.cat([frontier.hidden_D[None], outputs.hidden_TD[:-1]])
        mixture = mix(
            logits_QV.softmax(-1),
            index.search(hidden_QD, config.k) if mixes else None,
            width=hidden_QD.shape[-1],
            alpha=config.alpha,
            tau=config.tau,
            fixed_lambda=config.fixed_lambda,
        )
        targets_Q = torch.tensor(targets, device=mixture.probs_QV.device)
        nll -= float(mixture.probs_QV.gather(1, targets_Q[:, None]).log().sum(dtype=torch.float64))
        lambdas += float(mixture.lambda_Q.sum())
        frontier = outputs.frontier(-1)
    scored_text = text[max(tokens.starts[first] - len(request.prompt), 0) :]
    return Score(num_scored, nll, len(scored_text.encode()), lambdas / num_scored)
