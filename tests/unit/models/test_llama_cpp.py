"""llama.cpp reads a GGUF file as transformers reads the model it was made from."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path

import pytest
import torch

pytest.importorskip("llama_cpp", reason="needs: pip install 'nest-engine[llama-cpp]'")

from nest_engine import (
    ConfigError,
    ContextOverflowError,
    InputError,
    ModelLoadError,
    NestConfig,
    NestEngine,
    Passage,
    UnsupportedModelError,
)
from nest_engine.models import backend, forward_time
from nest_engine.models.forward_time import forward_cost  # before any test replaces it
from nest_engine.models.huggingface import HuggingFaceLanguageModel
from nest_engine.models.llama_cpp import memory
from nest_engine.models.llama_cpp.model import LlamaCppLanguageModel
from tests.equivalence.test_reference import CONFIGS, PASSAGES, PROMPT, assert_same
from tests.reference_decoder import ReferenceDecoder
from tests.tiny_models import tiny_tokenizer
from tests.unit.models.tiny_gguf import model_of_the_file, write_gguf
from tests.unit.models.tiny_language_models import PLANETS, QUOTING

TEXTS = [list(range(5, 45)), list(range(60, 90)), list(range(100, 125))]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def lm(file: Path) -> LlamaCppLanguageModel:
    return LlamaCppLanguageModel(file, cache_type="f32")


@cache
def plain() -> HuggingFaceLanguageModel:
    return HuggingFaceLanguageModel(model_of_the_file(), tiny_tokenizer(), key_layer="penultimate")


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_uneven_rows_equal_plain_forwards(lm: LlamaCppLanguageModel) -> None:
    """Extend, cut back within a draft, drop a row, join another, extend again."""
    with torch.inference_mode():
        expected = [plain().model(torch.tensor([text])).logits[0] for text in TEXTS]
    session, prefills = lm.prefill([text[:n] for text, n in zip(TEXTS, (20, 3, 9), strict=True)])
    for prefill, logits_TV, n in zip(prefills, expected, (20, 3, 9), strict=True):
        assert_close(prefill.frontier.logits_V, logits_TV[n - 1])
    session.extend([[*TEXTS[0][20:22], 1, 1], TEXTS[1][3:9], [*TEXTS[2][9:10], 7]])
    session.truncate([22, 9, 10])
    assert session.lengths == (22, 9, 10)
    session.keep([0, 2])
    other, _ = lm.prefill([TEXTS[1][:7]])
    session.join(other)
    assert (session.lengths, other.lengths) == ((22, 10, 7), ())
    outputs = session.extend([TEXTS[0][22:40], TEXTS[2][10:12], TEXTS[1][7:20]])
    assert_close(outputs[0].logits_TV, expected[0][22:40])
    assert_close(outputs[1].logits_TV, expected[2][10:12])
    assert_close(outputs[2].logits_TV, expected[1][7:20])
    with pytest.raises(ValueError, match="row 1 holds 12 tokens and cannot be cut back to 13"):
        session.truncate([40, 13, 20])


def test_hidden_states_are_the_last_layers_input(lm: LlamaCppLanguageModel) -> None:
    [expected], [found] = (model.prefill([TEXTS[0]])[1] for model in (plain(), lm))
    assert_close(found.hidden_TD, expected.hidden_TD)
    passages = [lm.tokenizer.encode_passage(passage) for passage in PASSAGES]
    for keys, others in zip(lm.encode(passages), plain().encode(passages), strict=True):
        assert_close(keys, others)


def test_a_passage_longer_than_the_context_is_read_in_windows(file: Path) -> None:
    text = " ".join(passage.text for passage in PASSAGES)
    short = LlamaCppLanguageModel(file, cache_type="f32", n_ctx=64)
    passage = short.tokenizer.encode_passage(Passage(text))
    [keys] = short.encode([passage])
    assert len(keys) == len(passage.token_ids)
    [whole] = LlamaCppLanguageModel(file, cache_type="f32").encode([passage])
    assert_close(keys[:63], whole[:63])


def test_a_forward_longer_than_a_batch(lm: LlamaCppLanguageModel) -> None:
    """Drafts of many rows take several forwards, and their outputs are put together again."""
    texts = [list(range(5 + row, 205 + row)) for row in range(6)]
    session, _ = lm.prefill([text[:10] for text in texts])
    outputs = session.extend([text[10:] for text in texts])
    with torch.inference_mode():
        for text, output in zip(texts, outputs, strict=True):
            assert_close(output.logits_TV, plain().model(torch.tensor([text])).logits[0, 10:])


@pytest.mark.parametrize("name", CONFIGS)
def test_the_engine_equals_the_reference_decoder(lm: LlamaCppLanguageModel, name: str) -> None:
    tokens = lm.tokenizer
    reference = ReferenceDecoder(plain().model, "model.layers.2", set(tokens.control_ids))
    entries = []
    for number, passage in enumerate(PASSAGES):
        tokenized = tokens.encode_passage(passage)
        entries += reference.passage_entries(
            number, list(tokenized.context_ids), list(tokenized.token_ids)
        )
    prompt_ids = list(tokens.encode_prompt(PROMPT).token_ids)
    expected = reference.decode(prompt_ids, entries, CONFIGS[name], set(lm.eos_ids))
    output = NestEngine(lm).generate(PROMPT, passages=PASSAGES, query=PROMPT, config=CONFIGS[name])
    assert_same(output, expected)


def test_answers_together_and_in_threads_are_those_alone(lm: LlamaCppLanguageModel) -> None:
    engine = NestEngine(lm, config=NestConfig(**QUOTING))
    prompts = [f"{PROMPT} {word}" for word in ("sea", "star", "moon", "gas", "metal")]
    alone = [engine.generate(prompt, passages=PASSAGES).token_ids for prompt in prompts]
    together = engine.generate_batch(prompts, passages=[PASSAGES] * len(prompts))
    assert [output.token_ids for output in together] == alone
    found: dict[str, tuple[int, ...]] = {}

    def answer(prompt: str) -> None:
        found[prompt] = engine.generate(prompt, passages=PASSAGES).token_ids

    threads = [threading.Thread(target=answer, args=(prompt,)) for prompt in prompts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[prompt] for prompt in prompts] == alone


def test_the_memory_grows_and_nothing_is_lost(file: Path, monkeypatch) -> None:
    """More tokens, and more rows, than there is place for at first."""
    monkeypatch.setattr(memory, "_CELLS", 256)
    monkeypatch.setattr(memory, "_SEQUENCES", 2)
    lm = LlamaCppLanguageModel(file, cache_type="f32")
    texts = [list(range(5 + row, 155 + row)) for row in range(5)]
    session, _ = lm.prefill([text[:100] for text in texts])
    outputs = session.extend([text[100:] for text in texts])
    assert lm._memory.num_cells > 5 * 150
    with torch.inference_mode():
        for text, output in zip(texts, outputs, strict=True):
            assert_close(output.logits_TV, plain().model(torch.tensor([text])).logits[0, 100:])
    with pytest.raises(InputError, match=r"llama\.cpp holds at most .* sequences at once"):
        lm.prefill([[5, 6]] * 1000)
    assert lm._memory.num_sequences == 5  # those that were opened in vain are closed


def test_a_dropped_session_gives_its_rows_back(lm: LlamaCppLanguageModel) -> None:
    session, _ = lm.prefill([[5, 6, 7], [8, 9]])
    assert lm._memory.num_sequences == 2
    gc.disable()
    try:
        del session
        assert lm._memory.num_sequences == 0
    finally:
        gc.enable()


def test_the_beginning_of_a_prompt_is_read_once(file: Path, monkeypatch) -> None:
    from nest_engine.models.llama_cpp import known_prompts
    from nest_engine.models.llama_cpp import model as llama_cpp_model

    for module in (known_prompts, llama_cpp_model):
        monkeypatch.setattr(module, "PIECE", 16)
    lm = LlamaCppLanguageModel(file, cache_type="f32")
    first, second = list(range(5, 75)), [*range(5, 60), *range(200, 230)]
    lm.prefill([first])
    [again] = lm.prefill([first])[1]
    assert again.num_known == 64
    [branched] = lm.prefill([second])[1]
    assert branched.num_known == 48
    [whole] = LlamaCppLanguageModel(file, cache_type="f32", prompt_cache=0).prefill([second])[1]
    assert whole.num_known == 0
    assert_close(branched.frontier.logits_V, whole.frontier.logits_V)
    assert_close(branched.hidden_TD, whole.hidden_TD)
    assert lm.prefill([first[:64]])[1][0].num_known == 48  # the last token is always read
    lm.forget_prompts()
    assert lm.prefill([first])[1][0].num_known == 0


def test_known_prompts_are_bounded_and_make_room(file: Path, monkeypatch) -> None:
    from nest_engine.models.llama_cpp import known_prompts
    from nest_engine.models.llama_cpp import model as llama_cpp_model

    for module in (known_prompts, llama_cpp_model):
        monkeypatch.setattr(module, "PIECE", 16)
    monkeypatch.setattr(memory, "_CELLS", 256)
    lm = LlamaCppLanguageModel(file, cache_type="f32")
    for start in range(5, 100, 5):
        lm.prefill([list(range(start, start + 100))])
    assert lm._memory.num_cells == 512  # kept prompts gave way
    small = LlamaCppLanguageModel(file, cache_type="f32", prompt_cache=100_000)
    small.prefill([TEXTS[0]])
    small.prefill([[*TEXTS[1], *TEXTS[2]]])
    assert small.prefill([[*TEXTS[1], *TEXTS[2]]])[1][0].num_known == 48
    assert small.prefill([TEXTS[0]])[1][0].num_known in (0, 32)
    assert small._memory.num_sequences <= 2


@pytest.mark.parametrize(
    "text",
    [
        "Helium was seen in 1868, 🌙 said the river.\n\nDon't  you know?",
        "  spaces \t and\r\nlines ",
        "e\u0301tude \ufb01sh \u00adsoft 漢字かな",
        "<|im_start|>user\nWhy?<|im_end|>\n",
        "",
    ],
)
def test_tokens_know_their_characters(lm: LlamaCppLanguageModel, text: str) -> None:
    encoded = lm.tokenizer.encode_prompt(text)
    expected = plain().tokenizer.encode_prompt(text)
    assert encoded == expected
    kept = [token for token in encoded.token_ids if token not in lm.tokenizer.control_ids]
    assert lm.tokenizer.decode(encoded.token_ids) == plain().tokenizer.decode(kept)


def test_control_strings_in_a_passage_are_text(lm: LlamaCppLanguageModel) -> None:
    passage = Passage("a <|im_end|> b <tool_call> c", title="<|im_start|>")
    encoded = lm.tokenizer.encode_passage(passage)
    tokens = {*encoded.token_ids, *encoded.context_ids[1:]}
    assert not tokens & lm.tokenizer.control_ids
    assert lm.tokenizer.decode(encoded.token_ids).strip() == passage.text
    assert {"<|im_end|>", "<tool_call>"} <= lm.tokenizer.control_strings
    prompt = f"<|im_start|>user\n{passage.text}<|im_end|>"
    start = prompt.index(passage.text)
    read = lm.tokenizer.encode_prompt(prompt, [(start, start + len(passage.text))])
    ends = [token for token in read.token_ids if token in lm.tokenizer.control_ids]
    assert len(ends) == 2


@pytest.mark.parametrize("name", ["tiny", "tiny phi-3"])  # Phi-3 drops spaces behind its turns
def test_sentence_pieces_know_their_characters(tmp_path: Path, name: str) -> None:
    """A space is added in front of words, some are dropped, and a sign stands for one."""
    lm = LlamaCppLanguageModel(write_gguf(tmp_path / "spm.gguf", split="spm", name=name))
    text = "<|user|>\nWhat is\u2581a \u00e9b 漢 \U0001f319?<|end|>\n<|user|> What is b."
    encoded = lm.tokenizer.encode_prompt(text)
    assert encoded.token_ids[0] == 1
    written = [lm.tokenizer._pieces[token].decode("utf-8", "replace") for token in encoded[0]]
    for piece, start, end in list(zip(written, encoded.starts, encoded.ends, strict=True))[1:]:
        stands = text[start:end].replace("\u2581", " ")
        assert piece.strip() == stands.strip() or piece in "\ufffd\n", (piece, stands)
    assert encoded.ends[-1] == len(text)
    moon = [
        number
        for number, (start, end) in enumerate(zip(encoded.starts, encoded.ends, strict=True))
        if text[start:end] == "\U0001f319"
    ]
    assert len(moon) == 4  # its bytes
    answer = lm.tokenizer.encode_passage(Passage("What is <|end|> a <tool_call> b"))
    assert not {*answer.token_ids} & lm.tokenizer.control_ids
    assert lm.tokenizer.decode(lm.tokenizer.encode_prompt("What is b.").token_ids) == "What is b."
    start = text.index("What")
    untrusted = lm.tokenizer.encode_prompt(text, [(start, text.index("<|user|> What"))])
    assert sum(token in lm.tokenizer.control_ids for token in untrusted.token_ids) == 3


def test_a_file_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "none.gguf", has_tokenizer=False)
    with pytest.raises((ModelLoadError, UnsupportedModelError), match=r"none\.gguf"):
        LlamaCppLanguageModel(file)


def test_an_interrupt_in_the_middle_of_a_forward_is_not_lost(lm: LlamaCppLanguageModel) -> None:
    tap = lm._memory._context._tap

    class Interrupted:
        def __eq__(self, other: object) -> bool:
            raise KeyboardInterrupt

    session, _ = lm.prefill([TEXTS[0]])
    tap.wanted = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        session.extend([[5, 6]])
    tap.wanted = tap.name.encode()
    session.truncate([40])
    with torch.inference_mode():
        expected = plain().model(torch.tensor([[*TEXTS[0], 5, 6]])).logits[0]
    assert_close(session.extend([[5, 6]])[0].logits_TV, expected[40:])


def test_a_program_may_end_in_the_middle_of_an_answer(file: Path) -> None:
    script = (
        "import sys, threading, time\n"
        "from nest_engine.models.llama_cpp.model import LlamaCppLanguageModel\n"
        f"lm = LlamaCppLanguageModel({str(file)!r})\n"
        "def decode():\n"
        "    session, _ = lm.prefill([[5, 6, 7]])\n"
        "    while True:\n"
        "        session.extend([[8] * 100])\n"
        "        session.truncate([3])\n"
        "threading.Thread(target=decode, daemon=True).start()\n"
        "time.sleep(0.5)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()


def test_template_and_ends_of_turns_come_from_the_file(lm: LlamaCppLanguageModel) -> None:
    asked = lm.tokenizer.format_question("Why?")
    assert asked == "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    assert tiny_tokenizer().convert_tokens_to_ids("<|im_end|>") in lm.eos_ids


def test_it_is_chosen_for_a_file_unless_transformers_is_asked_for(
    file: Path, tmp_path, monkeypatch
):
    monkeypatch.setenv("NEST_CACHE", str(tmp_path))

    def kind(**options: object) -> str:
        return type(NestEngine.from_pretrained(str(file), **options).language_model).__name__

    assert kind() == kind(n_ctx=128) == kind(backend="llama.cpp") == "LlamaCppLanguageModel"
    assert kind(dtype="float32") == kind(backend="transformers") == "HuggingFaceLanguageModel"
    assert kind(key_layer="ffn_input") == "HuggingFaceLanguageModel"
    with pytest.raises(ConfigError, match=r"dtype is no option of llama\.cpp"):
        kind(n_threads=1, dtype="float32")
    with pytest.raises(ConfigError, match=r"n_ctx is an option of llama\.cpp"):
        kind(n_ctx=64, backend="transformers")
    with pytest.raises(ConfigError, match=r"n_ctx is an option of llama\.cpp"):
        NestEngine.from_pretrained(str(tmp_path), n_ctx=64)
    folder = NestEngine.from_pretrained(str(file.parent), gguf_file=file.name)
    assert isinstance(folder.language_model, LlamaCppLanguageModel)
    answer = folder.generate(PROMPT, passages=PLANETS, config=NestConfig(**QUOTING))
    assert answer.citations


def test_transformers_reads_the_file_where_llama_cpp_is_not_installed(
    file: Path, tmp_path, monkeypatch
):
    monkeypatch.setenv("NEST_CACHE", str(tmp_path))
    monkeypatch.setattr(backend, "find_spec", lambda _: None)
    engine = NestEngine.from_pretrained(str(file))
    assert isinstance(engine.language_model, HuggingFaceLanguageModel)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float32"}, "dtype is no option of llama.cpp, which takes cache_type, flash"),
        ({"cache_type": "f8"}, "cache_type='f8' is not valid: expected one of f32, f16"),
        ({"n_ctx": 0}, "n_ctx=0 is not valid"),
        ({"key_layer": "ffn_input"}, "expected 'penultimate'"),
    ],
)
def test_options_that_are_not_valid_are_named(file: Path, options, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NestEngine.from_pretrained(str(file), backend="llama.cpp", **options)


def test_what_cannot_be_loaded_is_said(file: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(ModelLoadError, match=r"llama\.cpp cannot load .*damaged\.gguf: "):
        LlamaCppLanguageModel.from_pretrained(str(damaged))
    with pytest.raises(ModelLoadError, match=r"nowhere\.gguf does not exist"):
        LlamaCppLanguageModel.from_pretrained(str(tmp_path / "nowhere.gguf"))
    with pytest.raises(ConfigError, match=r"backend='llama\.cpp' reads GGUF files"):
        NestEngine.from_pretrained(str(tmp_path), backend="llama.cpp")
    lm = LlamaCppLanguageModel(file, n_ctx=32)
    with pytest.raises(ContextOverflowError):
        lm.prefill([list(range(5, 45))])


def test_the_fingerprint_is_the_files(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward_time, "forward_cost", forward_cost)
    same = LlamaCppLanguageModel(file)
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(file.read_bytes())
    assert LlamaCppLanguageModel(copy).fingerprint == same.fingerprint
    assert LlamaCppLanguageModel(file, cache_type="f32").fingerprint != same.fingerprint
    two, more = same.forward_cost
    assert 1 <= two <= 2
    assert 0.001 <= more <= 0.5
