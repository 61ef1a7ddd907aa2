"""Sentence by sentence: the one that answers, whole, until what was asked is said."""

from __future__ import annotations

import numpy as np
import pytest

from nest_engine import NestEngine, NestOutput, Passage
from nest_engine.citations.sentences import sentences_of
from nest_engine.citations.verdicts import judge_sentences
from nest_engine.interfaces import TokenizedText
from nest_engine.testing import EOS, ByteTokenizer, ScriptedLanguageModel
from tests.letter_vectors import LetterEmbedder
from tests.settings import WORD_BY_WORD

HELIUM = Passage(
    "The name is Greek. Helium was discovered in 1868 by Janssen. It boils at 4 kelvin.",
    title="Helium",
)
NEON = Passage("Neon glows red in tubes. Ramsay discovered neon in 1898.", title="Neon")
QUESTION = "Who discovered helium in 1868?"
TOLD = [sentences_of(HELIUM.text)]


def unsure() -> NestEngine:
    """A model that finds everything plausible, and would go on for ever."""
    return NestEngine(ScriptedLanguageModel(lambda _: ord("x"), confidence=0.02))


def ask(question: str = QUESTION, **settings) -> NestOutput:
    engine = unsure()
    settings = {"passages": [NEON, HELIUM], "max_new_tokens": 80} | settings
    return engine.ask(question, **{"method": "ra-nest"} | settings)


def test_the_sentence_that_answers_is_quoted_whole_and_then_the_answer_ends() -> None:
    output = ask()
    assert output.text == "Helium was discovered in 1868 by Janssen."
    assert output.finish_reason == "eos"
    [citation] = output.citations
    assert citation.cited_text == "Helium was discovered in 1868 by Janssen."
    assert citation.title == "Helium"
    assert output.stats.tokens_per_forward > 10


@pytest.mark.parametrize("length", [12, 20, 33, 35, 40])
def test_a_quotation_that_the_longest_answer_cuts_off_is_one_stretch(length: int) -> None:
    """Its citation ends with a whole word; what follows is the beginning of the next."""
    output = ask(max_new_tokens=length)
    assert output.finish_reason == "length"
    assert output.text == "Helium was discovered in 1868 by Janssen."[:length]
    assert [sentence.kind for sentence in output.sentences] == ["quoted"]


def test_what_the_model_adds_behind_a_quotation_is_not_its_next_word() -> None:
    quoted = "Helium was discovered in 1868 by"
    citation = ask(max_new_tokens=len(quoted)).citations[0]
    for said, kind in ((" Jan", "quoted"), (" Jon", "spliced"), (" Janssen b", "spliced")):
        judged = judge_sentences(quoted + said, [citation], [NEON, HELIUM], is_cut_off=True)
        assert [sentence.kind for sentence in judged] == [kind]


def test_a_number_that_is_cut_off_is_another_number() -> None:
    quoted = "Helium was discovered in"
    citation = ask(max_new_tokens=len(quoted)).citations[0]
    (judged,) = judge_sentences(f"{quoted} 18", [citation], [NEON, HELIUM], is_cut_off=True)
    assert judged.kind == "spliced"


def test_a_sentence_longer_than_a_draft_is_quoted_whole() -> None:
    assert ask(max_draft_tokens=8).text == "Helium was discovered in 1868 by Janssen."


def test_where_the_model_wants_to_end_it_ends_but_not_before_it_has_begun() -> None:
    """Instruction-tuned models end at once behind a prompt without their template."""
    engine = NestEngine(ScriptedLanguageModel("", confidence=0.9))
    for own_words in (0.0, 0.1, 0.5):
        output = engine.ask(QUESTION, passages=[HELIUM], method="ra-nest", own_words=own_words)
        said = ("Helium was discovered in 1868 by Janssen.", "eos")
        assert (output.text, output.finish_reason) == said
        assert len(output.citations) == 1
    alone = engine.ask(QUESTION, passages=[HELIUM], method="ra")
    assert (alone.text, alone.finish_reason) == ("", "eos")
    nothing = engine.ask("Hello! How are you?", passages=[HELIUM], method="ra-nest")
    assert (nothing.text, nothing.finish_reason) == ("", "eos")


def test_a_sentence_that_begins_with_a_name_begins_an_answer() -> None:
    """Behind a space the name is one token, which the model would not say where there is none."""

    class NameInOnePiece(ByteTokenizer):
        name = b" Dartmouth"
        token = 255  # no byte of UTF-8

        def encode_prompt(self, text, untrusted=()):
            tokens = list(zip(*super().encode_prompt(text), strict=True))
            for at in range(len(tokens) - len(self.name), -1, -1):
                piece = tokens[at : at + len(self.name)]
                if bytes(token for token, _, _ in piece) == self.name:
                    tokens[at : at + len(piece)] = [(self.token, piece[0][1], piece[-1][2])]
            return TokenizedText(*zip(*tokens, strict=True))

        def decode(self, token_ids):
            pieces = (
                self.name if token == 255 else bytes([token]) for token in token_ids if token < 256
            )
            return b"".join(pieces).decode(errors="replace")

    model = ScriptedLanguageModel(lambda _: ord("D"))
    model.tokenizer = NameInOnePiece()
    passage = Passage("It stands in Hanover. Dartmouth was founded by Wheelock. Snow falls there.")
    output = NestEngine(model).generate("Who founded Dartmouth?\n", passages=[passage])
    assert output.token_ids[0] == NameInOnePiece.token
    assert output.text.strip() == "Dartmouth was founded by Wheelock."
    assert output.citations[0].cited_text == "Dartmouth was founded by Wheelock."


def test_what_no_sentence_answers_is_said() -> None:
    output = ask("Hello! How are you?")
    assert output.citations == ()
    assert "no sentence of the 2 passages seems to answer the question" in output.notices[0]


@pytest.mark.parametrize("method", ["nest", "ra-nest", "ra", "lm", "lossless"])
def test_where_nothing_answers_no_answer_goes_round_in_circles(method: str) -> None:
    """What the model says alone, by the other methods, is its own text to the end."""
    said = "Let me see. I'm not sure what to say."
    model = ScriptedLanguageModel(said + 9 * " I'm not sure what to say.")
    settings = {"passages": [HELIUM], "method": method, "max_new_tokens": 200}
    output = NestEngine(model).ask("Hello! How are you?", **settings)
    ends = method in ("nest", "ra-nest")
    assert (output.text == said) is ends
    assert output.finish_reason == ("stop" if ends else "length")
    streamed = NestEngine(model).stream("Hello! How are you?\n", **settings)
    assert "".join(chunk.text for chunk in streamed) == output.text


@pytest.mark.parametrize("method", ["nest", "ra-nest"])
def test_nothing_but_quotations_is_nothing_where_nothing_answers(method: str) -> None:
    engine = NestEngine(ScriptedLanguageModel("I'm fine."))
    settings = {"passages": [HELIUM], "own_words": 0}
    asked = ["Hello! How are you?", QUESTION]
    nothing, quoted = engine.generate_batch(
        [f"{each}\n" for each in asked], passages=[[HELIUM]] * 2, method=method, own_words=0
    )
    assert (nothing.text, nothing.finish_reason, nothing.token_ids) == ("", "eos", ())
    assert "nothing is said, since own_words=0 leaves the model no word" in nothing.notices[0]
    assert quoted.text == "Helium was discovered in 1868 by Janssen."
    [*_, last] = engine.stream(f"{asked[0]}\n", method=method, **settings)
    assert last.output is not None
    assert last.output.text == ""
    assert engine.ask(asked[0], method="lossless", **settings).text == "I'm fine."
    without = engine.ask(asked[0], passages=[], method=method, own_words=0)
    assert (without.text, without.notices) == (
        "",
        ("no passages: nothing is said, since own_words=0 leaves the model no word",),
    )
    thinking = engine.generate(f"{asked[0]}\n<think>\n", method=method, **settings)
    assert (thinking.text, len(thinking.notices)) == ("", 1)


@pytest.mark.parametrize("has_embedder", [False, True])
def test_where_an_embedder_finds_no_answer_nothing_is_cited(has_embedder: bool) -> None:
    """Letters cannot tell: the same may be said in other words."""

    class Apart:
        fingerprint = "apart"

        def embed(self, texts):
            return np.array(
                [[1.0, 0.0] if text.startswith("Helium") else [0.0, 1.0] for text in texts]
            )

    embedder = Apart() if has_embedder else None
    engine = NestEngine(ScriptedLanguageModel(HELIUM.text), embedder=embedder)
    output = engine.ask("Where is Rome?", passages=[HELIUM])
    assert output.text == HELIUM.text
    assert bool(output.citations) != has_embedder
    assert ("nothing is cited" in output.notices[0]) == has_embedder
    assert "kelvin" in output.prompt
    lossless = engine.ask("Where is Rome?", passages=[HELIUM], method="lossless")
    assert lossless.citations
    assert not lossless.notices


@pytest.mark.parametrize(
    "text",
    [
        "# Returns\n\n## {}\n\nIt goes back within 30 days. The box has to be whole.",
        "Returns\n\n{}\n\nIt goes back within 30 days. The box has to be whole.",
        "Q: {}\nA: It goes back within 30 days.\n\nQ: Is there a shop?\nA: There is one in Oss.",
        "Is there a shop? There is one in Oss.\n\n{} It goes back within 30 days.",
    ],
)
@pytest.mark.parametrize("has_embedder", [False, True])
def test_a_question_in_a_source_is_answered_by_what_stands_below_it(
    text: str, has_embedder: bool
) -> None:
    """Nothing is nearer to a question than itself; whoever asks it is told all below it."""
    asked = "How does the Jade parcel go back?"
    passages = [NEON, Passage(text.format(asked), title="Shop")]
    engine = unsure()
    engine.embedder = LetterEmbedder() if has_embedder else None
    output = engine.ask(asked, passages=passages, method="ra-nest", max_new_tokens=70)
    assert text.partition("It goes")[2].partition("\n")[0] in output.text
    assert "It goes back within 30 days." in output.text
    assert asked not in output.text
    assert {sentence.kind for sentence in output.sentences} == {"quoted"}


def test_a_row_that_answers_is_quoted_and_then_the_answer_ends() -> None:
    """Nothing but its end tells that it has ended."""
    text = (
        "| Gas | Year |\n|---|---|\n| Helium | in 1868 |\n| Radon | in 1899 |\n\n## Uses\n\nNone."
    )
    output = ask("In which year helium?", passages=[NEON, Passage(text, title="Gases")])
    assert output.text == "Helium | in 1868"
    assert output.finish_reason == "eos"
    assert [sentence.kind for sentence in output.sentences] == ["quoted"]


def test_behind_the_beginning_of_a_paragraph_stands_a_sentence() -> None:
    """However much the model wants to end there: else the answer ends with a line of nothing."""
    text = "We have:\n\n- Jade tea, 2.20 euros\n\n- Jade jam, 3.80 euros\n\nIt is warm."
    ends_at_lines = ScriptedLanguageModel(
        lambda seen: EOS if seen[-1] == ord("\n") else ord("x"), confidence=0.02
    )
    output = NestEngine(ends_at_lines).ask(
        "How many euros is jade?", passages=[Passage(text, title="Cafe")]
    )
    assert len(output.sentences) == 2
    assert output.text == output.text.strip()


def test_what_follows_a_quotation_without_a_full_stop_begins_a_line() -> None:
    text = "We have:\n\n- Jade tea, 2.20 euros\n\n- Jade jam, 3.80 euros\n\nIt is warm."
    output = ask("How many euros is jade?", passages=[Passage(text, title="Cafe")])
    assert output.text in (
        "- Jade tea, 2.20 euros\n- Jade jam, 3.80 euros",
        "- Jade jam, 3.80 euros\n- Jade tea, 2.20 euros",
    )
    assert output.finish_reason == "eos"


def test_sentences_whose_first_character_is_several_tokens_are_quoted_whole() -> None:
    """With a space in front of the second, which is no token of its source."""
    text = "Цена 5 рублей. Жена рада.\nЦена неона 9 рублей."
    output = ask("Какая цена неона в рублях?", passages=[Passage(text)], max_new_tokens=200)
    assert output.text in (
        "Цена неона 9 рублей. Цена 5 рублей.",
        "Цена 5 рублей. Цена неона 9 рублей.",
        "Цена неона 9 рублей.",
    )
    assert {sentence.kind for sentence in output.sentences} == {"quoted"}


def test_without_a_query_the_prompt_is_what_is_asked() -> None:
    output = unsure().generate(
        "Glowing red, neon ", passages=[HELIUM, NEON], method="nest", by_sentence=True
    )
    assert output.text == "Neon glows red in tubes."


@pytest.mark.parametrize("query", [None, "the prompt"])
def test_a_chains_prompt_asks_what_stands_beside_its_passages(query: str | None) -> None:
    passages = [NEON, HELIUM]
    prompt = (
        "Use the context to answer. If you do not know, say so.\n\n"
        f"Question: {QUESTION}\nContext: {NEON.text}\n\n{HELIUM.text}\nAnswer: "
    )
    output = unsure().generate(
        prompt,
        passages=passages,
        query=prompt if query else None,
        method="ra-nest",
        max_new_tokens=80,
    )
    assert output.text == "Helium was discovered in 1868 by Janssen."
    assert output.prompt == prompt


def test_a_sentence_at_the_very_beginning_of_the_prompt_is_quoted() -> None:
    """Its first token has no key: nothing stands before it."""
    first = Passage("Helium was discovered in 1868 by Janssen. It boils at 4 kelvin.")
    output = unsure().generate(f"{first.text}\n\nQuestion: {QUESTION}\nAnswer: ", passages=[first])
    assert output.text == "Helium was discovered in 1868 by Janssen."
    assert output.citations[0].source_start == 0


@pytest.mark.parametrize("method", ["nest", "ra-nest"])
def test_a_stream_says_the_same(method: str) -> None:
    settings = {"passages": [NEON, HELIUM], "method": method, "by_sentence": True}
    engine = unsure()
    whole = engine.ask(QUESTION, max_new_tokens=120, **settings)
    chunks = list(
        engine.stream(
            engine.format_question(QUESTION), query=QUESTION, max_new_tokens=120, **settings
        )
    )
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert [c for chunk in chunks for c in chunk.citations] == list(whole.citations)
    assert whole.citations


def test_samples_are_sentences_too() -> None:
    output = ask(temperature=1.0, seed=3)
    assert output.text.startswith(("Helium was discovered in 1868 by Janssen.", "Ramsay"))


def test_any_language_in_letters_alone() -> None:
    passages = [
        Passage("Берлин стоит на Шпрее. Париж стоит на Сене.", title="Реки"),
        Passage("東京タワーは三百三十三メートルです。富士山は高い。", title="高さ"),
    ]
    asked = ask("На какой реке стоит Париж?", passages=passages, max_new_tokens=200)
    assert asked.text.startswith("Париж стоит на Сене.")
    asked = ask("東京タワーは何メートルですか", passages=passages, max_new_tokens=200)
    assert "東京タワーは三百三十三メートルです。" in asked.text


def test_plausibility_keeps_out_what_the_model_finds_implausible() -> None:
    """The passage says otherwise than the model, which is sure of its words."""
    passage = Passage("Say: The sea is shallow and the sea is green.")
    settings = {"passages": [passage], "delta": 1.0}
    model = ScriptedLanguageModel("The sea is deep.", confidence=0.99)
    engine = NestEngine(model, config=WORD_BY_WORD)
    free = engine.generate("Say: ", alpha=2.0, **settings)
    assert "shallow" in free.text
    kept = engine.generate("Say: ", alpha=2.0, plausibility=0.02, **settings)
    assert kept.text == "The sea is deep."
