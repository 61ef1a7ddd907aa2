"""Where a text goes round in circles."""

from __future__ import annotations

import pytest

from nest_engine.citations.circles import end_of_first_round, num_repeated

UNSURE = "I'm not sure what to say."


def ended(text: str) -> str | None:
    """Return what is kept of a text that grows character by character; None if all of it."""
    released = 0
    for length in range(1, len(text) + 1):
        end = end_of_first_round(text[:length])
        if end is not None:
            assert end >= released
            return text[:end]
        released = max(released, length - num_repeated(text[:length]))
    return None


@pytest.mark.parametrize(
    ("said", "again"),
    [
        (UNSURE, f" {UNSURE}"),
        (f"Well. {UNSURE}", f" {UNSURE}"),
        (f"- {UNSURE}\n- I'm hungry.", f"\n- {UNSURE}\n- I'm hungry."),
        ("It costs 5 euros. It is red. So it is.", " It is red. So it is."),
        ("The ruby is red. The rose is red.", " The rose is red."),
        ("In the spring,\nA life is born,", "\nIn the spring,\nA life is born,"),
        ("It is the", " the"),
    ],
)
def test_a_text_ends_where_it_begins_to_go_round(said: str, again: str) -> None:
    assert ended(said + 30 * again) == said


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{UNSURE} {UNSURE}",
        "It is red. It is green. It is blue. It is red, too. It is dark.",
        "Row, row, row your boat, gently down the stream. " * 2,
        "| a | b | c | d | e |\n| --- | --- | --- | --- | --- |\n| 1 | 1 | 1 | 1 | 1 |",
        "-" * 80,
        "| Name" + " " * 80 + "|",
        "| --- " * 20,
        "x = " + "0" * 80,
    ],
)
def test_what_does_not_go_round(text: str) -> None:
    assert ended(text) is None
