"""llama.cpp beneath NEST says what llama.cpp says by itself, and quotes."""

from __future__ import annotations

import pytest

pytest.importorskip("llama_cpp", reason="needs: pip install 'nest-engine[llama-cpp]'")

import llama_cpp

import nest_demo
from nest_engine import NestEngine
from nest_engine.retrieval import BM25Retriever

TOKENS = 32
QUESTIONS = [shipped.question for shipped in nest_demo.load_questions()[:4]]


@pytest.fixture(scope="module")
def file() -> str:
    found = nest_demo.smollm2_file()
    if found is None:
        pytest.skip(f"needs SmolLM2-135M-Instruct: {nest_demo.GET_SMOLLM2}")
    return str(found)


@pytest.fixture(scope="module")
def engine(file: str) -> NestEngine:
    retriever = BM25Retriever(nest_demo.load_passages())
    return NestEngine.from_pretrained(file, backend="llama.cpp", retriever=retriever)


@pytest.fixture(scope="module")
def answers(file: str, engine: NestEngine) -> dict[str, list[int]]:
    """What llama.cpp says greedily to each prompt with passages, up to the end of its turn."""
    llama = llama_cpp.Llama(file, n_ctx=2048, verbose=False)
    prompts = [engine.ask(question, method="ra", max_new_tokens=1).prompt for question in QUESTIONS]
    found: dict[str, list[int]] = {}
    for prompt in prompts:
        llama.reset()  # else it goes on from what two prompts share, in forwards of other widths
        tokens = llama.tokenize(prompt.encode(), add_bos=False, special=True)
        said: list[int] = []
        for token in llama.generate(tokens, temp=0.0, repeat_penalty=1.0):
            said.append(token)
            if token in engine.language_model.eos_ids or len(said) == TOKENS:
                break
        found[prompt] = said
    return found


def test_lm_is_token_for_token_what_llama_cpp_says(
    engine: NestEngine, answers: dict[str, list[int]]
) -> None:
    for prompt, expected in answers.items():
        output = engine.generate(prompt, passages=(), method="lm", max_new_tokens=TOKENS)
        assert list(output.token_ids) == expected


def test_lossless_says_what_the_model_chooses(
    engine: NestEngine, answers: dict[str, list[int]]
) -> None:
    """Each token is the model's choice in the forward that judged it.

    Quantized kernels round a forward over one token otherwise than one over several, so the same
    answer read at once agrees nearly everywhere, and `lm`'s answer may be another.
    """
    passages = nest_demo.load_passages()
    lm = engine.language_model
    agree = tokens = 0
    for prompt in answers:
        output = engine.generate(
            prompt,
            passages=[passage for passage in passages if passage.text in prompt],
            method="lossless",
            max_new_tokens=TOKENS,
        )
        assert output.stats.tokens_per_forward > 1.0
        session, [prefill] = lm.prefill([lm.tokenizer.encode_prompt(prompt).token_ids])
        [read] = session.extend([output.token_ids])
        chosen = [int(prefill.frontier.logits_V.argmax()), *read.logits_TV[:-1].argmax(-1).tolist()]
        agree += sum(a == b for a, b in zip(output.token_ids, chosen, strict=True))
        tokens += len(chosen)
    assert agree >= 0.95 * tokens


def test_whole_sentences_are_quoted(engine: NestEngine) -> None:
    """As with transformers: most of what is said is quoted, in few forwards."""
    outputs = [engine.ask(question, max_new_tokens=64) for question in QUESTIONS]
    sentences = [sentence for output in outputs for sentence in output.sentences]
    quoted = sum(sentence.kind == "quoted" for sentence in sentences)
    assert quoted >= 0.9 * len(sentences)
    tokens = sum(output.stats.completion_tokens for output in outputs)
    assert tokens / sum(output.stats.lm_forwards for output in outputs) > 5
    texts = {passage.id: passage.text for passage in nest_demo.load_passages()}
    for output in outputs:
        for citation in output.citations:
            text = texts[citation.passage_id]
            assert text[citation.source_start : citation.source_end] == citation.cited_text
