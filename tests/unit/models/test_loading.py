"""What cannot be loaded is refused: arguments that exclude each other before anything is read."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from nest_engine import ConfigError, ModelLoadError, NestEngine
from nest_engine.models import loading
from nest_engine.models.huggingface import HuggingFaceLanguageModel
from tests.tiny_models import tiny_model, tiny_tokenizer
from tests.unit.models.tiny_language_models import saved


def test_two_devices_at_once_are_refused():
    with pytest.raises(ConfigError, match=r"device='cpu' and device_map='auto' exclude each other"):
        HuggingFaceLanguageModel.from_pretrained("anything", device="cpu", device_map="auto")
    with pytest.raises(
        ConfigError, match=r"device_map='auto' and tp_plan='auto' exclude each other"
    ):
        HuggingFaceLanguageModel.from_pretrained("anything", device_map="auto", tp_plan="auto")


@pytest.mark.parametrize("split", [{"tp_plan": "auto"}, {"distributed_config": object()}])
def test_a_static_cache_needs_one_process(split):
    with pytest.raises(ConfigError, match="static_cache=True needs the whole model in one process"):
        HuggingFaceLanguageModel.from_pretrained("anything", static_cache=True, **split)


def test_a_folder_that_is_not_there_is_named():
    with pytest.raises(ModelLoadError, match=r"the model folder \./nowhere does not exist"):
        HuggingFaceLanguageModel.from_pretrained("./nowhere")


def test_what_transformers_does_not_take_is_passed_on(tmp_path):
    folder = saved(tmp_path)
    with pytest.raises(ModelLoadError, match=r"cannot be loaded: .*no_such_argument"):
        HuggingFaceLanguageModel.from_pretrained(folder, no_such_argument=1)
    with pytest.raises(ModelLoadError, match="cannot be put on 'nowhere'"):
        HuggingFaceLanguageModel.from_pretrained(folder, device="nowhere")


def test_the_number_format_has_two_names(tmp_path):
    folder = saved(tmp_path)
    for chosen in ({"torch_dtype": "bfloat16"}, {"torch_dtype": torch.bfloat16}):
        lm = NestEngine.from_pretrained(Path(folder), **chosen).language_model
        assert lm.model.dtype == torch.bfloat16
    same = {"dtype": "torch.bfloat16", "torch_dtype": torch.bfloat16}
    assert HuggingFaceLanguageModel.from_pretrained(folder, **same).model.dtype == torch.bfloat16
    with pytest.raises(ConfigError, match="dtype='fp16' is not valid"):
        HuggingFaceLanguageModel.from_pretrained(folder, dtype="fp16")
    with pytest.raises(ConfigError, match="contradict each other"):
        HuggingFaceLanguageModel.from_pretrained(folder, dtype="auto", torch_dtype="float32")


def test_settings_are_no_dict():
    with pytest.raises(ConfigError, match="config must be a NestConfig, got dict"):
        NestEngine(tiny_model("llama"), tiny_tokenizer(), config={"method": "lm"})


def test_what_a_template_ends_turns_with_ends_an_answer():
    tokenizer = copy.deepcopy(tiny_tokenizer())
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end not in HuggingFaceLanguageModel(tiny_model("llama"), tokenizer).eos_ids
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    )
    assert end in HuggingFaceLanguageModel(tiny_model("llama"), tokenizer).eos_ids
    tokenizer.chat_template = "{{ messages[0].content.foo() }}"
    assert end not in HuggingFaceLanguageModel(tiny_model("llama"), tokenizer).eos_ids


def test_a_subfolder_is_the_tokenizers_as_well(tmp_path):
    saved(tmp_path / "sub")
    model = HuggingFaceLanguageModel.from_pretrained(str(tmp_path), subfolder="sub")
    assert model.tokenizer.decode(model.tokenizer.encode_prompt("A planet").token_ids) == "A planet"


@pytest.mark.parametrize(
    "name", ["cache_dir", "local_files_only", "revision", "subfolder", "token"]
)
def test_where_the_files_are_reaches_model_and_tokenizer(monkeypatch, tmp_path, name):
    seen = {}

    def record(kind):
        def load(model_id, **arguments):
            seen[kind] = arguments.get(name)
            if kind == "model":
                raise OSError("seen enough")

        return load

    monkeypatch.setattr(loading.AutoTokenizer, "from_pretrained", record("tokenizer"))
    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", record("model"))
    with pytest.raises(ModelLoadError, match="seen enough"):
        HuggingFaceLanguageModel.from_pretrained("a/model", **{name: "given"})
    assert seen == {"tokenizer": "given", "model": "given"}


def test_either_end_of_turn_ends_an_answer():
    """The tokenizer of a fine-tune says ``<|im_end|>``, its generation configuration another."""
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.eos_token = "<|im_end|>"
    model = tiny_model("llama")
    model.generation_config.eos_token_id = 0
    ends = HuggingFaceLanguageModel(model, tokenizer).eos_ids
    assert ends == {0, tokenizer.convert_tokens_to_ids("<|im_end|>")}
    model.generation_config.eos_token_id = [5, 7]
    assert HuggingFaceLanguageModel(model, tokenizer).eos_ids == {5, 7, tokenizer.eos_token_id}
