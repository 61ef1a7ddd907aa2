"""Execute the notebooks and keep their outputs: ``python -m cookbooks.execute [101 201 ...]``.

Each runs offline in a kernel of its own, in a copy of this folder. What it shows is written back,
and the index in README.md is made from the notebooks' titles and goals and the time that each took.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

FOLDER = Path(__file__).parent
README = FOLDER / "README.md"
VARIES = "varies"  # tag of cells whose numbers depend on the machine
_TIMEOUT = 3600  # seconds for a cell: more than any takes on a busy machine
_INDEX = re.compile(r"(?<=<!-- index -->\n).*?(?=<!-- end of index -->)", re.DOTALL)
_NUMBER = re.compile(r"[-−]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?")
_SECONDS = re.compile(r"\d+(?:\.\d+)? s\b")
_NO_NETWORK = (
    "import pytest_socket; pytest_socket.socket_allow_hosts(['127.0.0.1'], allow_unix_socket=True)"
)


def notebooks() -> list[Path]:
    """Return the notebooks, by number."""
    return sorted(FOLDER.glob("[0-9]*.ipynb"))


def execute(path: Path) -> tuple[NotebookNode, float]:
    """Execute a notebook, offline, in a copy of its folder.

    Returns:
        the notebook with new outputs, and the seconds that it took, the kernel's start included.

    Raises:
        CellExecutionError: if a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch).resolve() / "cookbooks"
        shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        # Kernel and client talk over Unix sockets, beside this file: no test may open another kind.
        connection = str(Path(scratch, "kernel.json"))
        manager = AsyncKernelManager(
            kernel_name="python3", transport="ipc", connection_file=connection
        )
        client = NotebookClient(
            notebook,
            km=manager,
            timeout=_TIMEOUT,
            resources={"metadata": {"path": str(folder)}},
            coalesce_streams=True,
            record_timing=False,
            extra_arguments=[f"--IPKernelApp.exec_lines={_NO_NETWORK}"],
        )
        started = time.monotonic()
        client.execute(env=_environment(scratch), cleanup_kc=True)
        seconds = time.monotonic() - started
    _remove_noise(notebook, folder)
    return notebook, seconds


def compared(notebook: NotebookNode) -> list[tuple[str, list[str]]]:
    """Return what two executions must share: each code cell's id and what it shows as text.

    Times never count, and numbers do not in cells that are tagged ``varies``.
    """
    return [
        (cell.id, [_masked(text, cell) for text in _texts(cell)]) for cell in _code_cells(notebook)
    ]


def index(times: dict[str, int]) -> str:
    """Return the table of notebooks.

    Args:
        times: seconds by file name.
    """
    rows = ["| notebook | goal | time |", "|---|---|---|"]
    for path in notebooks():
        title, goal = heading(path)
        rows.append(f"| [{title}]({path.name}) | {goal} | {times.get(path.name, '–')} s |")
    return "\n".join(rows) + "\n"


def heading(path: Path) -> tuple[str, str]:
    """Return a notebook's title and goal.

    Raises:
        ValueError: if it does not begin with them.
    """
    beginning = nbformat.read(path, as_version=4).cells[0].source
    if (match := re.match(r"# (.+)\n\n\*\*Goal:\*\* (.+)", beginning)) is None:
        raise ValueError(
            f"{path.name} must begin with '# 101 Title' and '**Goal:** ...', not {beginning[:40]!r}"
        )
    return match[1], match[2]


def written_index() -> str:
    """Return the table that stands in README.md."""
    return _INDEX.search(README.read_text(encoding="utf-8")).group()


def written_times() -> dict[str, int]:
    """Return the times that stand in README.md, in seconds by file name."""
    return {
        name: int(seconds)
        for name, seconds in re.findall(r"\((\S+\.ipynb)\).*\| (\d+) s \|", written_index())
    }


def main(numbers: Sequence[str]) -> int:
    """Execute the notebooks with these numbers, or all; 1 if one fails, 2 if none has a number."""
    by_number = {path.name[:3]: path for path in notebooks()}
    if unknown := set(numbers) - by_number.keys():
        print(
            f"error: no notebook {min(unknown)!r}; there are {', '.join(by_number)}",
            file=sys.stderr,
        )
        return 2
    chosen = [by_number[number] for number in numbers] or list(by_number.values())
    times, failed = written_times(), 0
    for path in chosen:
        print(f"{path.name} ... ", end="", flush=True)
        try:
            notebook, seconds = execute(path)
        except CellExecutionError as error:
            print(f"failed\n{error}")
            failed = 1
            continue
        nbformat.write(notebook, path)
        times[path.name] = max(1, round(seconds))
        readme = README.read_text(encoding="utf-8")
        README.write_text(_INDEX.sub(lambda _: index(times), readme), encoding="utf-8")
        print(f"{seconds:.1f} s")
    return failed


def _environment(scratch: str) -> dict[str, str]:
    """Return an environment with this checkout, the offline model, no network, no own IPython."""
    paths = {
        "PATH": [str(Path(sys.executable).parent), os.environ.get("PATH", "")],
        "PYTHONPATH": [str(FOLDER.parent), os.environ.get("PYTHONPATH", "")],
    }
    named = {name: value for name, value in os.environ.items() if name != "NEST_MODEL"}
    return named | {
        "COLUMNS": "110",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "IPYTHONDIR": scratch,
        **{name: os.pathsep.join(filter(None, parts)) for name, parts in paths.items()},
    }


def _remove_noise(notebook: NotebookNode, folder: Path) -> None:
    """Drop what would differ after every execution though nothing has changed."""
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    for cell in _code_cells(notebook):
        for output in cell.outputs:
            shown = output.get("data", output)
            if "text/html" in shown:
                # an answer's repr repeats all passages and every timing
                shown.pop("text/plain", None)
            for kind, text in shown.items():
                if isinstance(text, str):
                    shown[kind] = text.replace(f"{folder}{os.sep}", "")


def _code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _texts(cell: NotebookNode) -> list[str]:
    texts = []
    for output in cell.outputs:
        shown: dict[str, Any] = output.get("data") or {
            output.get("name", "error"): output.get("text", "")
        }
        texts += [
            f"{kind}: {text}" if "image/" not in kind else kind
            for kind, text in sorted(shown.items())
        ]
    return texts


def _masked(text: str, cell: NotebookNode) -> str:
    text = _SECONDS.sub("# s", text)
    if VARIES in cell.metadata.get("tags", ()):
        # columns are as wide as their numbers
        text = re.sub(r"[\s─━]+", " ", _NUMBER.sub("#", text))
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
