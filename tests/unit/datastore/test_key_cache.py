"""Passage keys are kept by passage, bounded by bytes, from any thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch

from nest_engine import KeyCache, Passage
from nest_engine.datastore.passage_keys import PassageKeys
from nest_engine.interfaces import TokenizedPassage

ENTRY = 400  # bytes of 100 float32 values


def keys(num_values: int = 100) -> PassageKeys:
    return PassageKeys(TokenizedPassage((), (), (), ()), 0, torch.zeros(num_values, 1))


def passages(number: int) -> list[Passage]:
    return [Passage(f"passage {i}") for i in range(number)]


def test_the_least_recently_used_goes_first():
    cache = KeyCache(max_bytes=3 * ENTRY)
    a, b, c, d = passages(4)
    for passage in (a, b, c):
        cache.put("model", passage, keys())
    cache.get("model", a)
    cache.put("model", d, keys())
    assert [cache.get("model", passage) is not None for passage in (a, b, c, d)] == [
        True,
        False,
        True,
        True,
    ]
    assert (len(cache), cache.nbytes) == (3, 3 * ENTRY)


def test_bytes_count_not_entries():
    cache = KeyCache(max_bytes=3 * ENTRY)
    small, large = passages(2)
    cache.put("model", small, keys(50))
    cache.put("model", large, keys(300))
    assert cache.get("model", small) is None
    assert (len(cache), cache.nbytes) == (1, 3 * ENTRY)


def test_what_cannot_fit_is_not_held_and_drops_nothing():
    cache = KeyCache(max_bytes=ENTRY)
    a, b = passages(2)
    cache.put("model", a, keys())
    cache.put("model", b, keys(101))
    assert cache.get("model", a) is not None
    assert cache.get("model", b) is None
    nothing = KeyCache(max_bytes=0)
    nothing.put("model", a, keys(1))
    assert len(nothing) == 0


def test_replacing_counts_once():
    cache = KeyCache(max_bytes=10 * ENTRY)
    [passage] = passages(1)
    cache.put("model", passage, keys(100))
    latest = keys(200)
    cache.put("model", passage, latest)
    assert cache.get("model", passage) is latest
    assert (len(cache), cache.nbytes) == (1, 2 * ENTRY)


def test_keys_belong_to_what_the_model_reads():
    cache = KeyCache()
    cache.put("model", Passage("text", title="title", uri="a"), keys())
    assert cache.get("model", Passage("text", title="title", uri="b", id="other")) is not None
    assert cache.get("model", Passage("text")) is None
    assert cache.get("model", Passage("title. text")) is None


def test_clear():
    cache = KeyCache()
    [passage] = passages(1)
    cache.put("model", passage, keys())
    cache.clear()
    assert (len(cache), cache.nbytes, cache.get("model", passage)) == (0, 0, None)


def test_threads_share_it():
    cache = KeyCache(max_bytes=20 * ENTRY)
    names = passages(40)

    def work(seed: int) -> None:
        for step in range(300):
            passage = names[(seed * 7 + step * 3) % len(names)]
            if cache.get("model", passage) is None:
                cache.put("model", passage, keys(50 + 10 * (step % 10)))
            assert cache.nbytes <= cache.max_bytes

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    held = [found for passage in names if (found := cache.get("model", passage)) is not None]
    assert cache.nbytes == sum(found.nbytes for found in held)
    assert len(held) == len(cache) > 0


def test_models_do_not_share_keys():
    cache, passage = KeyCache(), Passage("text")
    cache.put("one", passage, keys())
    assert cache.get("other", passage) is None
    assert cache.get("one", passage) is not None
