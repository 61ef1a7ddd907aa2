"""Output of the benchmarks: tables, JSON with the machine's description, and pictures."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from rich.console import Console
from rich.table import Table

import nest_engine

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Return what figures depend on apart from the code: the processor and the versions."""
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
        "nest_engine": nest_engine.__version__,
    }


def write(
    name: str, setting: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], folder: Path
) -> None:
    """Write rows to ``NAME.json``, with the command, its settings and the machine."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "command": command(),
        "setting": dict(setting),
        "machine": machine(),
        "rows": list(rows),
    }
    (folder / f"{name}.json").write_text(
        json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def write_page(head: str, parts: Sequence[str], out: Path) -> None:
    """Write a page of Markdown that is there as a whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f"{out.name}.partial")
    partial.write_text("\n".join([head, *parts]), encoding="utf-8")
    partial.replace(out)


def show(title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print some columns of rows as a table."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=not number)
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    # Wide enough for every column, whatever the terminal, so that the table can be copied.
    Console(width=max(Console().width, 20 + 14 * len(columns))).print(table)


def markdown(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return some columns of rows as a table in Markdown."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)]]
    lines += [[_cell(row.get(column)) for column in columns] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def lines(
    title: str,
    xlabel: str,
    ylabel: str,
    series: Mapping[str, Sequence[tuple[float, float, float]]],
    path: Path,
) -> None:
    """Draw a line for each name into a PNG: the upper value against x, shaded to the lower.

    Args:
        title: title of the picture.
        xlabel: what x measures.
        ylabel: what the values measure.
        series: ``(x, lower, upper)`` by name.
        path: where to write it.
    """
    figure, axes = _canvas(height=4.5)
    for name, points in series.items():
        xs, lower, upper = zip(*points, strict=True)
        axes.plot(xs, upper, marker="o", label=name)
        axes.fill_between(xs, lower, upper, alpha=0.15)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel, ylim=(0, None))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.legend(loc="upper left")
    _save(figure, axes, path)


def bars(
    title: str, xlabel: str, rows: Sequence[tuple[str, float, float, float]], path: Path
) -> None:
    """Draw one bar for each ``(name, value, lowest, highest)`` into a PNG.

    Args:
        title: title of the picture.
        xlabel: what the bars measure.
        rows: the bars, first on top.
        path: where to write it.
    """
    names, values, lowest, highest = zip(*rows, strict=True)
    figure, axes = _canvas(height=0.5 + 0.32 * len(rows))
    errors = [
        [v - low for v, low in zip(values, lowest, strict=True)],
        [h - v for v, h in zip(values, highest, strict=True)],
    ]
    drawn = axes.barh(names, values, xerr=errors, color="#4c78a8", ecolor="#333333", capsize=2)
    axes.bar_label(drawn, fmt="%.2f", padding=6, fontsize=8)
    axes.axvline(1, color="#888888", linewidth=0.8, linestyle="--")
    axes.margins(x=0.12)
    axes.invert_yaxis()
    axes.set(title=title, xlabel=xlabel)
    _save(figure, axes, path)


def command() -> str:
    """Return the running command, as typed in the folder of its files."""
    module = sys.modules["__main__"].__spec__
    return " ".join(
        [
            "python",
            "-m",
            module.name if module else Path(sys.argv[0]).name,
            *map(shown, sys.argv[1:]),
        ]
    )


def shown(word: str) -> str:
    """Return a word of a command; of a path, only the last part, to hide local folders."""
    return Path(word).name if os.path.exists(word) else word


def _canvas(height: float) -> tuple[Any, Any]:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    return plt.subplots(figsize=(8, height), layout="constrained")


def _save(figure: Any, axes: Any, path: Path) -> None:
    from matplotlib import pyplot as plt

    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
