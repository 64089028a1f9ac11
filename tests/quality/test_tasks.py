"""Questions with four answers, and `eval --tasks`."""

from __future__ import annotations

from collections import Counter

import numpy as np

from emulator.chat.template import chat_of
from emulator.quality.tasks import Item, choose, items_that_ship
from weights.rom import RomImage


def test_items():
    """At least twenty of a kind, each with four different answers."""
    items = items_that_ship()
    assert min(Counter(item.kind for item in items).values()) >= 20
    assert all(len(set(item.choices)) == 4 for item in items)
    assert len({item.text for item in items}) == len(items)


def test_the_likeliest_answer_is_chosen(tiny_image: RomImage):
    """By the mean of its tokens, so that a long answer has no drawback."""
    chat = chat_of(tiny_image)
    likely = chat.encode("abc")

    def logits(tokens: list[int]) -> np.ndarray:
        rows = np.zeros((len(tokens), 320))
        rows[:, likely] = 5
        return rows

    assert choose(logits, chat, Item("any", "Which?", ("xyz", "x", "abcabc", "abcx"))) == 2
    assert choose(logits, chat, Item("any", "Which?", ("a", "b", "x", "abc"))) == 0
