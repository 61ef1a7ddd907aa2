"""The rows of CSV files, each as a document: every value beside the name of its column."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nest_engine.errors import InputError

_DELIMITERS = ",;\t|"
_SEPARATOR = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
_MOST_ROWS = 200_000  # a passage each takes a kilobyte, whatever the row's length
_LOOKED_AT = 1 << 16  # characters that tell the delimiter
csv.field_size_limit(1 << 24)


class Row(NamedTuple):
    """A row of a table.

    Args:
        line: line of the file that it ends on, from 1.
        text: a line for each value, such as ``Year: 2023``.
    """

    line: int
    text: str


def read_table(source: str) -> Iterator[Row]:
    """Yield the rows of a table below its header.

    Raises:
        InputError: while iterating, at what is no row.
    """
    separator = _SEPARATOR.match(source)
    if separator is not None:  # Excel's
        source = source[separator.end() :]
    try:
        dialect = csv.Sniffer().sniff(source[:_LOOKED_AT], _DELIMITERS)
    except csv.Error:  # one column, say
        dialect = csv.excel
    lines = io.StringIO(source, newline="")
    if source.count('"') % 2:  # a stray one would swallow the rows behind it
        reader = csv.reader(lines, dialect, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, dialect)
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


def _named(names: Sequence[str], cells: Sequence[str]) -> Iterator[str]:
    for number, cell in enumerate(map(str.strip, cells)):
        name = names[number] if number < len(names) else ""
        if cell:
            yield f"{name}: {cell}" if name else cell
