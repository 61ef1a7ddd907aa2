"""A build that is killed at any step leaves an index that opens: the old one, or the new one."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from nest_engine import Passage
from nest_engine.errors import PassageIndexError
from nest_engine.retrieval import PassageIndex
from tests.unit.retrieval.conftest import LetterEmbedder

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),  # Python 3.12 on
]

# What Python announces before it changes the file system, besides opening a file to write.
STEPS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"}
KILLED = 9


def is_step(event: str, args: tuple[object, ...]) -> bool:
    if event == "open":
        return "index" in str(args[0]) and bool(
            int(str(args[2])) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
    return event in STEPS and any("index" in str(arg) for arg in args)


def build_until(step: int, passages: list[Passage], root: Path) -> bool:
    """Build in a child that dies, as by SIGKILL, just before a step; return whether it did."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            left = step

            def kill(event: str, args: tuple[object, ...]) -> None:
                nonlocal left
                if is_step(event, args):
                    left -= 1
                    if left < 0:
                        os._exit(KILLED)

            sys.addaudithook(kill)
            PassageIndex.build(passages, root, embedder=LetterEmbedder())
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, KILLED)
    return status == KILLED


def passages_in(root: Path) -> int | None:
    """Return how many passages a searchable index holds; None where there is no index at all."""
    if not (root / "CURRENT").exists():
        with pytest.raises(PassageIndexError, match="there is no passage index"):
            PassageIndex.open(root)
        return None
    index = PassageIndex.open(root, embedder=LetterEmbedder())
    assert index.retriever().retrieve(["the longest river of Africa"], 1)[0][0].title == "Nile"
    return len(index.passages)


def sizes_seen(
    passages: list[Passage], template: Path | None, work: Path, stride: int = 1
) -> list[int | None]:
    """Kill builds of all but one passage, each a stride later; return what sizes are left."""
    seen: list[int | None] = []
    for step in range(0, 1000, stride):
        root = work / f"{step}" / "index"
        if template:
            shutil.copytree(template, root)
        killed = build_until(step, passages[1:], root)
        seen.append(passages_in(root))
        if not killed:
            return seen
        PassageIndex.build(passages[2:], root)  # what the killed build has left is in nobody's way
        assert len(list(root.glob("generation-*"))) == 1
        shutil.rmtree(root)
    raise AssertionError("the build never ends")


def test_the_old_index_stays_until_the_new_one_is_complete(tmp_path: Path, passages: list[Passage]):
    PassageIndex.build(passages, tmp_path / "old", embedder=LetterEmbedder())
    seen = sizes_seen(passages, tmp_path / "old", tmp_path)
    switch = seen.index(11)
    assert seen == [12] * switch + [11] * (len(seen) - switch)
    assert switch > 20  # all the files were written before
    assert len(seen) - switch > 5  # and the old ones removed after


def test_a_first_build_leaves_nothing_or_all(tmp_path: Path, passages: list[Passage]):
    seen = sizes_seen(passages, None, tmp_path, stride=4)
    switch = seen.index(11)
    assert seen == [None] * switch + [11] * (len(seen) - switch)
