"""`NestLLM`: settings, stop strings, passages, queries, what an answer tells, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("langchain_core", reason="needs: pip install 'nest-engine[langchain]'")

import torch
from langchain_core.callbacks import CallbackManager
from langchain_core.runnables import ConfigurableField
from pydantic import ValidationError

import nest_demo
from nest_engine import ConfigError, InputError, NestConfig, NestEngine, Passage, PassageRetriever
from nest_engine.testing import ScriptedLanguageModel
from nest_integrations.langchain import NestLLM
from tests.integrations.langchain.conftest import SENTENCE
from tests.integrations.langchain.support import documents, texts_of, verify
from tests.tiny_models import tiny_model, tiny_tokenizer

Engine = Callable[..., NestEngine]


class Asked:
    """A retriever of the engine that remembers what it was asked."""

    def __init__(self, *texts: str) -> None:
        self.passages = [Passage(text, id=f"d{number}") for number, text in enumerate(texts)]
        self.asked: list[tuple[str, int]] = []

    def retrieve(self, queries: list[str], k: int) -> list[list[Passage]]:
        self.asked += [(query, k) for query in queries]
        return [self.passages for _ in queries]


def info_of(llm: NestLLM, prompt: str, **kwargs: Any) -> dict[str, Any]:
    info = llm.generate([prompt], **kwargs).generations[0][0].generation_info
    assert info is not None
    return info


def test_documents_handed_over_are_cited_without_a_search(scripted_engine: Engine):
    retriever = Asked("Nothing of use stands here, in any case.")
    llm = NestLLM(engine=scripted_engine(), retriever=retriever, method="lossless")
    found = documents("Filler.", SENTENCE)
    result = llm.generate(["Say: "], passages=found)
    generation = result.generations[0][0]
    assert generation.text == SENTENCE
    assert generation.generation_info is not None
    [citation] = generation.generation_info["citations"]
    assert citation["extras"]["document_id"] == "d1"
    verify([citation], generation.text, texts_of(found))
    assert retriever.asked == []


def test_each_prompt_of_a_batch_cites_its_own_documents(scripted_engine: Engine):
    llm = NestLLM(engine=scripted_engine(), method="lossless")
    prompts = ["One: ", "Two: ", "Three: "]
    own = [
        [document]
        for document in documents(SENTENCE, SENTENCE, "Something else altogether is written.")
    ]
    result = llm.generate(prompts, passages=own)
    cited = [
        [
            citation["extras"]["document_id"]
            for citation in generations[0].generation_info["citations"]
        ]  # type: ignore[index]
        for generations in result.generations
    ]
    assert cited == [["d0"], ["d1"], []]


def test_a_batch_is_decoded_together():
    model = ScriptedLanguageModel(SENTENCE)
    llm = NestLLM(engine=NestEngine(model), method="lm")
    llm.invoke("A: ")
    alone = model.num_forwards
    model.num_forwards = 0
    llm.batch([f"{number}: " for number in range(16)])
    assert model.num_forwards == alone
    model.num_forwards = 0
    NestLLM(engine=NestEngine(model), method="lm", batch_size=4).batch(
        [f"{number}: " for number in range(16)]
    )
    assert model.num_forwards == 4 * alone


@pytest.mark.parametrize(
    ("fields", "call", "asked"),
    [
        ({}, {}, "Say: "),
        ({"query": lambda prompt: prompt.upper()}, {}, "SAY: "),
        ({"query": lambda prompt: prompt.upper()}, {"query": "helium"}, "helium"),
        ({}, {"query": ["helium"]}, "helium"),
        ({}, {"query": lambda prompt: prompt[:3]}, "Say"),
    ],
)
def test_what_is_searched_for(
    scripted_engine: Engine, fields: dict[str, Any], call: dict[str, Any], asked: str
):
    retriever = Asked(SENTENCE)
    assert isinstance(retriever, PassageRetriever)
    NestLLM(engine=scripted_engine(), retriever=retriever, **fields).invoke("Say: ", **call)
    assert retriever.asked == [(asked, 40)]


@pytest.mark.parametrize(
    ("settings", "number"),
    [({"num_passages": 7}, 7), ({"method": "ra"}, 3), ({"method": "ra", "prompt_passages": 2}, 2)],
)
def test_how_many_passages_are_asked_for(
    scripted_engine: Engine, settings: dict[str, Any], number: int
):
    retriever = Asked(SENTENCE)
    NestLLM(engine=scripted_engine(), retriever=retriever).invoke("Say: ", **settings)
    assert [k for _, k in retriever.asked] == [number]


def test_the_model_alone_does_not_search(scripted_engine: Engine):
    retriever = Asked(SENTENCE)
    assert (
        info_of(NestLLM(engine=scripted_engine(), retriever=retriever), "Say: ", method="lm")[
            "citations"
        ]
        == []
    )
    assert retriever.asked == []


def test_nothing_is_searched_for_when_no_passage_is_wanted(scripted_engine: Engine):
    retriever = Asked(SENTENCE)
    NestLLM(engine=scripted_engine(), retriever=retriever).invoke(
        "Say: ", method="ra", prompt_passages=0
    )
    assert retriever.asked == []


def test_the_retriever_of_the_engine_is_used_when_there_is_no_other():
    engine = NestEngine(ScriptedLanguageModel(SENTENCE), retriever=Asked(SENTENCE))
    assert len(info_of(NestLLM(engine=engine, method="lossless"), "Say: ")["citations"]) == 1


def test_settings_of_a_call_precede_those_of_the_model_and_of_the_engine(scripted_engine: Engine):
    engine = NestEngine(ScriptedLanguageModel(SENTENCE), config=NestConfig(max_new_tokens=20))
    assert len(NestLLM(engine=engine).invoke("Say: ")) == 20
    llm = NestLLM(engine=engine, max_tokens=10)
    assert len(llm.invoke("Say: ")) == 10
    assert len(llm.invoke("Say: ", max_tokens=5)) == 5
    assert len(llm.invoke("Say: ", max_new_tokens=4)) == 4
    assert len(llm.bind(max_tokens=3).invoke("Say: ")) == 3
    assert len(NestLLM(engine=engine, max_new_tokens=6).invoke("Say: ")) == 6
    assert len(NestLLM(engine=engine, config=NestConfig(max_new_tokens=7)).invoke("Say: ")) == 7


def test_settings_are_configurable_fields(scripted_engine: Engine):
    llm = NestLLM(engine=scripted_engine()).configurable_fields(
        max_tokens=ConfigurableField(id="length")
    )
    assert len(llm.with_config(configurable={"length": 8}).invoke("Say: ")) == 8


def test_seeded_sampling_repeats_itself(demo_engine: NestEngine):
    llm = NestLLM(engine=demo_engine, temperature=1.5, max_tokens=16)
    assert (
        llm.invoke("The sea", seed=1)
        == llm.invoke("The sea", seed=1)
        != llm.invoke("The sea", seed=2)
    )


def test_several_answers_to_one_prompt(demo_engine: NestEngine):
    llm = NestLLM(engine=demo_engine, temperature=1.5, max_tokens=8, seed=3)
    result = llm.generate(["The sea", "The sun"], n=3)
    texts = [[generation.text for generation in generations] for generations in result.generations]
    assert [len(set(answers)) for answers in texts] == [3, 3]
    assert texts[0][1] == llm.invoke("The sea", seed=4)
    assert result.llm_output is not None
    usage = [generation.generation_info["usage"] for generation in result.generations[0]]  # type: ignore[index]
    assert all(each["output_tokens"] == 8 for each in usage)
    assert result.llm_output["token_usage"]["completion_tokens"] == 48


@pytest.mark.parametrize("stop", [["light of"], ["nowhere", "light of"], ["light o", "light of"]])
def test_stop_strings_cut_exactly(scripted_engine: Engine, stop: list[str]):
    llm = NestLLM(engine=scripted_engine(), method="lossless")
    expected = "Helium is a colourless gas that was first seen in the "
    for found in ([], documents(SENTENCE)):
        assert llm.invoke("Say: ", stop=stop, passages=found) == expected
        assert "".join(llm.stream("Say: ", stop=stop, passages=found)) == expected
        assert info_of(llm, "Say: ", stop=stop, passages=found)["finish_reason"] == "stop"


def test_stop_strings_of_a_call_add_to_those_configured(scripted_engine: Engine):
    engine = NestEngine(ScriptedLanguageModel(SENTENCE), config=NestConfig(stop=("Sun",)))
    llm = NestLLM(engine=engine, stop=["light"])
    assert llm.invoke("Say: ") == SENTENCE.partition("light")[0]
    assert llm.invoke("Say: ", stop=["gas"]) == SENTENCE.partition("gas")[0]
    assert llm.invoke("Say: ", stop=["Sun"]) == SENTENCE.partition("light")[0]
    assert llm.bind(stop=["gas"]).invoke("Say: ") == SENTENCE.partition("gas")[0]


def test_an_answer_tells_its_cost_and_never_the_prompt(scripted_engine: Engine):
    llm = NestLLM(engine=scripted_engine(), model_name="scripted", method="lossless")
    result = llm.generate(["Say: "], passages=documents(SENTENCE))
    generation = result.generations[0][0]
    info = generation.generation_info
    assert info is not None
    assert not generation.text.startswith("Say")
    assert info["finish_reason"] == "eos"
    assert info["model_name"] == "scripted"
    assert info["usage"] == {
        "input_tokens": 5,
        "output_tokens": len(SENTENCE) + 1,
        "total_tokens": len(SENTENCE) + 6,
        "input_token_details": {"cache_read": 0},
    }
    assert info["stats"]["tokens_per_forward"] > 2
    assert result.llm_output == {
        "model_name": "scripted",
        "token_usage": {
            "prompt_tokens": 5,
            "completion_tokens": len(SENTENCE) + 1,
            "total_tokens": len(SENTENCE) + 6,
        },
    }


def test_notices_reach_the_caller(scripted_engine: Engine):
    assert info_of(NestLLM(engine=scripted_engine()), "Say: ")["notices"] == [
        "no passages: the model answered alone"
    ]


def test_tokens_are_counted_by_the_model(demo_engine: NestEngine):
    text = "Helium is a gas."
    expected = demo_engine.language_model.tokenizer.encode_prompt(text).token_ids
    assert NestLLM(engine=demo_engine).get_num_tokens(text) == len(expected)


def test_loading_like_a_pipeline():
    llm = NestLLM.from_model_id(
        str(nest_demo.model_path()),
        task="text-generation",
        device=-1,
        model_kwargs={
            "dtype": torch.float32,
            "local_files_only": True,
            "attn_implementation": "eager",
        },
        pipeline_kwargs={"max_new_tokens": 6, "do_sample": False, "return_full_text": False},
        stop=["zzz"],
    )
    assert (llm.max_tokens, llm.temperature, llm.stop) == (6, 0.0, ["zzz"])
    assert llm.model_name == str(nest_demo.model_path())
    assert llm.engine.language_model.model.config._attn_implementation == "eager"  # type: ignore[attr-defined]
    assert info_of(llm, "The sea")["usage"]["output_tokens"] == 6


def test_device_map_and_quantization_reach_transformers(monkeypatch: pytest.MonkeyPatch):
    seen: dict[str, Any] = {}

    def from_pretrained(model_id: str, **kwargs: Any) -> NestEngine:
        seen.update(kwargs, model_id=model_id)
        return NestEngine(ScriptedLanguageModel(SENTENCE))

    monkeypatch.setattr(NestEngine, "from_pretrained", from_pretrained)
    quantization = object()
    llm = NestLLM.from_model_id(
        "some/model",
        device_map="auto",
        model_kwargs={"quantization_config": quantization, "revision": "abc"},
    )
    assert seen == {
        "model_id": "some/model",
        "device_map": "auto",
        "quantization_config": quantization,
        "revision": "abc",
    }
    assert (llm.model_name, llm.revision) == ("some/model", "abc")
    NestLLM.from_model_id("some/model", device=1)
    assert seen["device"] == "cuda:1"


def test_a_model_and_its_tokenizer():
    llm = NestLLM(model=tiny_model("llama"), tokenizer=tiny_tokenizer(), max_tokens=5)
    assert info_of(llm, "A planet")["usage"]["output_tokens"] == 5
    assert llm.model_name == "LlamaForCausalLM"


def test_the_shape_of_the_model_is_not_shown_to_traces(scripted_engine: Engine):
    llm = NestLLM(
        engine=scripted_engine(), api_key="secret", model_name="m", temperature=0.5, max_tokens=9
    )
    assert "secret" not in repr(llm)
    assert "NestEngine" not in repr(llm)
    assert llm._get_ls_params(stop=["x"]) == {
        "ls_provider": "nest",
        "ls_model_type": "llm",
        "ls_model_name": "m",
        "ls_temperature": 0.5,
        "ls_max_tokens": 9,
        "ls_stop": ["x"],
    }
    assert llm._get_ls_params(model="other")["ls_model_name"] == "other"
    assert llm.metadata is not None
    assert set(llm.metadata["lc_versions"]) >= {"langchain-core", "nest-engine"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gama": 0.1}, "gama"),
        ({"gamma": 7}, "gamma=7.0 is not valid: expected a number from 0 to 1"),
        ({"temperature": -1}, "temperature=-1.0 is not valid"),
        ({"retriever": "a store"}, "retriever=str cannot search: give a VectorStore"),
        ({"on_error": "ignore"}, "'raise' or 'degrade'"),
        ({"deadline": 0}, "greater than 0"),
        ({"model": object()}, "engine and model exclude each other"),
        ({"n": 0}, "greater than or equal to 1"),
        ({"max_tokens": 3, "max_new_tokens": 4}, "max_new_tokens"),
    ],
)
def test_bad_fields_are_refused(scripted_engine: Engine, fields: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        NestLLM(engine=scripted_engine(), **fields)


def test_a_model_by_name_names_the_way_to_load_it():
    with pytest.raises(ValidationError, match=r"use NestLLM\.from_model_id\('gpt2'\)"):
        NestLLM(model="gpt2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gama": 0.1}, "unknown setting 'gama'; did you mean 'gamma'?"),
        ({"model": "other"}, "unknown setting 'model'"),
        (
            {"max_tokens": 1, "max_new_tokens": 2},
            "max_tokens=1 and max_new_tokens=2 are the same setting",
        ),
        ({"max_tokens": 0}, "max_new_tokens=0 is not valid"),
        ({"n": 0}, "n=0 is not valid: expected a whole number of at least 1"),
        ({"n": 2}, "n=2 with temperature=0 gives one and the same answer"),
        (
            {"query": 3},
            "query must be a text, a function, or one text for each of 1 prompts; got int",
        ),
        ({"query": ["a", "b"]}, "one text for each of 1 prompts; got 2 queries"),
        ({"passages": "text"}, "passages must be a list of documents, got str"),
    ],
)
def test_bad_arguments_of_a_call_are_refused(
    scripted_engine: Engine, arguments: dict[str, Any], message: str
):
    llm = NestLLM(engine=scripted_engine())
    with pytest.raises((ConfigError, InputError), match=message.replace("?", r"\?")):
        llm.invoke("Say: ", **arguments)
    streamed = arguments if "n" not in arguments else arguments | {"n": 2}
    with pytest.raises((ConfigError, InputError)):
        list(llm.stream("Say: ", **streamed))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "summarization"}, "task='summarization' with backend='default' is not there"),
        ({"backend": "openvino"}, "backend='openvino' is not there"),
        ({"pipeline_kwargs": {"return_full_text": True}}, "an answer never repeats its prompt"),
        ({"pipeline_kwargs": {"num_beams": 4}}, "unknown setting 'num_beams'"),
        ({"device": 0, "device_map": "auto"}, "exclude each other"),
    ],
)
def test_loading_refuses_what_it_cannot_do(arguments: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        NestLLM.from_model_id(str(nest_demo.model_path()), **arguments)


def test_a_manager_of_callbacks_may_be_given(scripted_engine: Engine):
    assert (
        NestLLM(engine=scripted_engine()).invoke("Say: ", {"callbacks": CallbackManager([])})
        == SENTENCE
    )
