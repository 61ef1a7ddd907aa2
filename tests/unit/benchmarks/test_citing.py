"""`benchmarks/citing.py` plants every kind of case and times every size, on the shipped corpus."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import citing


def test_planted_cases_and_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["citing", "--cases", "10", "--repeats", "1", "--out", str(tmp_path)]
    )
    citing.main()
    rows = json.loads((tmp_path / "citing.json").read_text(encoding="utf-8"))["rows"]
    planted = {row["planted"]: row for row in rows if "planted" in row}
    assert set(citing.KINDS) - set(planted) <= {"no negation"}  # the corpus has hardly any
    for kind in ("a quotation", "in other characters"):
        assert planted[kind]["right source"] == 1
        assert planted[kind]["verbatim"] == planted[kind]["sentences quoted"] == 10
    for kind in {"another digit", "another name", "no negation", "spliced"} & set(planted):
        assert planted[kind]["verbatim"] == planted[kind]["sentences quoted"] == 0
    assert planted["another article's"]["characters cited"] < 0.01
    assert [row["passages"] for row in rows if "passages" in row]
