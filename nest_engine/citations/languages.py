"""Languages, told by their commonest words and their question marks."""

from __future__ import annotations

import re
from functools import lru_cache

_LONGEST_SAMPLE = 1000  # characters that tell a language
# By the words that nearly every text of a language has.
COMMON_WORDS = {
    language: frozenset(words.split())
    for language, words in {
        "en": "the of and to is was were that with for by from his her it as are an",
        "de": "der die das den dem und ist nicht ein eine wurde war mit von auf im am sich zu",
        "es": "el la los las de que y en un una por con se del es fue",
        "fr": "le la les des et est une dans que pour du au sur il elle par",
        "it": "il la di che e un una per del della è nel con sono gli",
        "pt": "o a os as de que e em um uma do da para foi não com",
        "nl": "de het een van en is op met dat zijn werd voor niet",
        "pl": "się jest nie na z w i do że był jego od przez",
        "cs": "se je na v že byl a z do roku jako dne",
        "da": "og er en et af til det den på i som blev var født",
        "sv": "och är en ett av till det den på i som var född",
        "no": "og er en et av til det den på i som ble var født",
        "fi": "ja on oli se että hän ei kun joka",
        "hu": "a az és egy nem hogy volt van ez",
        "tr": "ve bir bu için ile olarak olan oldu doğdu çok daha",
        "hr": "i u je na se su od za kao koji bio nije godine",
        "sk": "v sa je na že bol sú od ako ktorý roku dňa",
        "sl": "je v na se za ki bil ni tudi leta",
        "et": "ja ei oli et kui aastal ka mis ta",
        "lv": "un ir bija ar kas gadā arī kā viņš",
        "is": "og er að í var sem til það á við fæddist ekki",
        "vi": "và của là các có được trong cho một người không đã ở",
    }.items()
}
# Words that a question has whatever it is about.
_QUESTION_WORDS = {
    language: frozenset(words.split())
    for language, words in {
        "en": "who whom whose what when where why how which did does do has have had can",
        "de": "wer wen wem was wann wo wie warum wieso welche welcher welches welchen welchem "
        "woher wohin wieviel viele hat haben hatte kann sind gibt es",
        "es": "quién quiénes qué cuándo dónde cómo cuál cuáles cuánto cuánta cuántos cuántas está "
        "hay tiene son",
        "fr": "qui quoi quand où comment pourquoi quel quelle quels quelles combien a ont sont",
        "it": "chi cosa quando dove come perché quale quali quanto quanta quanti quante ha hanno",
        "pt": "quem quando onde como porque qual quais quanto quanta quantos quantas é tem são",
        "nl": "wie wat wanneer waar hoe waarom welke welk hoeveel heeft hebben kan zijn",
        "pl": "kto co kiedy gdzie jak dlaczego jaki jaka jakie który która które ile ma są",
        "cs": "kdo co kdy kde jak proč jaký jaká jaké který která které kolik má jsou",
        "da": "hvem hvad hvornår hvor hvordan hvorfor hvilken hvilket hvilke har kan",
        "sv": "vem vad när var hur varför vilken vilket vilka har kan",
        "no": "hvem hva når hvor hvordan hvorfor hvilken hvilket hvilke har kan",
        "fi": "kuka mikä milloin missä miten miksi mitä mistä kuinka onko",
        "hu": "ki mi mikor hol hogyan miért melyik milyen mennyi hány",
        "tr": "kim ne nerede nasıl neden niçin hangi kaç zaman mi mı",
        "vi": "ai gì nào khi đâu sao bao nhiêu thế",
        "ru": "кто что когда где как почему какой какая какое какие какого каком какую сколько чей "
        "в на у и по для ли есть был была было были",
        "el": "ποιος ποια ποιο τι πότε πού πώς γιατί πόσο πόσα είναι το η ο του της στο στη",
    }.items()
}
_COMMONEST = frozenset().union(*COMMON_WORDS.values(), *_QUESTION_WORDS.values())
_QUESTION_MARKS = frozenset(
    "?\N{FULLWIDTH QUESTION MARK}\N{ARABIC QUESTION MARK}\N{GREEK QUESTION MARK}"
    "\N{ARMENIAN QUESTION MARK}\N{ETHIOPIC QUESTION MARK}"
)
_SCRIPTS = {"ru": re.compile("[а-яё]"), "el": re.compile("[α-ω]")}
_WORD = re.compile(r"(?<![\w.])[^\W\d_]+(?!\.\w)")  # no e.g.


@lru_cache(maxsize=1 << 12)
def language_of(text: str) -> str:
    """Return the language of a text, as a code of ISO 639-1; English if it is none of a few."""
    sample = text[:_LONGEST_SAMPLE].lower()
    for language, letters in _SCRIPTS.items():
        if len(letters.findall(sample)) > len(sample) // 3:
            return language
    words = _WORD.findall(sample)
    found = {
        language: [word for word in words if word in common]
        for language, common in COMMON_WORDS.items()
    }
    likeliest = max(found, key=lambda language: len(found[language]))
    # A letter alone tells nothing: "a cat", "vitamin E".
    is_told = any(len(word) > 1 for word in found[likeliest])
    return likeliest if is_told and len(found[likeliest]) > len(found["en"]) * 1.5 else "en"


def is_common(word: str) -> bool:
    """Return whether a word, in small letters, is among the commonest of any of the languages."""
    return word in _COMMONEST


def words_of_asking(question: str) -> frozenset[str]:
    """Return the common words of the language of a question, which do not say what it is about.

    None where it is English, or nobody knows.
    """
    words = _WORD.findall(question.lower())
    found = {
        language: sum(word in known or word in COMMON_WORDS.get(language, ()) for word in words)
        for language, known in _QUESTION_WORDS.items()
    }
    likeliest = max(found, key=lambda language: found[language])
    if found[likeliest] <= found["en"] * 1.5:
        return frozenset()
    return _QUESTION_WORDS[likeliest] | COMMON_WORDS.get(likeliest, frozenset())


def is_question(sentence: str) -> bool:
    """Return whether a sentence ends with the question mark of its language."""
    last = sentence.rstrip()[-1:]
    return last in _QUESTION_MARKS or (last == ";" and language_of(sentence) == "el")
