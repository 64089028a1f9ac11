"""Pieces of prompts beside answers, so long that the time between tokens at most doubles."""

from __future__ import annotations

import pytest

pytest.importorskip("starlette")

from emulator.chat.generate import PASS, Asked
from emulator.serve.pieces import Pieces


class Card:
    """What `Pieces` sees of a card."""

    def __init__(self, answers: bool, count: int) -> None:
        self.answers, self.asked = answers, Asked(list(range(count)))


def sizes(pieces: Pieces, *cards: Card) -> dict[int, int]:
    """Tokens of each card that takes part, by its place among these."""
    places = {id(card): i for i, card in enumerate(cards)}
    return {places[id(card)]: len(asked.tokens) for card, asked in pieces.of(list(cards))}


def test_cards_of_one_kind_share_the_pass():
    pieces = Pieces()
    assert sizes(pieces, Card(False, 5000)) == {0: PASS}
    assert sizes(pieces, Card(False, 5000), Card(False, 3)) == {0: PASS // 2, 1: 3}
    assert sizes(pieces, Card(True, 1), Card(True, 9)) == {0: 1, 1: 1}
    assert sizes(pieces, Card(True, 9)) == {0: 9}  # with a draft, which holds up nobody


@pytest.mark.parametrize("each", [0.1, 0.5, 3.0])
def test_a_long_prompt_at_most_doubles_the_time_between_tokens(each):
    """An answer takes a second a pass, a prompt's token `each`, which the pieces find out."""
    pieces, answer, prompt = Pieces(), Card(True, 1), Card(False, 5000)
    assert sizes(pieces, answer) == {0: 1}
    pieces.took(1.0)
    times, ran = [], 0
    for _ in range(200):
        tokens = sizes(pieces, answer, prompt).get(1, 0)
        ran += tokens
        times.append(1.0 + each * tokens)
        pieces.took(times[-1])
    assert max(times[20:]) <= max(2.0, 1 + each)  # one token at least
    assert ran >= 190 * max(int(0.8 / each), 1) * 31 // 32
    assert times.count(1.0) <= 8  # passes without a prompt, to know what the answers take


def test_what_answers_take_is_measured_for_each_number_of_them():
    pieces = Pieces()
    two = Card(True, 1), Card(True, 1)
    assert sizes(pieces, *two, Card(False, 50)) == {0: 1, 1: 1}
    pieces.took(1.0)
    assert sum(sizes(pieces, *two, Card(False, 50), Card(False, 50)).values()) > 2
    assert sizes(pieces, two[0], Card(False, 50)) == {0: 1}
