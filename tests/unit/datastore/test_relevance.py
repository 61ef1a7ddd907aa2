"""Passages about something else are not trusted, however near their tokens are."""

from __future__ import annotations

import pytest

import nest_demo
from nest_engine import NestConfig, NestEngine, Passage
from nest_engine.datastore.relevance import Term, _form, rank_information, relevance, terms_of
from nest_engine.generation.request import prepare
from nest_engine.retrieval import BM25Retriever
from nest_engine.testing import ScriptedLanguageModel


def information(word: str) -> float:
    """Common words carry less than is given for free."""
    return 5.0 if word in ("tell", "me", "about", "what", "is", "the", "of", "he") else 10.0


def of(query: str, *passages: Passage, half: float = 0.8) -> list[float]:
    return [
        round(value, 2) for value in relevance(query, passages, half=half, information=information)
    ]


def test_a_name_stands_in_a_passage_as_a_whole_or_not_at_all():
    about, scattered = (
        Passage("The life of Edmond Halley."),
        Passage("Edmond met a man called Halley."),
    )
    assert of("Tell me about Edmond Halley.", about, scattered) == [1.0, 0.0]
    assert of(
        "Tell me about Edmond Halley.", Passage("He met him.", title="Edmond Halley"), Passage("x")
    ) == [1.0, 0.0]
    assert of("Tell me about Edmond Halley.", about, scattered, half=0.0) == [1.0, 1.0]


def test_everything_may_be_asked_for():
    assert of(
        "Tell me about Edmond Halley.", Passage("Edmond Halley."), Passage("x"), half=1.0
    ) == [0.5, 0.0]


def test_most_of_a_word_outside_names_is_given_for_free():
    asked = "What do dragonfly larva eat?"
    everything, nothing = Passage("A dragonfly and its larva eat."), Passage("Nothing here.")
    assert of(asked, everything, nothing) == [1.0, 0.0]
    assert of(asked, everything, nothing, half=0.6) == [1.0, 0.5]


def test_a_question_may_say_its_words_in_another_form():
    passage = Passage("Early termination of contracts")
    assert of("when contracts terminated early", passage) == [1.0]
    prose = (
        "contracts terminated early "
        + " ".join(f"word{chr(97 + i)}" for i in range(26))
        + " and so on and so on"
    )
    # what goes on from a text says its words
    assert of(prose, passage) == of(prose, Passage("Early contracts"))


def test_beside_a_name_other_words_count_less():
    asked = "What is the capital of Atlantis?"
    named, unnamed = Passage("Atlantis sank."), Passage("The capital of Crete.")
    assert of(asked, named, unnamed) == [0.86, 0.0]


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ("Tell me about the Duke of York.", ["me", "about", "the", "Duke of York"]),
        ("Where did J. R. R. Tolkien live?", ["did", "J R R Tolkien", "live"]),
        ("San Juan, Puerto Rico", ["san", "Juan", "Puerto Rico"]),
        (
            "Install Kafka. Redis too, of course",
            ["install", "Kafka", "redi", "too", "of", "course"],
        ),
        ("Ada's Engine and Babbage", ["ada", "Engine", "and", "Babbage"]),
        ("Is the Major League of", ["is", "the", "Major League"]),
        (
            "What is a 4-polytope or Jean-Luc O'Neill?",
            ["is", "a", "4 polytope", "or", "Jean Luc O Neill"],
        ),
        ("How old is Apollo 11 now?", ["old", "is", "Apollo 11", "now"]),
        ("The 2009 Giro d'Italia", ["the", "2009 Giro d Italia"]),
        ("the 18th King", ["the", "18th King"]),
        ("Born 21 March 2009 in Roe v. Wade", ["born", "21", "March 2009", "in", "Roe v Wade"]),
    ],
)
def test_capitalized_words_in_a_row_are_a_name(query, terms):
    """In `terms` the names are those with a capital."""
    expected = [
        Term(tuple(_form(word) for word in term.split()), term != term.lower()) for term in terms
    ]
    assert list(terms_of(query)) == expected


def test_a_text_names_its_subject_first_and_again():
    prose = "The Otter Club is old. The Otter Club met the Heron Club. The Tern Club is new."
    prose += " Then came the Crane Club."
    first, later = Passage("The Otter Club."), Passage("The Crane Club.")
    trusted = of(prose, first, later, half=0.3)
    assert trusted[0] > 0.8 > 0.3 > trusted[1]


def test_a_passage_whose_title_is_asked_for_is_about_it():
    """Its text may speak of "them" alone."""
    asked = "What is a noble gas (chemistry)?"
    noble, other = (
        Passage("They hardly react.", title="Noble gas"),
        Passage("They react.", title="Alkali metal"),
    )
    assert of(asked, noble, other) == [1.0, 0.0]
    assert of(asked, Passage("They hardly react.", title="Noble gas (group 18)")) == [1.0]


def test_a_passage_that_stands_in_the_query_is_trusted():
    chat = "You help Ada Quill at Acme Works. Context: It is green. What colour is it?"
    assert of(chat, Passage("It is green."), Passage("It is red.")) == [1.0, 0.0]


def test_a_title_that_is_said_in_passing_is_not_what_is_asked_for():
    prose = "The Otter Club is old. The Otter Club met. The Otter Club is new."
    prose += " The Otter Club met the Heron Club."
    assert of(prose, Passage("x", title="Otter Club"), Passage("x", title="Heron Club")) == [
        1.0,
        0.0,
    ]


def test_a_title_that_opens_a_text_is_what_it_is_about():
    prose = "The lamp and oil is a tale of Edmond Halley by Edmond Halley."
    assert of(prose, Passage("x", title="Lamp and oil"), Passage("x", title="Tale")) == [1.0, 0.0]


def test_what_is_asked_about_is_one_name():
    together, apart = (
        Passage("Two Celtic languages."),
        Passage("The languages of the Celtic tribes."),
    )
    assert of("Tell me about the Celtic languages.", together, apart) == [1.0, 0.0]
    assert of("Which Celtic languages are spoken?", together, apart)[1] > 0
    assert of("Tell me about the planet Neptune.", Passage("Neptune is one of eight planets.")) == [
        1.0
    ]
    assert of("Tell me about Crete, what is Minoan?", Passage("Crete is Minoan."), half=0.5) == [
        1.0
    ]


def test_a_title_that_is_part_of_a_name_is_not_what_is_asked_for():
    assert of("Tell me about Cash Cash.", Passage("Cash is money.", title="Cash")) == [0.0]


def test_words_that_ask_are_not_what_is_asked_for():
    assert of("Describe helium.", Passage("Helium."), Passage("Describe it.")) == [1.0, 0.0]


@pytest.mark.parametrize("query", ["", "?!", "What is the"])
def test_a_question_that_says_nothing_holds_nothing_against_a_passage(query):
    assert of(query, Passage("Anything.")) == [1.0]


def test_forms_of_a_word_are_one_word():
    assert of("rivers of ITALY", Passage("A river in Italy")) == [1.0]


def test_scripts_without_spaces_are_compared_by_character():
    full, half, none = of(
        "长江在哪里", Passage("长江在哪里？"), Passage("长江 (Chang"), Passage("A river.")
    )
    assert full > 0.99 > half > 0 == none


def test_a_long_prompt_need_not_stand_in_a_passage():
    prompt = " ".join(f"word{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")
    few = " ".join(prompt.split()[3::-1])
    assert of(prompt, Passage(few), Passage("only wordz")) == [1.0, 0.0]


def test_rare_words_have_more_and_later_tokens():
    engine = nest_demo.load_engine()

    def nats(word: str) -> float:
        return rank_information(
            engine.language_model.tokenizer.encode_passage(Passage(f" {word}")).token_ids
        )

    assert max(map(nats, ("the", "of", "is", "about"))) < 7
    assert nats("the") < nats("river") < nats("tungsten")


def test_questions_of_the_shipped_corpus_find_their_passage_relevant():
    engine = nest_demo.load_engine(BM25Retriever(nest_demo.load_passages()))
    config = NestConfig()
    gold, others = [], []
    for question in nest_demo.load_questions():
        [request] = prepare(engine, ["x"], None, [question.question], config)
        for passage, value in zip(request.passages, request.relevance, strict=True):
            (gold if passage.id == question.passage_id else others).append(value)
    assert sum(value > 0.5 for value in gold) >= 0.9 * len(gold)
    assert sum(value > 0.5 for value in others) <= 0.1 * len(others)


def test_the_engine_copies_from_the_passage_that_is_about_the_question():
    """Both passages continue what the model says; only one is about what was asked."""
    wrong = Passage("was born in Ulm and won a prize for the tales of the forest.", title="Astrid")
    right = Passage("was born in Ulm and won a medal for swimming in the sea.", title="Brunhilde")
    engine = NestEngine(ScriptedLanguageModel("was born in Ulm and won a ", memory=6))
    settings = {
        "passages": [wrong, right],
        "query": "Tell me about Brunhilde.",
        "max_new_tokens": 56,
        "alpha": 0.6,
    }
    trusting = engine.generate("Answer: ", relevance=0.0, **settings)
    asking = engine.generate("Answer: ", **settings)
    assert "Astrid" in {citation.title for citation in trusting.citations}
    assert {citation.title for citation in asking.citations} == {"Brunhilde"}


def test_passages_that_a_caller_chose_are_trusted():
    engine = NestEngine(
        ScriptedLanguageModel("Helium"), retriever=_Finds([Passage("Neon is a gas.")])
    )
    relevance_of = {
        (searched, query): prepare(
            engine,
            ["Tell me about helium."],
            None if searched else [[Passage("Neon is a gas.")]],
            [query],
            NestConfig(),
        )[0].relevance
        for searched in (True, False)
        for query in (None, "Tell me about xenon.")
    }
    assert relevance_of[False, None] == ()
    assert all(max(value) < 0.1 for name, value in relevance_of.items() if name != (False, None))


class _Finds:
    def __init__(self, passages: list[Passage]) -> None:
        self._passages = passages

    def retrieve(self, queries: list[str], k: int) -> list[list[Passage]]:
        return [self._passages for _ in queries]


def test_methods_that_compare_or_cannot_harm_trust_everything():
    assert NestConfig(method="knn-lm").relevance == NestConfig(method="lossless").relevance == 0.0
    assert NestConfig(method="nest").relevance == 0.8
    assert NestConfig(method="ra-nest").relevance == 0.0  # it trusts sentences one by one
