"""What is streamed is what is generated, without stop strings, and for nobody who has left."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nest_engine import METHODS, NestChunk, NestConfig, NestEngine, NestOutput, Passage
from nest_engine.records import DecodeStats
from nest_engine.testing import ByteTokenizer, ScriptedLanguageModel

FEW = settings(derandomize=True, database=None, deadline=None, max_examples=15)
PIECES = [
    "a",
    "b",
    " ",
    " the ",
    "sea ",
    "\n",
    "\0",
    "\ufffd",
    "é",
    "e\u0301",
    "日本",
    "سلام",
    "🌙",
    "👩\u200d👧",
    "🇫🇷",
]
TEXT = st.lists(st.sampled_from(PIECES), max_size=9).map("".join)
NOTHING_COUNTED = DecodeStats()


@st.composite
def told(draw: st.DrawFn) -> tuple[ScriptedLanguageModel, list[Passage]]:
    """Return a model and passages that agree with its script in part."""
    script = draw(TEXT)
    cuts = st.integers(0, len(script))
    passages = []
    for _ in range(draw(st.integers(0, 3))):
        start, end = sorted((draw(cuts), draw(cuts)))
        passages.append(
            Passage(
                draw(TEXT) + script[start:end] + draw(TEXT), title=draw(st.sampled_from(["", "é"]))
            )
        )
    model = ScriptedLanguageModel(
        script, confidence=draw(st.sampled_from([0.2, 0.9])), memory=draw(st.integers(1, 4))
    )
    return model, passages


def joined(chunks: list[NestChunk]) -> NestOutput:
    """Return the last chunk's output, after checking that the chunks add up to it."""
    output = chunks[-1].output
    assert output is not None
    assert all(chunk.output is None and (chunk.text or chunk.citations) for chunk in chunks[:-1])
    assert "".join(chunk.text for chunk in chunks) == output.text
    assert tuple(citation for chunk in chunks for citation in chunk.citations) == output.citations
    return output


def assert_exact(output: NestOutput) -> None:
    by_id = {passage.id: passage for passage in output.passages}
    for citation in output.citations:
        source = by_id[citation.passage_id].text[citation.source_start : citation.source_end]
        assert (
            output.text[citation.answer_start : citation.answer_end]
            == source
            == citation.cited_text
            != ""
        )


@pytest.mark.parametrize("method", METHODS)
@FEW
@given(
    told=told(),
    temperature=st.sampled_from([0.0, 1.0]),
    max_draft_tokens=st.integers(1, 20),
    stop=st.sampled_from([(), ("e s",), ("a", "ab"), ("é",)]),
)
def test_stream_equals_generate(method, told, temperature, max_draft_tokens, stop):
    model, passages = told
    config = NestConfig(
        method=method, temperature=temperature, seed=1, max_new_tokens=30, stop=stop, delta=1.0
    )
    config = config.replace(max_draft_tokens=max_draft_tokens, min_citation_tokens=1)
    engine = NestEngine(model)
    expected = engine.generate("Say: ", passages=passages, config=config)
    streamed = joined(list(engine.stream("Say: ", passages=passages, config=config)))
    counts = [
        replace(output.stats, seconds=NOTHING_COUNTED.seconds, encoded_passages=0)
        for output in (streamed, expected)
    ]
    assert counts[0] == counts[1]
    assert replace(streamed, stats=NOTHING_COUNTED) == replace(expected, stats=NOTHING_COUNTED)
    assert_exact(streamed)
    decoded = ByteTokenizer().decode(streamed.token_ids)
    if streamed.finish_reason == "length":  # perhaps in the middle of a character
        decoded = decoded.removesuffix("\N{REPLACEMENT CHARACTER}")
    if streamed.finish_reason != "stop":
        assert streamed.text == decoded
    assert len(streamed.token_ids) == len(streamed.provenance) == len(streamed.lambdas)


def first_stop(text: str, stops: tuple[str, ...]) -> int:
    """Return where the stop string begins that is completed first; of several, the longest."""
    for end in range(len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return end - max(map(len, complete))
    return len(text)


@pytest.mark.parametrize("method", ["lm", "nest", "lossless"])
@FEW
@given(
    told=told(),
    stops=st.lists(
        st.text(st.sampled_from("ab thesé日🌙\n"), min_size=1, max_size=4), min_size=1, max_size=3
    ),
    inside=st.tuples(st.integers(0, 30), st.integers(1, 6)),
)
def test_stop_strings_cut_where_they_are_completed_first_and_never_show(
    method, told, stops, inside
):
    model, passages = told
    engine = NestEngine(model)
    config = NestConfig(method=method, max_new_tokens=40, delta=1.0)
    whole = engine.generate("Say: ", passages=passages, config=config)
    # One stop string that surely occurs, another that is part of it, and any others.
    occurring = whole.text[inside[0] :][: inside[1]]
    stops = tuple(stop for stop in (occurring, occurring[1:-1], *stops) if stop)
    cut = first_stop(whole.text, stops)
    output = joined(list(engine.stream("Say: ", passages=passages, config=config, stop=stops)))
    assert output.text == whole.text[:cut]
    assert (output.finish_reason == "stop") == (cut < len(whole.text))
    assert all(citation.answer_end <= cut for citation in output.citations)
    assert output.token_ids == whole.token_ids[: len(output.token_ids)]
    assert ByteTokenizer().decode(output.token_ids).startswith(output.text)


@pytest.mark.parametrize(
    ("stops", "text"),
    [
        (("END",), "one "),
        (("ND",), "one E"),
        (("END", "N"), "one E"),  # "N" is complete before "END"
        (("END", "D"), "one "),  # completed together: the longest
        (("E E", "END"), "one "),
        (("two",), "one END "),
        (("three",), "one END two"),
        (("o",), ""),
    ],
)
def test_overlapping_stop_strings(stops, text):
    engine = NestEngine(ScriptedLanguageModel("one END two"))
    for method in ("lm", "lossless"):
        chunks = list(
            engine.stream("Q ", passages=[Passage("one END two")], method=method, stop=stops)
        )
        assert joined(chunks).text == text


def test_text_that_may_begin_a_stop_string_waits():
    engine = NestEngine(ScriptedLanguageModel("one ENTRY"))
    texts = [chunk.text for chunk in engine.stream("Q ", method="lm", stop=("ENDING", "TREE"))]
    assert texts == ["o", "n", "e", " ", "EN", "TRY", ""]


def test_an_answer_cut_inside_a_draft_counts_what_is_left():
    text = "one END two and more of it"
    engine = NestEngine(ScriptedLanguageModel(text))
    output = engine.generate(
        "Q ",
        passages=[Passage(f"Q {text}")],
        method="lossless",
        stop=("END",),
        min_citation_tokens=1,
    )
    assert (output.text, len(output.token_ids), output.stats.completion_tokens) == ("one ", 4, 4)
    assert output.stats.attributed_share == 1.0
    assert [citation.cited_text for citation in output.citations] == ["one"]


def test_accepted_tokens_behind_a_stop_string_are_not_counted():
    text = "one END two and more of it"
    engine = NestEngine(ScriptedLanguageModel(text))
    output = engine.generate(
        "Q ", passages=[Passage(f"Q {text}")], method="lossless", stop=("END",)
    )
    assert output.stats.accepted_tokens <= output.stats.completion_tokens
    assert output.stats.mean_accepted_span <= output.stats.completion_tokens


def test_characters_appear_whole():
    engine = NestEngine(ScriptedLanguageModel("é🌙日"))
    assert [chunk.text for chunk in engine.stream("Q ", method="lm")] == ["é", "🌙", "日", ""]
    cut_off = engine.stream("Q ", method="lm", max_new_tokens=4)
    assert [chunk.text for chunk in cut_off] == ["é", ""]


def test_citations_arrive_before_the_end():
    model = ScriptedLanguageModel("The sea is deep. And so on and on.")
    chunks = list(
        NestEngine(model).stream("Q ", passages=[Passage("The sea is deep.")], method="lossless")
    )
    [arrival] = [number for number, chunk in enumerate(chunks) if chunk.citations]
    assert arrival < len(chunks) - 5


def test_closing_stops_decoding():
    model = ScriptedLanguageModel("x" * 50)
    stream = NestEngine(model).stream("Q ", method="lm", max_new_tokens=50)
    assert model.num_forwards == 0, "nothing is read before somebody listens"
    next(stream)
    read = model.num_forwards
    assert read <= 3
    stream.close()
    assert list(stream) == []
    assert model.num_forwards == read


def test_errors_come_with_the_call():
    with pytest.raises(ValueError, match="unknown setting 'nonsense'"):
        NestEngine(ScriptedLanguageModel()).stream("Q ", nonsense=1)
    with pytest.raises(ValueError, match="the prompt is empty"):
        NestEngine(ScriptedLanguageModel()).stream("")


@pytest.mark.parametrize("num_steps", [0, 1, 3])
def test_cancelling_between_steps(num_steps):
    model = ScriptedLanguageModel("abcdef")
    asked = iter(range(100))
    output = joined(
        list(NestEngine(model).stream("Q ", method="lm", cancel=lambda: next(asked) >= num_steps))
    )
    assert (output.finish_reason, output.text) == ("cancelled", "abcdef"[:num_steps])
    assert model.num_forwards == 1 + num_steps


def test_cancelling_shows_what_was_held_back():
    asked = iter(range(100))
    engine = NestEngine(ScriptedLanguageModel("abEN🌙"))
    chunks = list(engine.stream("Q ", method="lm", stop="END", cancel=lambda: next(asked) >= 6))
    assert [chunk.text for chunk in chunks] == ["a", "b", "EN\ufffd"]
    assert joined(chunks).finish_reason == "cancelled"
