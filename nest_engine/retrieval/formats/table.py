"""The rows of CSV files, each as a document: every value beside the name of its column."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from typing import Any, NamedTuple

from nest_engine.errors import InputError

_DELIMITERS = ",;\t|"
_SEPARATOR = re.compile(r""""?sep=(.)"?(?:\r\n?|\n)""", re.IGNORECASE)
_MOST_ROWS = 200_000  # a passage each takes a kilobyte, whatever the row's length
_LOOKED_AT = 1 << 16  # characters that tell the delimiter
_MOST_TITLES = 3  # rows above the header
_FIGURE = re.compile(r"(?!(?:1[5-9]|20)\d\d\Z)[-+]?[\d.,\u00a0]*\d\s*%?")  # but for a year
# No characters: for quotation marks around values, and between the columns where there is but one.
_QUOTE, _NO_DELIMITER = "\ufdd0", "\ufdd1"
csv.field_size_limit(1 << 24)


class Row(NamedTuple):
    """A row of a table.

    Args:
        line: line of the file that it ends on, from 1.
        text: a line for each value, such as ``Year: 2023``.
        title: what stands above the header; may be empty.
    """

    line: int
    text: str
    title: str = ""


def read_table(source: str, delimiter: str | None = None) -> Iterator[Row]:
    """Yield the rows of a table below its header.

    Args:
        source: the table.
        delimiter: what stands between its values; by default what the first row and most others
            agree on.

    Raises:
        InputError: while iterating, at what is no row.
    """
    separator = _SEPARATOR.match(source)
    if separator is not None:  # Excel's
        source, delimiter = source[separator.end() :], separator[1]
    delimiter = delimiter or _delimiter(source)
    reader = _cells(source, delimiter)
    names: Sequence[str] | None = None
    titles: list[str] = []
    num_rows = 0
    try:
        num_titles = _num_titles(_rows_in(_beginning(source), delimiter))
        for cells in reader:
            if not any(map(str.strip, cells)):
                continue
            if len(titles) < num_titles:
                titles.append("".join(cells).strip("# \t"))
            elif names is None:
                names = [name.strip() for name in cells]
            else:
                num_rows += 1
                if num_rows > _MOST_ROWS:
                    raise InputError(
                        f"has more than {_MOST_ROWS:,} rows, and those behind are left out; make a "
                        ".jsonl file of what is to be found"
                    )
                text = "\n".join(_named(names, cells))
                yield Row(reader.line_num, text, " ".join(titles))
    except csv.Error as error:
        raise InputError(f"line {reader.line_num}: {error}") from error


def _cells(source: str, delimiter: str) -> Any:
    """Return a reader of rows to which only marks around a whole value are quotation marks."""
    end = f"{re.escape(delimiter)}\\r\\n"
    quoted = re.compile(rf"""(?<![^{end}]) *"([^"]*(?:""[^"]*)*)"[ \\t]*(?=[{end}]|\\Z)""")
    marked = quoted.sub(
        lambda value: _QUOTE + value[1].replace('""', '"') + _QUOTE,
        source.replace(_QUOTE, "\ufffd"),
    )
    return csv.reader(io.StringIO(marked, newline=""), delimiter=delimiter, quotechar=_QUOTE)


def _beginning(source: str) -> str:
    """Return as many whole rows as tell what kind of table it is."""
    beginning = source[:_LOOKED_AT]
    if len(source) > _LOOKED_AT:  # without the row that is cut off
        beginning = beginning[: beginning.rfind("\n") + 1] or beginning
    return beginning


def _rows_in(beginning: str, delimiter: str) -> list[list[str]]:
    return [row for row in _cells(beginning, delimiter) if any(map(str.strip, row))]


def _delimiter(source: str) -> str:
    """Return the delimiter by which most rows have as many values as the header."""
    beginning = _beginning(source)

    def agreement(delimiter: str) -> tuple[float, int]:
        try:
            rows = _rows_in(beginning, delimiter)
        except csv.Error:
            return 0, 0
        widths = [len(row) for row in rows[_num_titles(rows) :]]
        if not widths or widths[0] == 1:
            return 0, 0
        return widths.count(widths[0]) / len(widths), widths[0]

    return max(_NO_DELIMITER + _DELIMITERS, key=agreement)


def _num_titles(rows: Sequence[Sequence[str]]) -> int:
    """Return how many rows stand above the header: a title, and what else has but one value.

    Args:
        rows: the first rows, without empty ones.
    """
    titles = [*takewhile(lambda row: sum(map(bool, map(str.strip, row))) == 1, rows)]
    below = rows[len(titles) :]
    if not titles or len(titles) > _MOST_TITLES or len(below) < 2:
        return 0
    header = below[0]
    if all(len(row) == 1 for row in titles):
        # Or the column is a text: "Text", "Helium, a gas".
        is_prose = any(cell[:1] == " " or cell.rstrip()[-1:] in ".!?" for cell in header)
        is_even = all(len(row) == len(header) for row in islice(below, 2 * len(titles)))
        return 0 if is_prose or not is_even else len(titles)
    # Or only one column has a name.
    first, *others = map(str.strip, header)
    return 0 if first and any(map(_FIGURE.fullmatch, others)) else len(titles)


def _named(names: Sequence[str], cells: Sequence[str]) -> Iterator[str]:
    for number, cell in enumerate(map(str.strip, cells)):
        name = names[number] if number < len(names) else ""
        if cell:
            yield f"{name}: {cell}" if name else cell
