"""Damaged files of every type become passages or a reported skip, and never an exception."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nest_engine.errors import InputError
from nest_engine.retrieval import read_passages
from nest_engine.retrieval.formats import PARSERS
from tests.field.test_files import book, saved, word_document
from tests.unit.retrieval.test_reading import pdf

PAGE = (
    '<!DOCTYPE html><html><head><title>T</title><meta charset="utf-8"><style>.x{display:none}'
    "</style></head><body><table><tr><td rowspan=2>a<td colspan=3>b<tr><td>c</table><p class=x>d"
    "<!-- e --><ul><li hidden>f<li>g</ul><svg><title>h</title></svg><pre>\ni</pre>&amp;&#x41;"
)
MARKDOWN = (
    "---\ntitle: T\n---\n# A `b`\n\n```\ncode\n```\n\n- c\n  > d\n\n<div hidden>e</div>\n\nF\n===\n"
)


def presentation() -> bytes:
    import pptx

    made = pptx.Presentation()
    made.slides.add_slide(made.slide_layouts[1]).shapes.title.text = "Title"
    return saved(made)


NUM_DAMAGED = int(os.environ.get("NEST_FUZZ", "200"))  # files of each type
SEEDS: dict[str, Callable[[], bytes]] = {
    ".csv": lambda: b'City,Rain\nOslo,"5\n6"\nRome;7\n',
    ".docx": word_document,
    ".epub": book,
    ".html": PAGE.encode,
    ".jsonl": lambda: b'{"text": "a", "metadata": {"b": [1]}}\n{"text": "c", "id": 7}\n',
    ".md": MARKDOWN.encode,
    ".pdf": lambda: pdf("One.", "Two of\ntwo.", title="T"),
    ".pptx": presentation,
    ".rst": lambda: b"Title\n=====\n\n.. note:: x\n\n* a\n\n:role:`b` |c|_\n",
    ".txt": "Text é.".encode,
}
SIGNS = (b"<", b">", b"\0", b"\xff\xfe", b'"', b"`", b"--")
SAME = {".htm": ".html", ".xhtml": ".html", ".markdown": ".md", ".tsv": ".csv"}


def read(path: Path) -> None:
    try:
        passages = read_passages(path).passages
    except InputError:  # everything was skipped, each with its reason
        return
    assert all(passage.text.strip() for passage in passages)


def mutated(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        start = chance.randrange(len(changed) + 1)
        end = min(len(changed), start + chance.choice([0, 1, 1, 4, 50]))
        kind = chance.randrange(4)
        if kind == 0:
            del changed[start:end]
        elif kind == 1:
            changed[start:end] = chance.randbytes(end - start)
        elif kind == 2:
            changed[start:start] = changed[start:end] * chance.randint(1, 20)
        else:
            changed[start:start] = chance.choice(SIGNS)
    return bytes(changed)


CHARACTERS = st.sampled_from("<>/!-?&;#\"'= \n\t`~*_[]():.|a1é漢\0dipv") | st.characters()


def test_every_type_has_a_seed() -> None:
    assert set(SEEDS) | set(SAME) == set(PARSERS)


@pytest.mark.parametrize("suffix", SEEDS)
def test_damaged_files(tmp_path: Path, suffix: str) -> None:
    seed, chance = SEEDS[suffix](), random.Random(suffix)
    for number in range(NUM_DAMAGED):
        data = mutated(seed, chance)
        (path := tmp_path / f"a{suffix}").write_bytes(data)
        try:
            read(path)
        except Exception as error:
            raise AssertionError(f"case {number}: {data!r}") from error


@pytest.mark.parametrize("suffix", [".csv", ".html", ".md", ".rst"])
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(CHARACTERS, max_size=120))
def test_texts_of_signs(tmp_path: Path, suffix: str, text: str) -> None:
    (path := tmp_path / f"a{suffix}").write_text(text, encoding="utf-8", errors="surrogatepass")
    read(path)
