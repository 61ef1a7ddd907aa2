"""What docs/ray.md shows: each snippet reads, and the first is an application."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="needs: pip install 'nest-engine[ray]'")

from ray.serve import Application

PAGE = (Path(__file__).parents[3] / "docs" / "ray.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_first_snippet_is_an_application_of_ten_lines():
    names: dict[str, Any] = {"__name__": "app"}
    exec(compile(SNIPPETS[0], "docs/ray.md", "exec"), names)
    assert isinstance(names["app"], Application)
    assert (
        "chemical element" in names["load_engine"]().ask("What is helium?", max_new_tokens=32).text
    )
    assert (
        len([line for line in SNIPPETS[0].splitlines() if line and not line.startswith("#")]) <= 10
    )


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_the_others_work_together(cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """On the shipped model and a small index, where the page has more of everything."""
    import nest_demo
    from nest_engine.retrieval import PassageIndex

    monkeypatch.chdir(tmp_path)
    PassageIndex.build(nest_demo.load_passages()[:20], "notes.index")
    index = PassageIndex.open("notes.index")

    def load_engine():
        return nest_demo.load_engine(
            retriever=PassageIndex.open(tmp_path / "notes.index").retriever()
        )

    _, _, keys, rows = SNIPPETS
    names: dict[str, Any] = {"load_engine": load_engine}
    for snippet in (keys, rows):
        exec(
            compile(re.sub(r"num_workers=\d", "num_workers=1", snippet), "docs/ray.md", "exec"),
            names,
        )
    assert len(names["store"]) == len(index.passages)
