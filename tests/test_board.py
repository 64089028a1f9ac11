"""Passes over several sequences: each has the bits that it has alone, whoever shares the pass."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels
from emulator.board import Board, Run
from emulator.chip import Chip
from emulator.errors import ContextError, UsageError
from emulator.images.adapters import load_adapters
from tests.support.adapters import write_adapter

VOCABULARY, CONTEXT, SEQUENCES = 320, 24, 16

# What a sequence does before a pass, and in it: forget from a position on (a departure forgets
# all), then run so many tokens, with all logits or the last; 0 tokens: it is not in the pass.
STEPS = st.tuples(st.integers(0, CONTEXT), st.integers(0, 4), st.booleans())
TRAFFIC = st.lists(st.lists(STEPS, min_size=1, max_size=SEQUENCES), min_size=1, max_size=6)


class Alone:
    """Logits of a sequence by its tokens, each run once, on a chip of its own."""

    def __init__(self, image) -> None:
        self.chip = Chip(image, CONTEXT)

    def logits(self, tokens: list[int]) -> np.ndarray:
        """int32[T, vocabulary] after each of the tokens."""
        self.chip.rewind(0)
        return self.chip.forward(tokens, all_logits=True).logits


@pytest.fixture(params=["compiled", "reference"])
def ops(request):
    return kernels.load(request.param)


def test_a_mixed_pass_has_the_bits_of_each_alone(any_image):
    """1 to 16 sequences of random lengths that come, go and step back."""
    alone = Alone(any_image)

    @settings(max_examples=15, deadline=None)
    @given(TRAFFIC, st.integers(0, 1 << 30))
    def check(traffic, seed):
        rng = np.random.default_rng(seed)
        board = Board(any_image, SEQUENCES, CONTEXT)
        for steps in traffic:
            runs = []
            for number, (kept, count, every) in enumerate(steps):
                chip = board.chips[number]
                chip.rewind(min(kept, chip.position))
                room = CONTEXT - chip.position
                tokens = rng.integers(0, VOCABULARY, min(count, room)).tolist()
                if tokens:
                    runs.append(Run(number, tokens, every))
            starts = [board.chips[run.chip].position for run in runs]
            for run, start, wires in zip(runs, starts, board.forward(runs), strict=True):
                held = board.chips[run.chip].tokens
                assert held[start:] == run.tokens
                assert (wires.start, wires.tokens.tolist()) == (start, run.tokens)
                expected = alone.logits(held)[start if run.all_logits else -1 :]
                np.testing.assert_array_equal(wires.logits, expected)
                assert wires.top.tolist() == np.argsort(-expected[-1], kind="stable")[:8].tolist()

    check()


def test_the_srams_hold_what_each_would_hold_alone(either_image, ops):
    """Kernels and twins; sequences of different lengths, one of them in no pass."""
    board, chips = Board(either_image, 3, CONTEXT, ops), [Chip(either_image) for _ in range(3)]
    board.forward([Run(0, [1, 2, 3]), Run(2, [9])])
    board.forward([Run(2, [8, 7]), Run(0, [4])])
    chips[0].forward([1, 2, 3, 4])
    chips[2].forward([9, 8, 7])
    for mine, other in zip(board.chips, chips, strict=True):
        assert mine.tokens == other.tokens
        for layer, expected in zip(
            mine.kv_contents().layers, other.kv_contents().layers, strict=True
        ):
            for name, array in layer.items():
                np.testing.assert_array_equal(array, expected[name])


def test_any_number_of_threads(tiny_image, threads):
    board, alone = Board(tiny_image, 5), Alone(tiny_image)
    runs = [Run(i, list(range(i, 2 * i + 1)), True) for i in range(5)]
    for run, wires in zip(runs, board.forward(runs), strict=True):
        np.testing.assert_array_equal(wires.logits, alone.logits(run.tokens))


def test_a_refused_pass_changes_nothing(tiny_image):
    board = Board(tiny_image, 2, CONTEXT)
    board.forward([Run(0, [5, 6]), Run(1, [7])])
    for error, runs in (
        (ContextError, [Run(0, [1]), Run(1, [1] * CONTEXT)]),
        (UsageError, [Run(0, [1]), Run(1, [VOCABULARY])]),
        (UsageError, [Run(0, [1]), Run(0, [2])]),
        (UsageError, [Run(0, [1]), Run(1, [])]),
    ):
        with pytest.raises(error):
            board.forward(runs)
    assert [chip.tokens for chip in board.chips] == [[5, 6], [7]]
    assert board.forward([]) == []
    with pytest.raises(UsageError, match="at least 1 chip"):
        Board(tiny_image, 0)


def test_each_token_of_a_pass_is_a_pass_of_one(tiny_image):
    one, many = Chip(tiny_image), Chip(tiny_image)
    for wires, token in zip(
        many.each_token(many.forward([3, 1, 4], all_logits=True)), [3, 1, 4], strict=True
    ):
        single = one.forward([token])
        assert (wires.start, wires.tokens.tolist()) == (single.start, [token])
        np.testing.assert_array_equal(wires.logits, single.logits)
        np.testing.assert_array_equal(wires.top, single.top)


def test_sequences_with_other_adapters(tiny_image, tiny_checkpoint, tmp_path):
    """Each has the bits of its adapter alone, also where one is replaced or a chip has none."""
    folders = [
        write_adapter(tmp_path / name, tiny_image.config, 2, names, strength=2.0)
        for name, names in (("a", ("q", "down")), ("b", ("v", "o", "gate")))
    ]
    adapters = load_adapters(tiny_image, [str(folder) for folder in folders], tiny_checkpoint)
    board = Board(tiny_image, 6, adapters=adapters)
    uses = ["a", "", "b", "a", "b", ""]
    for chip, name in zip(board.chips, uses, strict=True):
        chip.use(name)
    for tokens in ([3, 1], [4], [1, 5, 9]):
        runs = [Run(i, [*tokens, i], True) for i in range(6)]
        for run, wires in zip(runs, board.forward(runs), strict=True):
            alone = Chip(tiny_image, adapters=adapters)
            alone.use(uses[run.chip])
            logits = alone.forward(board.chips[run.chip].tokens, all_logits=True).logits
            np.testing.assert_array_equal(wires.logits, logits[wires.start :])
    for chip in board.chips:
        chip.drop("b")
        chip.rewind(0)
    first, second = (wires.logits for wires in board.forward([Run(2, [7]), Run(4, [7])]))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, Chip(tiny_image).forward([7]).logits)
