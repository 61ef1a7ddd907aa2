"""What cannot be loaded is refused: arguments that exclude each other before anything is read."""

from __future__ import annotations

import pytest

from nest_engine import ConfigError, ModelLoadError
from nest_engine.models.huggingface import HuggingFaceLanguageModel
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
    with pytest.raises(ModelLoadError, match="cannot be loaded: .*no_such_argument"):
        HuggingFaceLanguageModel.from_pretrained(folder, no_such_argument=1)
    with pytest.raises(ModelLoadError, match="cannot be put on 'nowhere'"):
        HuggingFaceLanguageModel.from_pretrained(folder, device="nowhere")
