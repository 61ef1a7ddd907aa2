"""The sentences of texts: what people quote, and where a copy ends.

Boundaries are those of the library sentencex, which knows the full stops of many scripts and, by
language, the abbreviations that end no sentence; and some that it takes for ends are none.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING, NamedTuple

import sentencex

if TYPE_CHECKING:
    from nest_engine.interfaces import TokenizedPassage

_LONGEST_TAIL = 400  # characters that tell whether a text ends with a sentence
_LONGEST_SAMPLE = 1000  # characters that tell a language
# By the words that nearly every text of a language has.
_COMMON_WORDS = {
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
_QUESTION_MARKS = frozenset(
    "?\N{FULLWIDTH QUESTION MARK}\N{ARABIC QUESTION MARK}\N{GREEK QUESTION MARK}"
    "\N{ARMENIAN QUESTION MARK}\N{ETHIOPIC QUESTION MARK}"
)
_SCRIPTS = {"ru": re.compile("[а-яё]"), "el": re.compile("[α-ω]")}
_WORD = re.compile(r"(?<![\w.])[^\W\d_]+(?!\.\w)")  # no e.g.
# Where a full stop makes an ordinal of a number: am 5. Januar, der 2. Weltkrieg.
_WITH_ORDINALS = frozenset(
    ["de", "da", "no", "sv", "cs", "pl", "fi", "hu", "tr", "hr", "sk", "sl", "et", "lv", "is"]
)
_LAST_WORD = re.compile(r"(?<!\w)(\w+)\.\Z")
_ORDINAL, _ROMAN = re.compile(r"\d{1,2}"), re.compile("[IVX]{1,6}")
# In front of a figure or a small letter.
_ABBREVIATIONS = frozenset(
    [
        *("abb", "approx", "art", "avg", "bd", "ca", "ch", "chap", "ed", "eq", "esp", "est"),
        *("fig", "figs", "incl", "max", "min", "no", "nos", "nr", "p", "pp", "sec", "temp"),
        *("vol", "vols", "г", "т", "cl", "para", "paras", "ext", "mwst", "ust", "av", "ul", "ул"),
        *("jan", "feb", "apr", "jun", "jul", "aug", "sept", "oct", "nov", "dec", "okt", "dez"),
        *("lun", "mer", "jeu", "ven", "sam", "dim", "д", "кв", "руб"),
    ]
)
# Likewise, but also words: with a capital letter.
_WEEKDAYS = frozenset(["Mon", "Tue", "Tues", "Wed", "Thu", "Thur", "Thurs", "Fri", "Sat"])
_STREET = "str"  # the end of a street's name in German
# Lines of Markdown that are no part of a sentence with others: a heading, a row of a table.
_HEADING_OR_ROW = re.compile(r"(?m)^[ \t]*(?:(?:#{1,6}[ \t]|\*\*[^*\n]+\*\*:?[ \t]*(?=\n)|(\|)).*)")
# What a line begins with in bold, to say what it is about: **Safety:** It is not flammable.
_LEAD_IN = re.compile(
    r"(?m)^[ \t]*(?:(?:[-*+•]|\d{1,3}[.)])[ \t]+)?"
    r"(?:\*\*[^*\n]{1,80}(?::\*\*|\*\*[ \t]?(?::|[–—-](?=\s)))"
    r"|<(b|strong)>[^<\n]{1,80}(?::</\1>|</\1>:))(?=[ \t]+\S)"
)
# Likewise in a source, where a line of signs may stand under a heading.
_HEADING_OR_RULE = re.compile(
    r"(?m)^[ \t]*(?:#{1,6}[ \t].*|\*\*[^*\n]+\*\*:?[ \t]*(?=\r?\n)|([^\w\s])\1{2,}[ \t]*(?=\r?$))"
)
# A block of code is one sentence.
_FENCED = re.compile(r"(?ms)^[ \t]*(`{3,}|~{3,})[^\n]*\n.*?^[ \t]*\1[ \t]*$")
# Lines of a plan, a record or a talk: each begins with a time, a name in bold, or who speaks.
_TIMED = re.compile(
    r"(?m)^[ \t]*(?:[-*+•][ \t]+)?\[?\d{1,2}[:.]\d\d(?::\d\d)?(?:[ \t]?[ap]m)?\]?[ \t]"
)
_NAMED_ENTRY = re.compile(r"(?m)^[ \t]*(?:[-*+•][ \t]+)?\*\*([^*\n]{1,60})(?::\*\*|\*\*[ \t]?:)")
_SPOKEN = re.compile(r"(?m)^[ \t]*([^\W\d_][\w .'’-]{0,30}):[ \t]+(?=\S)")
# A line that is a heading without marks: it has room for the next word, but that begins a line.
_LINES = re.compile(r"[^\r\n]+")
BLANK_LINE = re.compile(r"\n[ \t]*\r?\n")
ENDS_PROSE = ".!?…。！？।؟۔።"
_FULL, _NARROWEST = 0.6, 40  # of the widest line; characters
CLOSING_SIGNS = re.compile(r"(?:[*_~]{1,3}|</\w{1,10}>)+(?=\s|\Z)")  # of Markdown's emphasis
_NOT_SPACE = re.compile(r"\S")
_AROUND_CUTS = " \t\r\n|"
_RULE = re.compile(r"([^\w\s])\1{2,}")
# What stands in front of a heading, a clause or an item, and is no sentence.
_NUMBER = re.compile(r"[#*_\s]*(?:\d{1,3}(?:\.\d{1,3})*|[IVXLC]{1,6}|[A-Za-z])[.)]")
_CLAUSE = re.compile(r"(\d{1,2}(?:\.\d{1,2})*)\.?[ \t]+")  # 4. Liability, 4.1 The Provider
_ITEM = re.compile(r"(?:[-*+•]|\d{1,3}[.)])[ \t]")
_BAR = re.compile(r"(?<!\\)\|")
_NAMED = frozenset(  # in front of a name, or a noun
    [
        *("fa", "ul", "np", "gen", "bp", "św", "attn", "bd", "mme", "mmes", "mlle", "tel", "tél"),
        *("excl", "incl", "inkl", "exkl", "zzgl", "tsp", "tbsp", "dept", "ref", "ул", "им"),
        *("mr", "mrs", "ms", "dr", "prof"),
    ]
)
_NAMED_IN = {
    "fr": frozenset(["M"]),
    "vi": frozenset(["BS", "GS", "KS", "PGS", "ThS", "TP", "TS"]),
}
# Full stops that the library does not know: of Khmer, but for "and so on", Tibetan and Mongolian.
_MORE_ENDS = re.compile(r"(?:(?<!។ល)[។៕](?!ល។)|[།༎](?:\s*[།༎])*|[᠃᠉])[\"'”’»)\]]*\s*(?=\S)")


class Sentence(NamedTuple):
    """A sentence of a passage.

    Args:
        start: first character in ``Passage.text``; in a :class:`TokenIndex`, first token.
        end: one past the last.
        trust: how far it can be trusted to answer what was asked, in (0, 1]; 0 if nobody knows what
            was asked.
        introduces: whether it is its passage's first that is no heading: it says whom others mean.
    """

    start: int
    end: int
    trust: float = 0.0
    introduces: bool = False


def sentences_of(
    text: str, language: str | None = None, *, is_answer: bool = False
) -> list[Sentence]:
    """Return the sentences of a text, without the space around them.

    Args:
        text: the text.
        language: its language, as :func:`language_of` tells it, if it is known.
        is_answer: whether a model wrote it, in Markdown: then headings, bold lead-ins and the cells
            of tables stand by themselves.
    """
    language = language or language_of(text)
    sentences: list[Sentence] = []
    start = 0
    for code in _FENCED.finditer(text):
        sentences += _of_prose(text, start, code.start(), language, is_answer)
        start = code.end()
        sentences.append(Sentence(start - len(code[0].lstrip()), start))
    return sentences + _of_prose(text, start, len(text), language, is_answer)


def _of_prose(whole: str, first: int, last: int, language: str, is_answer: bool) -> list[Sentence]:
    """Return the sentences of a stretch of a text that holds no code."""
    text = whole[first:last]
    sentences: list[Sentence] = []
    for start, end in _pieces(text, language):
        if sentences and _goes_on(text, sentences[-1], start, language):
            sentences[-1] = sentences[-1]._replace(end=end)
        else:
            sentences.append(Sentence(start, end))
    cuts = _cuts_in_answer(text) if is_answer else _cuts_in_source(text, language)
    return [
        Sentence(first + each.start, first + each.end)
        for each in _with_closing_signs(text, _apart(text, sentences, cuts))
    ]


def _cuts_in_answer(text: str) -> list[int]:
    """Return where headings, bold lead-ins and the cells of tables begin and end."""
    cuts: list[int] = []
    for line in _HEADING_OR_ROW.finditer(text):
        bars = [bar.end() for bar in _BAR.finditer(text, *line.span())] if line[1] else []
        cuts += line.start(), *bars, line.end()
    return sorted((*cuts, *(lead_in.end() for lead_in in _LEAD_IN.finditer(text))))


def _cuts_in_source(text: str, language: str) -> list[int]:
    """Return where headings and the rows of tables begin and end, and where entries begin."""
    if "\n" not in text:
        return []
    cuts = {cut for line in _HEADING_OR_RULE.finditer(text) for cut in line.span()}
    cuts.update(cut for row in _rows(text) for cut in row)
    cuts.update(_begins_of_entries(text))
    return sorted(cuts | ends_of_headings(text, language))


def _begins_of_entries(text: str) -> Iterator[int]:
    """Yield where lines begin that are of a kind: one such line may be prose.

    A record among others is one sentence, whose lines say whom the others are about.
    """
    timed = [line.start() for line in _TIMED.finditer(text)]
    yield from timed if len(timed) > 1 else ()
    named = {line[1]: line.start() for line in _NAMED_ENTRY.finditer(text)}
    yield from named.values() if len(named) == len(_NAMED_ENTRY.findall(text)) > 1 else ()
    for start, end in _paragraphs(text):
        spoken = [*_SPOKEN.finditer(text, start, end)]
        if len({line[1] for line in spoken}) < len(spoken):
            yield from (line.start() for line in spoken)


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    yield from pairwise([0, *(blank.start() for blank in BLANK_LINE.finditer(text)), len(text)])


def _rows(text: str) -> Iterator[tuple[int, int]]:
    """Yield the rows of Markdown tables within their bars, which marked columns do not need."""
    lines = list(_LINES.finditer(text))
    in_table = False
    for line, following in zip_longest(lines, lines[1:]):
        is_marked = following is not None and is_under_columns(following[0])
        in_table = "|" in line[0] and (in_table or is_marked)
        row = line[0].strip()
        if in_table or (row.startswith("|") and row.endswith("|")):
            cells = row.strip(_AROUND_CUTS)
            start = line.start() + line[0].index(cells)
            yield start, start + len(cells)


def is_under_columns(line: str) -> bool:
    """Return whether a line is the one of signs below the first row of a Markdown table."""
    return "|" in line and "-" in line and set(line) <= set("|:- \t\r")


def ends_of_headings(text: str, language: str) -> set[int]:
    """Return where those headings of a source end that have no marks, but room behind them."""
    return {
        end
        for paragraph in _paragraphs(text)
        for end in _ends_of_headings(text, *paragraph, language)
    }


def _ends_of_headings(text: str, start: int, end: int, language: str) -> Iterator[int]:
    """Yield where the headings without marks end among the lines of a paragraph.

    Lines of a paragraph that is broken by its width are nearly as long as the longest, and those of
    a list are all short.
    """
    lines = [line for line in _LINES.finditer(text, start, end) if line[0].strip()]
    full = _FULL * max([_NARROWEST, *(len(line[0].strip()) for line in lines)])
    for line, following in pairwise(lines):
        said, next_said = line[0].strip(), following[0].strip()
        first, last = _word_behind(said, next_said), said.split()[-1]
        if (
            "|" not in said
            and last[-1].isalnum()
            and last not in _COMMON_WORDS.get(language, ())
            and first[0].isalpha()
            and not first[0].islower()
            and len(said) + 1 + (len(first) if first.isascii() else 1) <= full
            and (len(next_said) > full or next_said[-1] in ENDS_PROSE)
        ):
            yield line.start() + len(line[0].rstrip())


def _word_behind(said: str, next_said: str) -> str:
    """Return the first word of the next line, behind the number of a clause of this one."""
    number, next_number = _CLAUSE.match(said), _CLAUSE.match(next_said)
    if number and next_number and next_number[1].startswith(f"{number[1]}."):
        next_said = next_said[next_number.end() :]
    return next_said.split()[0]


def _apart(text: str, sentences: Sequence[Sentence], cuts: Sequence[int]) -> Iterator[Sentence]:
    """Yield sentences that are cut at some places; nothing without a word is one."""
    for sentence in sentences:
        inner = cuts[bisect_right(cuts, sentence.start) : bisect_left(cuts, sentence.end)]
        if not inner:
            yield sentence
            continue
        for start, end in pairwise([sentence.start, *inner, sentence.end]):
            piece = text[start:end].rstrip(_AROUND_CUTS)
            said = piece.strip(_AROUND_CUTS)
            if said and not (_RULE.fullmatch(said) or is_under_columns(said)):
                begin = start + len(piece) - len(piece.lstrip(_AROUND_CUTS))
                yield Sentence(begin, start + len(piece))


def _pieces(text: str, language: str) -> Iterator[tuple[int, int]]:
    for boundary in sentencex.get_sentence_boundaries(language, text):
        piece, first = boundary["text"], boundary["start_index"]
        ends = [end.end() for end in _MORE_ENDS.finditer(piece)]
        for start, end in pairwise([0, *ends, len(piece)]):
            part = piece[start:end]
            if part.strip():
                start += first + len(part) - len(part.lstrip())
                yield start, start + len(part.strip())


def _goes_on(text: str, sentence: Sentence, following: int, language: str) -> bool:
    """Return whether what seems to be another sentence goes on with the one before it."""
    between = text[sentence.end : following]
    if "\n" not in between and _NUMBER.fullmatch(text, sentence.start, sentence.end):
        return True
    last = _LAST_WORD.search(text, sentence.start, sentence.end)
    begins_item = "\n" in between and _ITEM.match(text, following)
    if last is None or "\n\n" in between or begins_item:
        return False
    word, begins = last[1], text[following]
    if _ORDINAL.fullmatch(word) and language in _WITH_ORDINALS:
        return begins.isalpha()
    if begins.isupper():
        return word.lower() in _NAMED or word in _NAMED_IN.get(language, ())
    known = word.lower() in _ABBREVIATIONS | _NAMED or word in _WEEKDAYS
    return (
        known
        or (begins.isdigit() and word.lower().endswith(_STREET))
        or (begins.islower() and (len(word) == 1 or _ROMAN.fullmatch(word) is not None))
    )


def _with_closing_signs(text: str, sentences: Iterable[Sentence]) -> Iterator[Sentence]:
    """Yield sentences with what closes them, as in **Why?**, and without the rules below them."""
    last: Sentence | None = None
    for sentence in sentences:
        if last is not None:
            if _RULE.fullmatch(text, sentence.start, sentence.end):
                continue
            if sentence.start == last.end:
                closing = CLOSING_SIGNS.match(text, sentence.start, sentence.end)
                last = last._replace(end=closing.end() if closing else last.end)
                start = _NOT_SPACE.search(text, last.end, sentence.end)
                if start is None:
                    continue
                sentence = sentence._replace(start=start.start())
            yield last
        last = sentence
    if last is not None:
        yield last


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
        for language, common in _COMMON_WORDS.items()
    }
    likeliest = max(found, key=lambda language: len(found[language]))
    # A letter alone tells nothing: "a cat", "vitamin E".
    is_told = any(len(word) > 1 for word in found[likeliest])
    return likeliest if is_told and len(found[likeliest]) > len(found["en"]) * 1.5 else "en"


def words_of_asking(question: str) -> frozenset[str]:
    """Return the common words of the language of a question, which do not say what it is about.

    None where it is English, or nobody knows.
    """
    words = _WORD.findall(question.lower())
    found = {
        language: sum(word in known or word in _COMMON_WORDS.get(language, ()) for word in words)
        for language, known in _QUESTION_WORDS.items()
    }
    likeliest = max(found, key=lambda language: found[language])
    if found[likeliest] <= found["en"] * 1.5:
        return frozenset()
    return _QUESTION_WORDS[likeliest] | _COMMON_WORDS.get(likeliest, frozenset())


def is_question(sentence: str) -> bool:
    """Return whether a sentence ends with the question mark of its language."""
    last = sentence.rstrip()[-1:]
    return last in _QUESTION_MARKS or (last == ";" and language_of(sentence) == "el")


def ends_sentence(text: str) -> bool:
    """Return whether a text ends where a sentence ends, or a line: what follows begins another."""
    tail = text[-_LONGEST_TAIL:]
    if not tail.strip() or tail.endswith("\n"):
        return True
    last = _LAST_WORD.search(tail.rstrip())
    if last is not None and last[1].lower() in _ABBREVIATIONS:  # a figure may follow
        return False
    # A name behind it: an abbreviation goes on with one.
    followed = f"{tail.rstrip()} Smith"
    return sentences_of(followed)[-1].start == len(followed) - len("Smith")


def in_tokens(sentences: Sequence[Sentence], tokens: TokenizedPassage) -> list[Sentence]:
    """Return sentences by the tokens of their passage; a token belongs where it ends."""
    ranges, token = [], 0
    for sentence in sentences:
        while token < len(tokens.ends) and tokens.ends[token] <= sentence.start:
            token += 1
        first = token
        while token < len(tokens.ends) and tokens.starts[token] < sentence.end:
            token += 1
        if token > first:
            ranges.append(sentence._replace(start=first, end=token))
    return ranges
