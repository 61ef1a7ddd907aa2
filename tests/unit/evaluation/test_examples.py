"""The public layouts load as they are; these files are made up in each layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nest_engine import InputError, Passage
from nest_engine.evaluation import Example, read_examples
from nest_engine.evaluation.examples import fingerprint, subject, untokenized

WIKITEXT = """
 = Ada Quill =

 Ada Quill ( born 3 May 1901 ) was a long @-@ distance swimmer 's coach . \
She swam 1 @,@ 500 m , not 2 @.@ 5 km .

 = = Career = =

 She said " I swim " and left .

 = = = Later = = =

 Nothing more is known .

 = Otter River =

 The Otter River is 40 km long .
"""

TRUTHFUL = (
    "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
    'Adversarial,Myths,"Can otters, when wet, fly?",No,No; They cannot,Yes; Only at night,'
    "https://en.wikipedia.org/wiki/Sea_otter#Habits\n"
    "Adversarial,Myths,Is the moon cheese?,It is rock,It is rock,It is "
    "cheese,https://example.org/moon\n"
)


def load(tmp_path: Path, name: str, content: Any) -> list[Example]:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_examples(path)


@pytest.mark.parametrize("name", ["wiki.test.tokens", "valid.txt", "wiki.train.raw"])
def test_wikitext_is_articles_without_its_tokenization(tmp_path: Path, name: str) -> None:
    first, second = load(tmp_path, name, WIKITEXT)

    assert first.titles == ("Ada Quill",)
    assert first.question == "Tell me about Ada Quill."
    assert first.text == (
        "Ada Quill (born 3 May 1901) was a long-distance swimmer's coach. She swam 1,500 m, not "
        "2.5 km.\n"
        'She said "I swim" and left.\nNothing more is known.'
    )
    assert (second.titles, second.text) == (("Otter River",), "The Otter River is 40 km long.")


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("it 's 5 – 6 km / h , is n't it", "it's 5–6 km/h, isn't it"),
        ("the swimmers ' ' song '", "the swimmers' ' song '"),
        ("$ 5 , ( 10 % ) of [ it ] ; so : ? !", "$5, (10%) of [it]; so:?!"),
        ('the " A " and " B C " .', 'the "A" and "B C".'),
        ("<unk> of <unk>", "<unk> of <unk>"),
    ],
)
def test_untokenized(tokens: str, text: str) -> None:
    assert untokenized(tokens) == text


def test_articles_as_lines(tmp_path: Path) -> None:
    [article] = load(
        tmp_path, "a.jsonl", {"id": 7, "title": "Otter (animal)", "text": "Otters swim."}
    )

    assert (article.titles, article.text, article.question) == (
        ("Otter (animal)",),
        "Otters swim.",
        "Tell me about Otter (animal).",
    )
    assert subject(article.titles[0]) == "Otter"


def test_nq_open(tmp_path: Path) -> None:
    lines = '{"question": "who swam first", "answer": ["Ada Quill", "Quill"]}\n\n'
    lines += '{"question": "when", "answer": ["1920"]}\n'
    first, second = load(tmp_path, "NQ-open.dev.jsonl", lines)

    assert (first.question, first.answers, first.titles) == (
        "who swam first",
        ("Ada Quill", "Quill"),
        (),
    )
    assert (first.id, second.id) == ("1", "2")


def test_entity_questions_as_published_and_with_the_title(tmp_path: Path) -> None:
    [published] = load(
        tmp_path,
        "P19.dev.json",
        [{"question": "Where was Ada born?", "answers": ["Oslo", "Kristiania"]}],
    )
    [titled] = load(
        tmp_path,
        "d.jsonl",
        {"question": "Where?", "answers": ["Oslo"], "gold_title": "Ada", "relation": "P19"},
    )

    assert (published.answers, published.titles) == (("Oslo", "Kristiania"), ())
    assert titled.titles == ("Ada",)


def test_trivia_qa(tmp_path: Path) -> None:
    record = {
        "Answer": {
            "Aliases": ["A. Quill", "Ada Quill"],
            "NormalizedAliases": ["a quill"],
            "Value": "Ada Quill",
        },
        "EntityPages": [{"DocSource": "TagMe", "Filename": "Ada.txt", "Title": "Ada Quill"}],
        "Question": "Who swam?",
        "QuestionId": "tc_1",
    }
    [example] = load(tmp_path, "wikipedia-dev.json", {"Data": [record], "Version": 1.0})

    assert (example.question, example.answers, example.titles) == (
        "Who swam?",
        ("Ada Quill", "A. Quill"),
        ("Ada Quill",),
    )


def test_hotpot_qa(tmp_path: Path) -> None:
    record = {
        "_id": "x",
        "question": "Which is longer?",
        "answer": "yes",
        "supporting_facts": [["Otter River", 0], ["Elk River", 2], ["Otter River", 1]],
        "context": [["Otter River", ["It is long.", " It has otters."]], ["Nothing", []]],
    }
    [example] = load(tmp_path, "hotpot_dev_distractor_v1.json", [record])

    assert (example.answers, example.titles) == (("yes",), ("Otter River", "Elk River"))
    assert example.passages == (Passage("It is long. It has otters.", title="Otter River"),)


def test_questions_with_passages(tmp_path: Path) -> None:
    passage = {"title": "Otter", "text": "Otters swim.", "id": "otter-1"}
    records = [
        {"question": "Who swims?", "answers": ["otters"], "passages": [passage, "Elks walk."]},
        {"question": "Who walks?", "possible_answers": '["elks", "an elk"]', "passages": []},
    ]
    first, second = load(tmp_path, "asked.json", records)

    assert first.passages == (
        Passage("Otters swim.", title="Otter", id="otter-1"),
        Passage("Elks walk."),
    )
    assert (second.answers, second.passages) == (("elks", "an elk"), ())


def test_squad(tmp_path: Path) -> None:
    asked = [
        {"question": "Who swims?", "answers": [{"text": "Otters"}, {"text": "Otters"}]},
        {"question": "Who flies?", "answers": [], "is_impossible": True},
    ]
    paragraph = {"context": "Otters swim.", "qas": asked}
    [example] = load(
        tmp_path,
        "dev-v2.0.json",
        {"version": "v2.0", "data": [{"title": "Sea_Otter", "paragraphs": [paragraph]}]},
    )
    assert (example.question, example.answers) == ("Who swims?", ("Otters",))
    assert example.passages == (Passage("Otters swim.", title="Sea Otter"),)


def test_squad_and_hotpot_qa_as_the_library_datasets_writes_them(tmp_path: Path) -> None:
    asked = {
        "id": "5",
        "title": "Sea_Otter",
        "context": "Otters swim.",
        "question": "Who swims?",
        "answers": {"text": ["Otters", "Otters"], "answer_start": [0, 0]},
    }
    hotpot = {
        "question": "Which is longer?",
        "answer": "yes",
        "supporting_facts": {"title": ["Otter River", "Otter River"], "sent_id": [0, 1]},
        "context": {"title": ["Otter River"], "sentences": [["It is long.", " Very."]]},
    }
    [example] = load(tmp_path, "train.jsonl", asked)
    [paired] = load(tmp_path, "hotpot.json", [hotpot])

    assert (example.answers, example.titles) == (("Otters",), ())
    assert example.passages == (Passage("Otters swim.", title="Sea Otter"),)
    assert (paired.answers, paired.titles) == (("yes",), ("Otter River",))
    assert paired.passages == (Passage("It is long. Very.", title="Otter River"),)


@pytest.mark.parametrize(
    ("fields", "answers"),
    [
        ({"answer": 1990}, ("1990",)),
        ({"answers": [1990, 3.5, "1990"]}, ("1990", "3.5")),
        ({"answer": None}, ()),
        ({"answers": ["", None, " "]}, ()),
        ({"answers": {"text": [], "answer_start": []}}, ()),
        ({"answers": [{"text": "Ada", "answer_start": 3}]}, ("Ada",)),
        ({"possible_answers": '"elks"'}, ("elks",)),
        ({"possible_answers": None}, ()),
    ],
)
def test_answers_are_texts_numbers_or_missing(
    tmp_path: Path, fields: dict[str, Any], answers: tuple[str, ...]
) -> None:
    [example] = load(tmp_path, "a.jsonl", {"question": "When?"} | fields)
    assert example.answers == answers


def test_fields_that_may_be_missing(tmp_path: Path) -> None:
    asked = {"question": "Who?", "answers": [{"text": "Ada"}]}
    untitled = {"context": "Ada swam.", "qas": [asked, {"question": "Why?"}]}
    [example] = load(tmp_path, "squad.json", {"data": [{"paragraphs": [untitled]}]})
    assert example.passages == (Passage("Ada swam."),)

    passages = [{"text": "Ada swam.", "title": None, "id": 7}, "", {"text": "She won.", "id": 0}]
    record = {"question": "Who?", "answer": "Ada", "gold_title": None, "passages": passages}
    [example] = load(tmp_path, "own.jsonl", record)
    assert [(each.text, each.id) for each in example.passages] == [
        ("Ada swam.", "7"),
        ("She won.", "0"),
    ]
    assert example.titles == ()
    [example] = load(
        tmp_path,
        "trivia.json",
        {"Data": [{"Question": "q", "Answer": {"Value": 5, "Aliases": None}, "EntityPages": None}]},
    )
    assert (example.answers, example.titles) == (("5",), ())


def test_lines_are_lines_whatever_the_file_is_called_and_wherever_it_was_written(
    tmp_path: Path,
) -> None:
    one = json.dumps({"question": "Who\u2028swam?", "answer": "Ada\x85"}, ensure_ascii=False)
    for name, content in (
        ("a.jsonl", f"\ufeff{one}\r\n\r\n{one}\r\n"),
        ("written_by_datasets.json", f"{one}\n{one}\n"),
    ):
        assert [each.question for each in load(tmp_path, name, content)] == ["Who\u2028swam?"] * 2
    assert len(load(tmp_path, "single.json", one)) == 1

    (tmp_path / "dos.tokens").write_bytes(WIKITEXT.replace("\n", "\r\n").encode())
    assert read_examples(tmp_path / "dos.tokens") == load(tmp_path, "unix.tokens", WIKITEXT)
    [example] = load(tmp_path, "mmlu.csv", "Which\u2028one?,a,b,c,d,A\r\n , , , , ,\r\n")
    assert example.question == "Which\u2028one?"


def test_truthful_qa_without_a_false_answer_is_no_choice(tmp_path: Path) -> None:
    header, first, *_ = TRUTHFUL.splitlines()
    [example] = load(tmp_path, "t.csv", f"{header}\n{first.replace('Yes; Only at night', '')}\n")
    assert (example.choices, example.right) == (("No",), None)


def test_truthful_qa(tmp_path: Path) -> None:
    first, second = load(tmp_path, "TruthfulQA.csv", TRUTHFUL)

    assert first.question == "Can otters, when wet, fly?"
    assert first.answers == ("No", "They cannot", "I have no comment.")
    assert first.incorrect == ("Yes", "Only at night")
    assert (first.choices, first.right) == (("No", "Yes", "Only at night"), 0)
    assert (first.titles, second.titles) == (("Sea otter",), ())


def test_mmlu(tmp_path: Path) -> None:
    [example] = load(tmp_path, "abstract_test.csv", '"What is ""2, 3""?",a pair,"a, b",c,d,B\n')

    assert example == Example(
        "1", 'What is "2, 3"?', answers=("a, b",), choices=("a pair", "a, b", "c", "d"), right=1
    )


def test_factscore_entities_and_topics(tmp_path: Path) -> None:
    for name, content in (
        ("prompt_entities.txt", "Ada Quill\n\nOtter River\n"),
        ("labeled.jsonl", '{"topic": "Ada Quill", "output": "x"}'),
    ):
        examples = load(tmp_path, name, content)
        assert (examples[0].titles, examples[0].question) == (
            ("Ada Quill",),
            "Tell me about Ada Quill.",
        )
    assert len(load(tmp_path, "entities.txt", "Ada Quill\n\nOtter River\n")) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", '{"question": "q", "answer": "a"}\n{broken', r"x\.jsonl, line 2: not JSON"),
        (
            "x.jsonl",
            '{"query": "q"}',
            r"x\.jsonl, line 1: has query; expected one of: .*question, answers",
        ),
        ("x.jsonl", "[1]", r"line 1: expected an object, got list"),
        ("x.json", '{"a": 1}', r"x\.json: expected a list of questions"),
        ("x.json", '[{"Question": "q", "Answer": "a"}]', r"record 1: malformed"),
        (
            "x.csv",
            "question,a,b\n",
            r"x\.csv, row 1: expected a question, four choices .*it has 3 fields",
        ),
        ("x.csv", "q,a,b,c,d,E\n", r"row 1: expected"),
        ("x.csv", "q,a,b,c,d,\n", r"row 1: expected"),
        ("x.csv", "Question,Best Answer\nq,a\n", r"row 1: no column 'Correct Answers'"),
        ("x.csv", TRUTHFUL.replace(",No,", ",,"), r"row 1: 'Question' or 'Best Answer' is empty"),
        ("x.txt", " \n", r"x\.txt holds no example"),
        (
            "x.ndjson",
            '{"question": "q", "answer": "a"}\n',
            r"x\.ndjson holds JSON: name it \.jsonl",
        ),
        ("x.tsv", "id\tquestion\n", r"x\.tsv, line 1: holds a tab"),
        ("x.json", '{"data": 5}', r"x\.json: expected a list of questions"),
        ("x.json", "[" * 100_000, r"x\.json: not JSON"),
        ("x.json", {"data": [{"title": "t"}]}, r"article 1: malformed \(no field 'paragraphs'\)"),
        (
            "x.jsonl",
            {"question": "q", "answer": {"value": "a", "aliases": []}},
            r"line 1: answer is \{'value': 'a', 'aliases': \[\]\}; expected a text, or a list of",
        ),
        ("x.jsonl", {"question": "q", "answer": True}, r"line 1: answer is True; expected"),
        (
            "x.jsonl",
            {"question": None, "answer": "a"},
            r"line 1: question is None; expected a text",
        ),
        ("x.jsonl", {"question": "\ud800", "answer": "a"}, r"line 1: question holds a lone surr"),
        (
            "x.jsonl",
            {"question": "q", "possible_answers": "['a']"},
            r"line 1: possible_answers: not JSON",
        ),
        (
            "x.jsonl",
            {"question": "q", "answer": "a", "passages": "Otters swim."},
            r"line 1: passages is 'Otters swim\.'; expected a list of texts",
        ),
        (
            "x.jsonl",
            {"question": "q", "answer": "a", "passages": [{"text": None}]},
            r"line 1: a passage is None; expected a text",
        ),
        (
            "x.jsonl",
            {"question": "q", "answer": "a", "passages": ["a\ud800"]},
            r"line 1: Passage\.text holds a lone surrogate",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    tmp_path: Path, name: str, content: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load(tmp_path, name, content)


def test_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"Andr\xe9")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_examples(tmp_path / "latin.txt")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_examples(tmp_path / "none.txt")


def test_a_fingerprint_tells_data_sets_apart() -> None:
    one, other = Example("1", "a"), Example("1", "b")

    assert fingerprint([one]) == fingerprint([Example("1", "a")])
    assert (
        len({fingerprint(examples) for examples in ([one], [other], [one, other], [other, one])})
        == 4
    )
