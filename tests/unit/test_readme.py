"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs(capsys):
    example = next(
        block
        for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
        if "import" in block
    )
    exec(compile(example, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "chemical element with the symbol He" in printed
    assert re.search(r"\| Helium 0 48", printed)


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", README))
def test_links_lead_to_files(link):
    assert (Path(__file__).parents[2] / link).exists()
