"""Lines that are no part of a sentence with others: headings, rows of tables, code, entries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise, zip_longest

from nest_engine.citations.languages import COMMON_WORDS

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
# A block of code is one sentence, with its marks; at a passage's end it may lack the closing one.
# Each line can be read in one way only: else a block that is not closed takes forever.
_CODE_LINES = r"(?:(?![ \t]*\1)[^\n]*\n)*"
FENCED = re.compile(
    r"(?m)^[ \t]*(`{3,8}|~{3,8})(?:[^\n]*\n" + _CODE_LINES + r"[ \t]*\1[ \t]*(?=\r?$)"
    r"|[ \t]*\w[^\n]*\n" + _CODE_LINES + r"(?:(?![ \t]*\1)[^\n]+)?\Z)"
)
# Lines of a plan, a record or a talk: each begins with a time, a name in bold, or who speaks.
_TIMED = re.compile(
    r"(?m)^[ \t]*(?:[-*+•][ \t]+)?\[?(?:\d{1,4}([-./])\d{1,2}\1\d{1,4},?[ \t]+)?"
    r"\d{1,2}[:.]\d\d(?::\d\d)?(?:[ \t\u202f]?[AaPp]\.?[Mm]\.?)?\]?(?=[ \t])"
)
_NAMED_ENTRY = re.compile(r"(?m)^[ \t]*(?:[-*+•][ \t]+)?\*\*([^*\n]{1,60})(?::\*\*|\*\*[ \t]?:)")
# A row that is laid out by spaces, as on an invoice: one such line may be prose.
_LAID_OUT = re.compile(r"(?m)^[ \t]*\S[^\n]*?\S {4,}(?=\S)")
_SPOKEN = re.compile(r"(?m)^[ \t]*([^\W\d_][\w .'’-]{0,30}):[ \t]+(?=\S)")
# A line that is a heading without marks: it has room for the next word, but that begins a line.
_LINES = re.compile(r"[^\r\n]+")
BLANK_LINE = re.compile(r"\n[ \t]*\r?\n")
ENDS_PROSE = ".!?…。！？।؟۔።"
_FULL, _NARROWEST = 0.6, 40  # of the widest line; characters
AROUND_CUTS = " \t\r\n|"
RULE = re.compile(r"([^\w\s])\1{2,}")
_CLAUSE = re.compile(r"(\d{1,2}(?:\.\d{1,2})*)\.?[ \t]+")  # 4. Liability, 4.1 The Provider
_BAR = re.compile(r"(?<!\\)\|")


def cuts_in_answer(text: str) -> list[int]:
    """Return where headings, bold lead-ins and the cells of tables begin and end."""
    cuts: list[int] = []
    for line in _HEADING_OR_ROW.finditer(text):
        bars = [bar.end() for bar in _BAR.finditer(text, *line.span())] if line[1] else []
        cuts += line.start(), *bars, line.end()
    return sorted((*cuts, *(lead_in.end() for lead_in in _LEAD_IN.finditer(text))))


def cuts_in_source(text: str, language: str) -> list[int]:
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
    for kind in (_TIMED, _LAID_OUT):
        begins = [line.start() for line in kind.finditer(text)]
        yield from begins if len(begins) > 1 else ()
    named = [*_NAMED_ENTRY.finditer(text)]
    if len({line[1] for line in named}) == len(named) > 1:
        yield from (line.start() for line in named)
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
            cells = row.strip(AROUND_CUTS)
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
            and last not in COMMON_WORDS.get(language, ())
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
