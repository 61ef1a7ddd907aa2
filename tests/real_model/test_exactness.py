"""On a real model, too, `lm` and `lossless` say token for token what `generate` says."""

from __future__ import annotations

import pytest
import torch

import nest_demo
from nest_engine import NestEngine

QUESTIONS = [shipped.question for shipped in nest_demo.load_questions()[:3]]
TOKENS = 48


@pytest.fixture(scope="module")
def generated(engine: NestEngine) -> dict[str, list[int]]:
    """What transformers generates for each question, the passages in its prompt."""
    lm = engine.language_model
    answers = {}
    for question in QUESTIONS:
        prompt = engine.ask(question, method="ra", max_new_tokens=1).prompt
        ids = torch.tensor([lm.tokenizer.encode_prompt(prompt).token_ids])
        with torch.inference_mode():
            out = lm.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=TOKENS,
                do_sample=False,
                eos_token_id=sorted(lm.eos_ids),
                pad_token_id=0,
            )
        answers[prompt] = out[0, ids.shape[1] :].tolist()
    return answers


@pytest.mark.parametrize("method", ["lm", "lossless"])
def test_token_for_token(engine: NestEngine, generated: dict[str, list[int]], method: str) -> None:
    passages = nest_demo.load_passages()
    for prompt, expected in generated.items():
        output = engine.generate(
            prompt,
            passages=[passage for passage in passages if passage.text in prompt],
            method=method,
            max_new_tokens=TOKENS,
        )
        assert list(output.token_ids) == expected
        assert method == "lm" or output.stats.tokens_per_forward > 1.0


def test_together_as_one_by_one(engine: NestEngine, generated: dict[str, list[int]]) -> None:
    outputs = engine.generate_batch(
        list(generated), passages=[()] * len(generated), method="lm", max_new_tokens=TOKENS
    )
    assert [list(output.token_ids) for output in outputs] == list(generated.values())
