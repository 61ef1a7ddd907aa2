"""Sentence by sentence: the one that answers, whole, until what was asked is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nest_engine import NestEngine, NestOutput, Passage, RetrievalError
from nest_engine.citations.sentences import ends_sentence, in_tokens, sentences_of
from nest_engine.citations.verdicts import judge_sentences
from nest_engine.generation.sentence_trust import (
    LetterNearness,
    VectorNearness,
    beside_title,
    trusted,
)
from nest_engine.interfaces import TokenizedText
from nest_engine.retrieval import BM25Retriever, DenseRetriever, HybridRetriever
from nest_engine.testing import EOS, ByteTokenizer, ScriptedLanguageModel
from tests.letter_vectors import letter_vectors
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


def test_whoever_asks_for_a_subject_is_told_what_it_is() -> None:
    """With the title in front, any sentence is near to a request for no more than the title."""

    class ByTitle:
        fingerprint = "by title"

        def embed(self, texts):
            asked = [[1.0, 0.0] if "Janssen" in text else [0.0, 0.1] for text in texts]
            subject = [[float("Helium" in text)] for text in texts]
            return np.concatenate([asked, subject, letter_vectors(texts)], axis=-1)

    near = trusted(VectorNearness(ByTitle()), "Tell me about Helium.", [HELIUM], TOLD)
    assert near is not None
    assert max(near[0], key=lambda each: each.trust) == near[0][0]
    near = trusted(VectorNearness(ByTitle()), "What of Helium has Janssen seen?", [HELIUM], TOLD)
    assert near is not None
    assert max(near[0], key=lambda each: each.trust) == near[0][1]


def test_what_is_asked_beside_the_title_tells_its_sentences_apart() -> None:
    """Whatever is said about a country is near to a question that names it."""

    class Subjects:
        fingerprint = "subjects"

        def embed(self, texts):
            named = [[3.0 * text.count("Leone")] for text in texts]
            asked = [[float("capital" in text)] for text in texts]
            other = [[2.0 * ("largest" in text)] for text in texts]
            return np.concatenate([named, asked, other], axis=-1)

    leone = Passage(
        "It is the largest. Sierra Leone is in Africa. Freetown, the largest town, is its capital.",
        title="Sierra Leone",
    )
    told = [sentences_of(leone.text)]
    [near] = trusted(VectorNearness(Subjects()), "Sierra Leone's capital?", [leone], told) or []
    assert [each.trust for each in near].index(1.0) == 2
    [near] = trusted(VectorNearness(Subjects()), "And Sierra Leone?", [leone], told) or []
    assert [each.trust for each in near].index(1.0) == 1  # what is left asks nothing
    untitled = Passage(leone.text)  # which has nothing beside it
    [near] = trusted(VectorNearness(Subjects()), "Sierra Leone's capital?", [untitled], told) or []
    assert [each.trust for each in near].index(1.0) == 1


def test_letters_tell_apart_what_vectors_blur() -> None:
    """To an embedder, one error is as good as another."""

    class Blurred:
        fingerprint = "blurred"

        def embed(self, texts):
            kinds = [["E" in text, "light" in text] for text in texts]
            return np.array(
                [[float(is_error), float(is_light), 0.2] for is_error, is_light in kinds]
            )

    manual = Passage("It has a light. E1: no water. E2: the pump is blocked. E3: call us.")
    told = [sentences_of(manual.text)]
    rarity = {"what": 4.0, "does": 4.0, "mean": 6.0}
    nearness = VectorNearness(Blurred(), LetterNearness(lambda word: rarity.get(word, 20.0)))
    [near] = trusted(nearness, "What does E2 mean?", [manual], told) or []
    assert [each.trust for each in near].index(1.0) == 2


def nearest(question: str, *passages: Passage) -> str:
    """Return the sentence that letters find nearest."""
    rarity = {"who": 4.0, "discovered": 7.0, "zincite": 13.0}
    nearness = LetterNearness(lambda word: rarity.get(word, 7.0))
    told = [sentences_of(passage.text) for passage in passages]
    near = trusted(nearness, question, passages, told) or []
    [(passage, best)] = [
        (passage, each)
        for passage, sentences in zip(passages, near, strict=True)
        for each in sentences
        if each.trust == 1.0
    ]
    return passage.text[best.start : best.end]


def test_the_letters_of_a_common_word_weigh_less_than_those_of_a_rare_one_however_long() -> None:
    ores = Passage("The ores were known early. Bruce wrote of zincite in 1810. It is red.")
    faraday = Passage("Faraday lived in London. He is said to have discovered benzene there.")
    assert nearest("Who discovered zincite?", faraday, ores) == "Bruce wrote of zincite in 1810."


def test_a_document_that_the_question_names_is_nearer_by_its_letters() -> None:
    """Its sentences need not name it."""
    zinc = Passage("The metal is grey. It was discovered by Marggraf.", title="Zinc")
    jade = Passage("Jade is green. It was first discovered in a zinc mine in 1793.", title="Jade")
    asked = "When was zinc first discovered?"
    assert nearest(asked, jade, zinc) == "It was discovered by Marggraf."
    assert nearest(asked, jade, replace(zinc, title="")) != "It was discovered by Marggraf."


@pytest.mark.parametrize(
    ("question", "title", "beside"),
    [
        ("Where did Marie Curie's father work?", "Marie Curie", "Where did father work?"),
        ("Qui a découvert l'helium ?", "Hélium", "Qui a découvert ?"),
        ("헬륨은 누가 발견했습니까?", "헬륨", "누가 발견했습니까?"),
        ("氦是谁发现的？", "氦", "氦是谁发现的？"),
        ("Helium?", "Helium", "Helium?"),
        ("What is it?", "", "What is it?"),
    ],
)
def test_what_is_asked_beside_a_title(question: str, title: str, beside: str) -> None:
    assert beside_title(question, title) == beside


def test_what_no_sentence_answers_is_said() -> None:
    output = ask("Hello! How are you?")
    assert output.citations == ()
    assert "no sentence of the 2 passages seems to answer the question" in output.notices[0]


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
    engine.embedder = _Vectors() if has_embedder else None
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


def test_the_first_sentence_of_prose_says_what_a_passage_is_about() -> None:
    passage = Passage("# Jade\n\nThe river is long. It is deep.", title="River")
    told = sentences_of(passage.text)
    [trusted_sentences] = trusted(VectorNearness(_Vectors()), "Jade", [passage], [told]) or []
    assert [each.introduces for each in trusted_sentences] == [0, 1, 0]
    assert [each.trust == 1 for each in trusted_sentences] == [False, True, False]


def test_what_does_not_name_the_subject_introduces_nobody() -> None:
    """A passage out of the middle of a document begins with anything."""
    passage = Passage("It burned down in 1900. Jade roofs came later.", title="Old station")
    told = sentences_of(passage.text)
    [trusted_sentences] = trusted(VectorNearness(_Vectors()), "Jade", [passage], [told]) or []
    assert [each.introduces for each in trusted_sentences] == [0, 0]


def told(nearness: LetterNearness | VectorNearness, asked: str, *passages: Passage) -> list[str]:
    """Return the sentences that an answer begins with: those of a trust of a third at least."""
    sentences_P = [sentences_of(passage.text) for passage in passages]
    best = sorted(
        (-each.trust, passage.text[each.start : each.end])
        for passage, sentences in zip(
            passages, trusted(nearness, asked, passages, sentences_P) or [], strict=True
        )
        for each in sentences
        if each.trust > 1 / 3
    )
    return [text for _, text in best]


JADE = Passage("Jade is a stone. It is green. It is hard.", title="Jade")
LATER_OF_JADE = Passage(
    "Old jade is dear. Kings wore it.", title="Jade", metadata={"start_index": 900}
)


@pytest.mark.parametrize("asked", ["Tell me about jade.", "Jade", "Jade?", "jade please"])
def test_whoever_asks_no_more_than_a_title_is_told_the_lead_in_its_order(asked: str) -> None:
    nearness = LetterNearness(lambda word: 9.0 if word in ("jade", "kings", "wore") else 5.0)
    lead = ["Jade is a stone.", "It is green.", "It is hard."]
    assert told(nearness, asked, LATER_OF_JADE, NEON, JADE)[:3] == lead
    assert told(nearness, "Who wore jade? Kings?", LATER_OF_JADE, NEON, JADE)[:1] != lead[:1]


def test_an_embedder_knows_who_asks_no_more_than_a_title() -> None:
    nearness = VectorNearness(_Overviews())
    assert told(nearness, "Tell me about Jade.", LATER_OF_JADE, JADE)[:2] == [
        "Jade is a stone.",
        "It is green.",
    ]
    assert told(nearness, "Who wore Jade?", LATER_OF_JADE, JADE)[:2] != [
        "Jade is a stone.",
        "It is green.",
    ]


def test_of_a_document_only_the_beginning_introduces() -> None:
    """Wherever else its title is named, somebody has said before what it is."""
    passages = [LATER_OF_JADE, JADE]
    sentences_P = [sentences_of(passage.text) for passage in passages]
    trusted_P = trusted(VectorNearness(_Vectors()), "Jade", passages, sentences_P) or []
    assert [[each.introduces for each in sentences] for sentences in trusted_P] == [
        [0, 0],
        [1, 0, 0],
    ]


def test_a_document_is_told_from_its_beginning_even_if_that_does_not_name_it() -> None:
    beginning = Passage("This stone is old. It is hard.", title="Jade", metadata={"start_index": 0})
    nearness = LetterNearness(lambda word: 9.0 if word == "jade" else 5.0)
    assert told(nearness, "Tell me about jade.", LATER_OF_JADE, beginning)[:2] == [
        "This stone is old.",
        "It is hard.",
    ]


class _Overviews:
    """Tells what asks for an overview from small talk, and sentences by their letters."""

    fingerprint = "overviews"

    def embed(self, texts):
        asks = [[float("about" in text and "J" not in text)] for text in texts]
        return np.concatenate([letter_vectors(texts), asks], axis=-1)


class _Kinds:
    """Tells summaries and tasks from small talk, and sentences by their letters."""

    fingerprint = "kinds"

    def embed(self, texts):
        kinds = [
            [float("Summarize" in text), float("Translate" in text), float("?" in text)]
            for text in texts
        ]
        letters = letter_vectors(texts)
        return np.concatenate(
            [10 * np.array(kinds), letters * (np.sum(kinds, axis=-1) == 0)[:, None]], axis=-1
        )


def test_for_a_summary_the_sentences_count_that_say_most_of_each_passage() -> None:
    river = Passage("It is said to be deep. The Jade is a river. Ferries cross it.")
    told = [sentences_of(each.text) for each in (river, NEON)]
    of_river, of_neon = trusted(VectorNearness(_Kinds()), "Summarize them.", [river, NEON], told)
    first, nearest, other = (each.trust for each in of_river)
    assert 1 == first > of_neon[0].trust > nearest > 0.5 > other
    engine = NestEngine(ScriptedLanguageModel("", confidence=0.1), embedder=_Kinds())
    output = engine.ask("Summarize them.", passages=[river, NEON])
    assert output.text == "It is said to be deep."
    assert output.citations
    assert output.notices == ()


def test_what_is_done_with_passages_is_in_the_models_words_and_cited_where_they_repeat() -> None:
    engine = NestEngine(ScriptedLanguageModel(HELIUM.text), embedder=_Kinds())
    output = engine.ask("Translate them.", passages=[HELIUM])
    assert output.text == HELIUM.text
    assert output.citations
    assert "what it repeats of them is cited" in output.notices[0]


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He met Mr. Smith. It was late.", ["He met Mr. Smith.", "It was late."]),
        ("One.\n\nTwo here\n", ["One.", "Two here"]),
        ("富士山は高い。東京も。", ["富士山は高い。", "東京も。"]),
        ("पेन नीला है। पानी ठंडा है।", ["पेन नीला है।", "पानी ठंडा है।"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    found = sentences_of(text)
    assert [text[sentence.start : sentence.end] for sentence in found] == expected
    tokens = ByteTokenizer().encode_passage(Passage(text))
    for sentence, of_tokens in zip(found, in_tokens(found, tokens), strict=True):
        covered = bytes(tokens.token_ids[of_tokens.start : of_tokens.end]).decode()
        assert covered == text[sentence.start : sentence.end]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("It boils at 4 kelvin.", True),
        ('He said "no."', True),
        ("富士山は高い。", True),
        ("A line\n", True),
        ("He met Mr.", False),
        ("It costs 4.5", False),
        ("The sea", False),
    ],
)
def test_where_a_sentence_has_ended(text: str, expected: bool) -> None:
    assert ends_sentence(text) is expected


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


class _Vectors:
    """Remembers what it has embedded; ``between`` 0 and 1, everything is near to everything."""

    fingerprint = "letters"

    def __init__(self, between: float = 0.0) -> None:
        self.between = between
        self.embedded: list[str] = []

    def embed(self, texts):
        self.embedded += texts
        vectors = letter_vectors(texts)
        vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
        in_common = np.full((len(texts), 1), self.between**0.5)
        return np.concatenate([(1 - self.between) ** 0.5 * vectors, in_common], axis=-1)


def test_an_embedder_finds_the_sentence_in_any_words_and_reads_each_once() -> None:
    embedder = _Vectors()
    engine = unsure()
    engine.embedder = embedder
    settings = {"passages": [NEON, HELIUM], "method": "ra-nest", "max_new_tokens": 80}
    for _ in range(2):
        output = engine.ask("Which J saw it?", **settings)
        assert output.text == "Helium was discovered in 1868 by Janssen."
    assert engine.ask("Which Z was it?", **settings).notices  # no sentence has one
    assert len(embedder.embedded) == len(set(embedder.embedded))
    assert "Helium. It boils at 4 kelvin." in embedder.embedded


@pytest.mark.parametrize("between", [0.0, 0.8])
def test_what_is_near_counts_from_what_is_near_by_chance(between: float) -> None:
    """To some embedders everything is near: their cosines lie between 0.8 and 1."""
    nearness = VectorNearness(_Vectors(between))
    texts = ["It is said of J.", "It is not.", "Nor is this."]
    [(near, *others)] = nearness.of(["Which J saw it?"], texts)
    assert near == pytest.approx(0.96, abs=0.02)
    assert np.allclose(others, 0, atol=0.05)
    assert nearness.is_answered("Which J saw it?", texts)
    assert not nearness.is_answered("Which Z was it?", texts)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda texts: 1 / 0, "the embedder failed, which finds the sentence that answers: div"),
        (lambda texts: [[1.0]], r"vectors of shape \(1, 1\) for 9 texts"),
    ],
)
def test_an_embedder_that_fails_is_named(returned, message: str) -> None:
    engine = unsure()
    embedder = _Vectors()
    embedder.embed = returned
    engine.embedder = embedder
    with pytest.raises(RetrievalError, match=message):
        engine.ask("Which J saw it?", passages=[NEON, HELIUM])


def test_a_few_embedders_are_remembered() -> None:
    engine = unsure()
    for number in range(20):
        engine.embedder = _Vectors()
        engine.embedder.fingerprint = str(number)
        assert engine.nearness is engine.nearness
    assert len(engine._by_vectors) <= 4
    engine.embedder = False
    engine.retriever = DenseRetriever([NEON, HELIUM], _Vectors())
    assert isinstance(engine.nearness, LetterNearness)
    assert engine.sentence_embedder is None


def test_the_retrievers_embedder_is_the_engines() -> None:
    engine = unsure()
    assert isinstance(engine.nearness, LetterNearness)
    engine.retriever = DenseRetriever([NEON, HELIUM], _Vectors())
    nearness = engine.nearness
    assert isinstance(nearness, VectorNearness)
    assert engine.nearness is nearness
    sparse = BM25Retriever([NEON, HELIUM])
    engine.retriever = HybridRetriever(sparse, engine.retriever)
    assert engine.nearness is nearness
    engine.retriever = sparse
    assert isinstance(engine.nearness, LetterNearness)
