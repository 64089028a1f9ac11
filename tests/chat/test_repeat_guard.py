"""The repeat guard: a phrase again and again is a loop, a word or two are not."""

from __future__ import annotations

from itertools import chain, repeat

import pytest

from emulator.chat.repeat_guard import LEAST, LONGEST, RepeatGuard


def ends(tokens: list[int]) -> int | None:
    """Number of tokens after which the guard speaks up."""
    guard = RepeatGuard()
    return next((i + 1 for i, token in enumerate(tokens) if guard.looped(token)), None)


@pytest.mark.parametrize("length", [1, 2, 7, 12, LONGEST])
def test_a_phrase_in_a_row(length: int):
    """The third time round, or LEAST tokens that repeat; what came before does not matter."""
    phrase = list(range(100, 100 + length))
    tokens = [1, 2, 3, *chain.from_iterable(repeat(phrase, 40))]
    assert ends(tokens) == 3 + length + max(2 * length, LEAST)


def test_what_is_no_loop():
    assert ends([5] * LEAST) is None
    assert ends(list(range(1000))) is None
    assert ends([1, 2, 3, 4, 5, 6, 7, 8] * 2) is None
    assert ends(list(range(LONGEST + 1)) * 5) is None  # longer than it looks back
    counted = chain.from_iterable((9, 8, 7, 6, 5, i) for i in range(100))
    assert ends(list(counted)) is None
