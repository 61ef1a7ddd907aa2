"""What `nest_integrations.llama_index` offers, and what importing it needs."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from importlib import resources

import pytest

pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")

import torch
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.response_synthesizers import BaseSynthesizer

import nest_demo
import nest_integrations.llama_index as integration
from nest_engine import ConfigError, NestConfig, NestEngine
from nest_integrations.llama_index import NestLLM, NestNodePostprocessor, NestSynthesizer
from tests.integrations.llama_index.support import scripted_llm

NAMES = {
    "CitationCollector",
    "CitingQueryEngine",
    "NestAsyncStreamingResponse",
    "NestChatResponse",
    "NestCitationEvent",
    "NestCompletionResponse",
    "NestLLM",
    "NestNodePostprocessor",
    "NestResponse",
    "NestStreamingResponse",
    "NestSynthesizer",
    "NodeCitation",
    "NodeRetriever",
    "cite_response",
    "passage_of",
}


def test_all_names_exist_and_no_other():
    assert set(integration.__all__) == NAMES
    assert all(hasattr(integration, name) for name in NAMES)


def test_every_public_name_is_documented():
    undocumented = [
        name for name in NAMES if not (getattr(integration, name).__doc__ or "").strip()
    ]
    assert undocumented == []


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (NestLLM, CustomLLM),
        (NestLLM, BaseLLM),
        (NestSynthesizer, BaseSynthesizer),
        (NestNodePostprocessor, BaseNodePostprocessor),
    ],
)
def test_mro(ours, theirs):
    assert theirs.__name__ in [base.__name__ for base in ours.__mro__]


def test_typing_marker_is_shipped():
    assert resources.files("nest_integrations").joinpath("py.typed").is_file()


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_import_needs_no_langchain():
    blocked = "import sys; sys.modules['langchain_core'] = None; sys.modules['langchain'] = None; "
    loaded = "print([m for m in sys.modules if m.startswith('langchain') and sys.modules[m]])"
    assert _python(blocked + "import nest_integrations.llama_index; " + loaded) == "[]"


def test_missing_llama_index_names_the_install_command():
    code = (
        "import sys; sys.modules['llama_index'] = None\n"
        "from nest_engine import MissingDependencyError\n"
        "try:\n    import nest_integrations.llama_index\n"
        "except MissingDependencyError as error:\n    print(error.package, error.extra, error)\n"
    )
    expected = (
        "llama-index-core llama-index llama-index-core is not installed; "
        "run: pip install 'nest-engine[llama-index]'"
    )
    assert _python(code) == expected


def test_json_round_trip_reloads_the_same_model():
    llm = NestLLM(
        str(nest_demo.model_path()),
        model_kwargs={"dtype": torch.float32},
        device_map=None,
        generate_kwargs={"temperature": 0.5, "do_sample": True, "top_k": 20},
        config=NestConfig.lossless(seed=3, stop=("\n",)),
        max_new_tokens=9,
        context_window=1000,
        stopping_ids=[5],
        system_prompt="Answer briefly.",
    )
    data = llm.to_json()
    twin = NestLLM.from_json(data)
    assert json.loads(data)["class_name"] == "NestLLM"
    assert twin.to_json() == data
    assert twin.config == llm.config
    assert llm.config == NestConfig.lossless(
        seed=3, stop=("\n",), temperature=0.5, top_k=20, max_new_tokens=9
    )
    assert twin.metadata == llm.metadata
    assert twin.complete("Helium is").text == llm.complete("Helium is").text


def test_json_round_trip_onto_an_engine():
    llm = scripted_llm("abc", max_new_tokens=2)
    twin = NestLLM.from_json(llm.to_json(), engine=llm.engine)
    assert twin.complete("say").text == llm.complete("say").text == "ab"


def test_json_holds_no_passages():
    llm = scripted_llm().with_passages([nest_demo.load_passages()[0]])
    assert nest_demo.load_passages()[0].text[:20] not in llm.to_json()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "there is no model: give model_name="),
        (
            {"max_new_tokens": 0},
            "max_new_tokens=0 is not valid: expected a whole number of at least 1",
        ),
        ({"retriever": 7}, "a retriever must be a BaseRetriever or an index, got int"),
        (
            {"generate_kwargs": {"num_beams": 4}},
            "unknown setting 'num_beams'; known settings: method",
        ),
        (
            {"generate_kwargs": {"temperatur": 4}},
            "unknown setting 'temperatur'; did you mean 'temperature'",
        ),
        (
            {"model": object()},
            "engine= brings the model 'ScriptedLanguageModel' and its tokenizer; do not give "
            "others",
        ),
    ],
)
def test_bad_arguments(kwargs, message):
    engine = {"engine": scripted_llm().engine} if kwargs else {}
    with pytest.raises(ConfigError, match=message):
        NestLLM(**engine, **kwargs)


def test_the_engine_that_is_given_stays_as_it_was():
    engine: NestEngine = scripted_llm().engine
    model = engine.language_model
    NestLLM(engine=engine, retriever=lambda_retriever(), stopping_ids=[1])
    assert engine.retriever is None
    assert engine.language_model is model


def test_a_model_with_other_stopping_tokens_can_be_copied():
    model = scripted_llm(stopping_ids=[7]).engine.language_model
    assert copy.copy(model).eos_ids == model.eos_ids
    assert 7 in model.eos_ids


def lambda_retriever():
    class Nothing:
        def retrieve(self, queries, k):
            return [[] for _ in queries]

    return Nothing()
