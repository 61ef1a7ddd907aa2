"""The rows of CSV files, each as a document: every value beside the name of its column."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from nest_engine.errors import InputError

_DELIMITERS = ",;\t|"
_SEPARATOR = re.compile(r""""?sep=(.)"?(?:\r\n?|\n)""", re.IGNORECASE)
_MOST_ROWS = 200_000  # a passage each takes a kilobyte, whatever the row's length
_LOOKED_AT = 1 << 16  # characters that tell the delimiter
# No characters: for quotation marks around values, and between the columns where there is but one.
_QUOTE, _NO_DELIMITER = "\ufdd0", "\ufdd1"
csv.field_size_limit(1 << 24)


class Row(NamedTuple):
    """A row of a table.

    Args:
        line: line of the file that it ends on, from 1.
        text: a line for each value, such as ``Year: 2023``.
    """

    line: int
    text: str


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
    reader = _cells(source, delimiter or _delimiter(source))
    names: Sequence[str] | None = None
    num_rows = 0
    try:
        for cells in reader:
            if not any(map(str.strip, cells)):
                continue
            if names is None:
                names = [name.strip() for name in cells]
                continue
            num_rows += 1
            if num_rows > _MOST_ROWS:
                raise InputError(
                    f"has more than {_MOST_ROWS:,} rows, and those behind are left out; make a "
                    ".jsonl file of what is to be found"
                )
            yield Row(reader.line_num, "\n".join(_named(names, cells)))
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


def _delimiter(source: str) -> str:
    """Return the delimiter by which most rows have as many values as the header."""
    beginning = source[:_LOOKED_AT]
    if len(source) > _LOOKED_AT:  # without the row that is cut off
        beginning = beginning[: beginning.rfind("\n") + 1] or beginning

    def agreement(delimiter: str) -> tuple[float, int]:
        try:
            widths = [len(row) for row in _cells(beginning, delimiter) if any(map(str.strip, row))]
        except csv.Error:
            return 0, 0
        if not widths or widths[0] == 1:
            return 0, 0
        return widths.count(widths[0]) / len(widths), widths[0]

    return max(_NO_DELIMITER + _DELIMITERS, key=agreement)


def _named(names: Sequence[str], cells: Sequence[str]) -> Iterator[str]:
    for number, cell in enumerate(map(str.strip, cells)):
        name = names[number] if number < len(names) else ""
        if cell:
            yield f"{name}: {cell}" if name else cell
