r"""Measure keyword search in ten languages: how often the passage that answers comes first.

    python -m benchmarks.languages --out results

The passages are parallel: one for each country, made of the names that the Unicode CLDR has for
countries, currencies and languages (package Babel), by one sentence pattern for each language. The
questions are in small letters, as people type them: which money a country has, and, where it is the
only country with its money, which country that is.

``words`` is what keyword search is without any knowledge of languages: maximal runs of ``\w``, in
small letters.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from babel import Locale
from babel.languages import get_official_languages
from babel.numbers import get_territory_currencies

from benchmarks import report
from nest_engine import Passage
from nest_engine.retrieval import BM25Retriever, term_index

_MAX_LANGUAGES = 3


@dataclass(frozen=True)
class Pattern:
    """How a language says it.

    Args:
        passage: with ``{country}``, ``{currency}`` and ``{languages}``.
        money: asks for a country's money, with ``{country}``.
        country: asks for the country that has a money, with ``{currency}``.
    """

    passage: str
    money: str
    country: str


PATTERNS = {
    "en": Pattern(
        "{country}: people pay with the {currency} and speak {languages}.",
        "which money do people use in {country}?",
        "where do people pay with the {currency}?",
    ),
    "de": Pattern(
        "{country}: Man bezahlt mit {currency} und spricht {languages}.",
        "welches geld hat man in {country}?",
        "in welchem land bezahlt man mit {currency}?",
    ),
    "tr": Pattern(
        "{country}: Para birimi {currency}, konuşulan diller {languages}.",
        "{country} ülkesinde hangi para kullanılır?",
        "para birimi {currency} olan ülke hangisidir?",
    ),
    "ru": Pattern(
        "{country}: здесь платят деньгами «{currency}», говорят на языках: {languages}.",
        "какие деньги в стране {country}?",
        "где платят деньгами {currency}?",
    ),
    "ar": Pattern(
        "{country}: يدفع الناس بعملة {currency} ويتكلمون {languages}.",
        "ما هي العملة المستخدمة في {country}؟",
        "في أي بلد يدفع الناس بعملة {currency}؟",
    ),
    "hi": Pattern(
        "{country} में लोग {currency} से भुगतान करते हैं और {languages} बोलते हैं।",
        "{country} में कौन सा पैसा चलता है?",
        "लोग {currency} से भुगतान कहाँ करते हैं?",
    ),
    "zh": Pattern(
        "{country}的人用{currency}付款，说{languages}。",
        "在{country}用什么钱？",
        "哪个国家用{currency}付款？",
    ),
    "ja": Pattern(
        "{country}の人々は{currency}で支払い、{languages}を話します。",
        "{country}ではどんなお金を使いますか。",
        "{currency}で支払う国はどこですか。",
    ),
    "ko": Pattern(
        "{country}에서는 {currency}로 지불하고 {languages}를 말한다.",
        "{country}의 돈은 무엇입니까?",
        "{currency}로 지불하는 나라는 어디입니까?",
    ),
    "th": Pattern(
        "ผู้คนใน{country}จ่ายเงินด้วย{currency}และพูด{languages}",
        "คนใน{country}ใช้เงินอะไร",
        "ประเทศไหนจ่ายเงินด้วย{currency}",
    ),
}  # fmt: skip
_AND = {"zh": "、", "ja": "、", "th": " "}


@dataclass(frozen=True)
class Question:
    """A question and the number of the passage that answers it."""

    text: str
    answer: int


def parallel_set(language: str) -> tuple[list[Passage], list[Question]]:
    """Return passages and questions; those of every language say and ask the same."""
    locale, pattern = Locale(language), PATTERNS[language]
    facts = {code: _facts(code) for code in sorted(Locale("en").territories)}
    countries = {code: known for code, known in facts.items() if known}
    uses = Counter(currency for currency, _ in countries.values())
    passages: list[Passage] = []
    questions: list[Question] = []
    for number, (code, (currency, spoken)) in enumerate(countries.items()):
        names = {
            "country": locale.territories[code],
            "currency": locale.currencies.get(currency, currency),
            "languages": _AND.get(language, ", ").join(locale.languages[each] for each in spoken),
        }
        passages.append(Passage(pattern.passage.format_map(names)))
        asked = [pattern.money] + [pattern.country] * (uses[currency] == 1)
        questions += [Question(each.format_map(names).casefold(), number) for each in asked]
    return passages, questions


def _facts(code: str) -> tuple[str, Sequence[str]] | None:
    """Return a country's first currency and its languages that all of the ten have a name for."""
    currencies = get_territory_currencies(code) if len(code) == 2 and code.isalpha() else []
    spoken = [
        language
        for language in get_official_languages(code, de_facto=True)
        if all(language in Locale(each).languages for each in PATTERNS)
    ]
    return (currencies[0], spoken[:_MAX_LANGUAGES]) if currencies and spoken else None


def hits(passages: Sequence[Passage], questions: Sequence[Question]) -> float:
    """Return the share of questions whose answer comes first, in %."""
    retriever = BM25Retriever(passages)
    found = retriever.retrieve([question.text for question in questions], 1)
    first = [result[0].id if result else None for result in found]
    right = sum(
        passages[question.answer].id == best
        for question, best in zip(questions, first, strict=True)
    )
    return 100 * right / len(questions)


def plain_words(text: str) -> list[str]:
    """Return the terms of a search that knows no languages."""
    return re.findall(r"\w+", text.lower())


def measure(language: str) -> dict[str, Any]:
    """Return one row of the table."""
    passages, questions = parallel_set(language)
    with patch.multiple(term_index, terms_of=plain_words, query_terms=plain_words):
        by_words = hits(passages, questions)
    return {
        "language": Locale(language).english_name,
        "passages": len(passages),
        "questions": len(questions),
        "words": by_words,
        "hit@1": hits(passages, questions),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder for languages.json")
    arguments = parser.parse_args()
    rows = [measure(language) for language in PATTERNS]
    report.show("The passage that answers comes first, %", rows, list(rows[0]))
    if arguments.out:
        report.write("languages", {}, rows, arguments.out)


if __name__ == "__main__":
    main()
