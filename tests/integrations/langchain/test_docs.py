"""Every snippet of docs/langchain.md runs, and the diff is the difference of its two chains."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_core", reason="needs: pip install 'nest-engine[langchain]'")
pytest.importorskip("bm25s", reason="bm25s runs the engine's keyword search")
pytest.importorskip(
    "langchain_huggingface", reason="the chain to compare with runs on HuggingFacePipeline"
)

PAGE = (Path(__file__).parents[3] / "docs" / "langchain.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.filterwarnings("ignore")
def test_every_snippet_runs(capsys: pytest.CaptureFixture[str]):
    namespace: dict[str, Any] = {}
    printed = []
    for number, snippet in enumerate(SNIPPETS):
        exec(compile(snippet, f"docs/langchain.md, snippet {number}", "exec"), namespace)
        printed.append(capsys.readouterr().out)
    before, after, citations, chat, failure = (printed[number] for number in (3, 4, 5, 8, 9))
    first = "Halley's Comet is a bright comet that returns to the inner Solar System"
    assert after.strip().startswith(f"{first} about every 76 years. ")
    assert first not in before  # the small model alone
    assert citations.startswith("Halley's Comet nest-demo:halleys-comet ")
    assert "[Halley's Comet]" in chat
    assert failure == "Down failed: the store is down\n"


def test_the_diff_is_the_difference_of_the_two_chains():
    [shown] = re.findall(r"```diff\n(.*?)```", PAGE, re.DOTALL)
    before, after = (snippet.splitlines() for snippet in SNIPPETS[3:5])
    lines = difflib.ndiff(before, after)
    changes = [line[0] + line[2:] for line in lines if line[0] in "+-"]
    assert sorted(shown.splitlines()) == sorted(changes)
    assert len([line for line in before if line]) == 10
