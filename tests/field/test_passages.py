"""The same passage more than once, and passages under one id: cases from the field."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from nest_engine import NestConfig, NestEngine, NestOutput, Passage
from nest_engine.citation_formats import to_anthropic, to_gemini, to_langchain
from nest_engine.retrieval import BM25Retriever, PassageIndex, read_passages
from nest_engine.testing import ScriptedLanguageModel
from tests.tiny_models import tiny_model, tiny_tokenizer

TEXT = "Neon glows red in tubes, which makes it the colour of the night."
NEON = [Passage(TEXT, id="a"), Passage(f"{TEXT}\n", id="b"), Passage(TEXT, id="c")]
ARGON = Passage("Argon is a heavy gas that fills light bulbs.", id="d")


def test_a_text_takes_one_place_in_the_prompt() -> None:  # 11
    engine = NestEngine(tiny_model("llama"), tiny_tokenizer())
    output = engine.ask(
        "What glows?", passages=[*NEON, ARGON], method="ra", prompt_passages=3, max_new_tokens=2
    )
    assert output.prompt.count("Neon glows red") == 1
    assert output.prompt.count("Argon is a heavy gas") == 1
    assert output.passages == (*NEON, ARGON)


@pytest.mark.parametrize(
    "copy",
    [
        unicodedata.normalize("NFD", "Ne\u0301on glows red in tubes all the night."),
        "Néon glows red in tu\N{SOFT HYPHEN}bes all the night.",
        "Néon glows red in\ntubes all the  night.\n",
        "\ufeffNéon glows red in tubes all the night.\u200e",
        "Ｎéon glows red in tubes all the night.",
    ],
)
def test_a_text_set_in_other_characters_is_the_same(copy: str) -> None:
    engine = NestEngine(tiny_model("llama"), tiny_tokenizer())
    passages = [Passage("Néon glows red in tubes all the night.", id="a"), Passage(copy), ARGON]
    output = engine.ask(
        "What glows?", passages=passages, method="ra", prompt_passages=2, max_new_tokens=2
    )
    assert ARGON.text in output.prompt


def test_copies_that_a_search_finds_take_no_places() -> None:
    argon = Passage("Argon glows in tubes, too, but violet.", id="d")
    engine = NestEngine(
        tiny_model("llama"), tiny_tokenizer(), retriever=BM25Retriever([*NEON, argon])
    )
    output = engine.ask(
        "What glows red in tubes?", method="ra", prompt_passages=2, max_new_tokens=2
    )
    assert output.prompt.count("Neon glows red") == 1
    assert argon.text in output.prompt


@pytest.mark.parametrize(
    ("passages", "by_sentence"),
    [
        (NEON[:2], True),
        (NEON[:2], False),
        ([NEON[0], Passage(f"Gases. {TEXT} More.", id="e")], True),  # chunks that overlap
    ],
)
def test_a_sentence_is_not_said_twice(passages: list[Passage], by_sentence: bool) -> None:  # 12
    # A model that would say the sentence for ever.
    said = TEXT.encode()

    def script(text: bytes) -> int:
        _, _, answer = text.rpartition(b"Answer:")
        return (said + b" ")[len(answer.lstrip()) % (len(said) + 1)]

    model = ScriptedLanguageModel(script, confidence=0.5)
    config = NestConfig(method="nest", max_new_tokens=200, by_sentence=by_sentence)
    output = NestEngine(model, config=config).ask("What glows red?", passages=passages)
    places = [(c.passage_id, c.source_start) for c in output.citations if len(c.cited_text) > 40]
    assert len(places) <= 1


def test_a_citation_names_all_passages_of_its_text() -> None:
    model = ScriptedLanguageModel(TEXT, confidence=0.9)
    output = NestEngine(model, config=NestConfig(method="nest")).ask("What?", passages=NEON)
    assert output.citations
    for citation in output.citations:
        assert (citation.passage_id, [place.passage_id for place in citation.also_in]) == (
            "a",
            ["b", "c"],
        )
        for place in citation.also_in:
            copy = next(each for each in NEON if each.id == place.passage_id)
            assert copy.text[place.source_start : place.source_end] == citation.cited_text


@pytest.fixture(scope="module")
def under_one_id() -> NestOutput:  # 13
    passages = [
        Passage("Neon glows red in tubes.", id="d1"),
        Passage("Argon is a heavy gas that fills light bulbs.", id="d1"),
    ]
    said = f"{passages[1].text} {passages[0].text}"
    model = ScriptedLanguageModel(said, confidence=0.95)
    config = NestConfig(method="lossless", min_citation_tokens=12)
    output = NestEngine(model, config=config).ask("Which gases?", passages=passages)
    assert [citation.cited_text for citation in output.citations] == [
        passages[1].text,
        passages[0].text,
    ]
    return output


def test_formats_tell_passages_of_one_id_apart(under_one_id: NestOutput) -> None:
    output = under_one_id
    located = [
        (location["document_index"], location["cited_text"])
        for block in to_anthropic(output)
        for location in block.get("citations", ())
    ]
    assert [index for index, _ in located] == [1, 0]
    assert all(cited in output.passages[index].text for index, cited in located)
    gemini = to_gemini(output)
    assert [each["groundingChunkIndices"] for each in gemini["groundingSupports"]] == [[0], [1]]
    assert [each["retrievedContext"]["text"] for each in gemini["groundingChunks"]] == [
        output.passages[1].text,
        output.passages[0].text,
    ]
    hashes = {each["extras"]["passage_sha256"] for each in to_langchain(output)}
    assert len(hashes) == 2


def test_renderings_number_them_apart(under_one_id: NestOutput) -> None:
    for written in (under_one_id.to_markdown(), under_one_id.to_html()):
        for passage in under_one_id.passages:
            assert passage.text in written
    assert "[^2]" in under_one_id.to_markdown()


def test_json_lines_keep_both(tmp_path: Path) -> None:
    rows = [
        {"id": "d1", "text": text} for text in ("Neon glows.", "Argon is heavy.", "Neon glows.")
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = read_passages(tmp_path)
    assert [(passage.text, passage.id) for passage in result.passages] == [
        ("Neon glows.", "d1#0"),
        ("Argon is heavy.", "d1~2#0"),
    ]
    [(_, reason)] = result.skipped
    assert reason == "an earlier document has the id 'd1' and the same text"
    PassageIndex.build(result.passages, tmp_path / "index")
