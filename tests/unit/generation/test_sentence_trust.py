"""Which sentences are trusted to answer: nearness by vectors and by letters, and what is told."""

from __future__ import annotations

import time
import zlib
from dataclasses import replace

import numpy as np
import pytest

from nest_engine import NestEngine, Passage, RetrievalError
from nest_engine.citations.sentences import sentences_of
from nest_engine.generation.nearness import _ANSWERED, LetterNearness, VectorNearness
from nest_engine.generation.sentence_trust import _codes, beside_title, trusted
from nest_engine.retrieval import BM25Retriever, DenseRetriever, HybridRetriever
from nest_engine.testing import ScriptedLanguageModel
from tests.letter_vectors import LetterEmbedder, letter_vectors

HELIUM = Passage(
    "The name is Greek. Helium was discovered in 1868 by Janssen. It boils at 4 kelvin.",
    title="Helium",
)
NEON = Passage("Neon glows red in tubes. Ramsay discovered neon in 1898.", title="Neon")
TOLD = [sentences_of(HELIUM.text)]


def unsure() -> NestEngine:
    """A model that finds everything plausible, and would go on for ever."""
    return NestEngine(ScriptedLanguageModel(lambda _: ord("x"), confidence=0.02))


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


def test_the_first_sentence_of_prose_says_what_a_passage_is_about() -> None:
    passage = Passage("# Jade\n\nThe river is long. It is deep.", title="River")
    told = sentences_of(passage.text)
    [trusted_sentences] = trusted(VectorNearness(LetterEmbedder()), "Jade", [passage], [told]) or []
    assert [each.introduces for each in trusted_sentences] == [0, 1, 0]
    assert [each.trust == 1 for each in trusted_sentences] == [False, True, False]


def test_what_does_not_name_the_subject_introduces_nobody() -> None:
    """A passage out of the middle of a document begins with anything."""
    passage = Passage("It burned down in 1900. Jade roofs came later.", title="Old station")
    told = sentences_of(passage.text)
    [trusted_sentences] = trusted(VectorNearness(LetterEmbedder()), "Jade", [passage], [told]) or []
    assert [each.introduces for each in trusted_sentences] == [0, 0]


def told(nearness: LetterNearness | VectorNearness, asked: str, *passages: Passage) -> list[str]:
    """Return the sentences that an answer begins with: those of a trust of a third at least."""
    sentences_P = [sentences_of(passage.text) for passage in passages]
    best = sorted(
        (-each.trust, passage.text[each.start : each.end])
        for passage, sentences in zip(
            passages,
            trusted(nearness, asked, passages, sentences_P) or [[] for _ in passages],
            strict=True,
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


def test_a_list_is_told_whole_behind_what_leads_it_in() -> None:
    items = [f"- a {colour} stone" for colour in ("green", "red", "grey", "blue", "black", "pink")]
    text = "\n".join(["It is cut. The kings of Jade Island wore:", "", *items]) + "\n\nIt is warm."
    nearness = LetterNearness(lambda word: 9.0 if word in ("kings", "wore") else 5.0)
    lead = "The kings of Jade Island wore:"
    assert told(nearness, "What had the kings worn?", Passage(text)) == [lead, *items]


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


def test_whoever_asks_no_more_than_a_sentence_has_is_told_those_behind_it() -> None:
    rock = Passage("It was built late. Life on the J rock was hard. No boat came. It rained.")
    nearness = VectorNearness(_Overviews())
    lead = ["Life on the J rock was hard.", "No boat came.", "It rained."]
    assert told(nearness, "Something about life on the J rock.", rock) == lead
    assert told(nearness, "How was life on the J rock?", rock) == lead[:1]


def test_of_a_document_only_the_beginning_introduces() -> None:
    """Wherever else its title is named, somebody has said before what it is."""
    passages = [LATER_OF_JADE, JADE]
    sentences_P = [sentences_of(passage.text) for passage in passages]
    trusted_P = trusted(VectorNearness(LetterEmbedder()), "Jade", passages, sentences_P) or []
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


def test_an_embedder_finds_the_sentence_in_any_words_and_reads_each_once() -> None:
    embedder = LetterEmbedder()
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
    nearness = VectorNearness(LetterEmbedder(between))
    texts = ["It is said of J.", "It is not.", "Nor is this."]
    [(near, *others)] = nearness.of(["Which J saw it?"], texts)
    scale = 2 / 3 / 0.3  # to this embedder no answer is near to its question
    assert near == pytest.approx(0.96 * scale, abs=0.05)
    assert np.allclose(others, 0, atol=0.05 * scale)
    assert nearness.is_answered("Which J saw it?", texts)
    assert not nearness.is_answered("Which Z was it?", texts)


class Scattered:
    """Vectors in all directions of few dimensions, texts of one kind in one direction.

    Args:
        kinds: words that tell the kinds.
        pull: how far a kind tells the direction.
        size: dimensions.
    """

    fingerprint = "scattered"

    def __init__(self, *kinds: str, pull: float = 6.0, size: int = 8) -> None:
        self.kinds, self.pull, self.size = kinds, pull, size

    def embed(self, texts):
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str):
        vector = np.random.default_rng(zlib.crc32(text.encode())).normal(size=self.size)
        for kind in self.kinds:
            if kind in text:
                vector += self.pull * np.random.default_rng(zlib.crc32(kind.encode())).normal(
                    size=8
                )
        return vector / np.linalg.norm(vector)


def test_among_many_passages_a_sentence_answers_as_it_does_among_few() -> None:
    """Of many sentences one always happens to be near to small talk."""
    nearness = VectorNearness(Scattered("Zinc", pull=1.5))
    for size in (9, 400):
        others = [f"It is number {n}." for n in range(size)]
        near_T = nearness.of(["What is Zinc?"], ["Zinc is a metal.", *others])[0]
        assert near_T[0] > 0.6
        assert nearness.is_answered("What is Zinc?", ["Zinc is a metal.", *others])


@pytest.mark.parametrize("apart", [0.3, 1.0, 3.0])
def test_each_embedder_has_its_own_reach(apart: float) -> None:
    """To one of them answers are a third as near to their questions as to another."""

    class Answers(Scattered):
        def _vector(self, text: str):
            of_question = {answer: question for question, answer in [*_ANSWERED, ASKED]}
            own = super()._vector(text)
            return super()._vector(of_question.get(text, text)) + apart * own * (
                text in of_question
            )

    nearness = VectorNearness(Answers(size=256))
    others = ["Nothing is known of it.", "Rain fell.", "It is late."]
    assert nearness.is_answered(ASKED[0], [ASKED[1], *others])
    assert not nearness.is_answered(ASKED[0], others)


ASKED = ("Who painted it?", "A pupil of Vermeer did.")


def test_a_sentence_that_has_what_is_asked_need_not_be_as_near() -> None:
    rare = ("zincite", "quartz")
    letters = LetterNearness(lambda word: 12.0 if word in rare else 4.0)
    texts = ["Bruce wrote of zincite in 1810."]
    nearness = VectorNearness(LetterEmbedder(), letters)
    for far in (0.05, 0.3):
        nearness._by_vectors = lambda questions, texts, far=far: np.full((1, 1), far, np.float32)
        assert nearness.is_answered("Who saw zincite?", texts) is (far > 0.2)
        assert nearness.is_answered("Who saw quartz?", texts) is False


def test_a_greeting_is_not_answered_by_that_of_a_letter() -> None:
    letter = Passage("Hello J,\n\nThe pump is broken. Please help.\n\nKind regards,\n\nMax")
    for nearness in (LetterNearness(lambda word: 9.0), VectorNearness(LetterEmbedder())):
        assert told(nearness, "Hello there, J!", letter) == []


RARE = LetterNearness(lambda word: 5.0 if len(word) < 4 else 9.0)


@pytest.mark.parametrize("nearness", [RARE, VectorNearness(LetterEmbedder(), RARE)])
def test_another_code_answers_nothing(nearness: LetterNearness | VectorNearness) -> None:
    manual = Passage("# Errors\n\nJ-47 signals a leak. J-4 is none.", title="Jug")
    roads = Passage("An error signals a road.", title="Roads")
    for code in ("J-47", "J47"):
        known = told(nearness, f"What signals {code}?", manual, roads)
        assert known[:1] == ["J-47 signals a leak."]
    for code in ("J-48", "J-470", "X-47"):
        assert told(nearness, f"What signals {code}?", manual, roads) == []


@pytest.mark.parametrize(
    ("question", "said", "other"),
    [
        ("What signals J-47?", "J47 is a leak.", "J-470 is a leak."),
        ("What signals J-47 or J-52?", "J-52 is a leak.", "J-53 is a leak."),
        ("J-47は何ですか", "J-47は漏れです。", "J-48は漏れです。"),
        ("Was bedeutet der J-47-Fehler?", "J-47 ist ein Leck.", "J-48 ist ein Leck."),
        ("Who has the J380s?", "They have a J380.", "It is of J."),
        ("What is new in Jug 3.2?", "J v3.2.1 is red.", "J 3.3 is red."),
        ("What is new in 3.2.1 of J?", "J v3.2.1 is red.", "J 3.2 is red."),
    ],
)
def test_codes_as_people_write_them(question: str, said: str, other: str) -> None:
    nearness = VectorNearness(LetterEmbedder())
    assert told(nearness, question, Passage(said, title="J")) == [said]
    is_code = "380" not in question
    assert (told(nearness, question, Passage(other, title="J")) == []) is is_code


def test_no_question_takes_forever() -> None:
    for question in ("AB" + "1" * 60 + "x", "A1" * 4000 + "x", "1." * 4000 + "x", "E-" * 4000):
        start = time.perf_counter()
        _codes(question)
        assert time.perf_counter() - start < 5


@pytest.mark.parametrize("question", ["Is J 2.5 hours late?", "J at 10.30 pm?", "J on 15.10.23?"])
def test_other_numbers_may_be_written_otherwise(question: str) -> None:
    said = "J is more than two hours late."
    assert told(VectorNearness(LetterEmbedder()), question, Passage(said)) == [said]


def test_the_version_that_is_asked_about_comes_first() -> None:
    versions = {"3.0.0": "A jug", "3.1.1": "A lid", "3.2.0": "A grip"}
    text = "# Quill\n\n" + "\n\n".join(
        f"## {version}\n\n- {what} is new." for version, what in versions.items()
    )
    nearness = VectorNearness(Scattered("new"), RARE)
    for version, what in versions.items():
        [first, *_] = told(nearness, f"What is new in {version}?", Passage(text, title="Quill"))
        assert first == f"- {what} is new."


@pytest.mark.parametrize("asked", ["Describe the care of it.", "Care?"])
@pytest.mark.parametrize("nearness", [RARE, VectorNearness(Scattered("Describe", "are"), RARE)])
def test_a_section_that_is_asked_about_as_such_is_told_in_its_order(
    nearness: LetterNearness | VectorNearness, asked: str
) -> None:
    text = (
        "# Jug\n\nIt holds a litre.\n\n## Care\n\nRinse it. Let it dry. Take care of the lid.\n\n"
        "## Repair\n\nAsk us to mend it."
    )
    order = ["Rinse it.", "Let it dry.", "Take care of the lid."]
    assert told(nearness, asked, Passage(text, title="Jug"))[:3] == order


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda texts: 1 / 0, "the embedder failed, which finds the sentence that answers: div"),
        (lambda texts: [[1.0]], r"vectors of shape \(1, 1\) for 5 texts"),
    ],
)
def test_an_embedder_that_fails_is_named(returned, message: str) -> None:
    engine = unsure()
    embedder = LetterEmbedder()
    embedder.embed = returned
    engine.embedder = embedder
    with pytest.raises(RetrievalError, match=message):
        engine.ask("Which J saw it?", passages=[NEON, HELIUM])


def test_a_few_embedders_are_remembered() -> None:
    engine = unsure()
    for number in range(20):
        engine.embedder = LetterEmbedder()
        engine.embedder.fingerprint = str(number)
        assert engine.nearness is engine.nearness
    assert len(engine._by_vectors) <= 4
    engine.embedder = False
    engine.retriever = DenseRetriever([NEON, HELIUM], LetterEmbedder())
    assert isinstance(engine.nearness, LetterNearness)
    assert engine.sentence_embedder is None


def test_the_retrievers_embedder_is_the_engines() -> None:
    engine = unsure()
    assert isinstance(engine.nearness, LetterNearness)
    engine.retriever = DenseRetriever([NEON, HELIUM], LetterEmbedder())
    nearness = engine.nearness
    assert isinstance(nearness, VectorNearness)
    assert engine.nearness is nearness
    sparse = BM25Retriever([NEON, HELIUM])
    engine.retriever = HybridRetriever(sparse, engine.retriever)
    assert engine.nearness is nearness
    engine.retriever = sparse
    assert isinstance(engine.nearness, LetterNearness)
