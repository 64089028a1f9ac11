"""Recorded passes: the bits of passes that call one kernel after another, and arrays that stay."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from emulator.board import Board, Run
from emulator.chip import Chip
from emulator.images.adapters import load_adapters
from emulator.recorded_pass import KEPT_TOKENS, MOST_TOKENS
from kernels import compiled
from tests.support.adapters import write_adapter

CONTEXT = 40
OPS = {
    name: getattr(compiled, name)
    for name in vars(compiled)
    if not name.startswith("_") and name != "record"
}


@pytest.fixture
def unrecorded(any_image) -> Chip:
    """A chip whose kernels cannot be recorded."""
    return Chip(any_image, CONTEXT, SimpleNamespace(**OPS))


def test_token_by_token(any_image, unrecorded):
    """Far enough that attention's memory has to grow; then back, and over other tokens."""
    chip = Chip(any_image, CONTEXT)
    for start, seed in ((0, 1), (5, 2)):
        chip.rewind(start)
        unrecorded.rewind(start)
        for token in np.random.default_rng(seed).integers(0, 320, CONTEXT - start).tolist():
            mine, other = chip.forward([token]), unrecorded.forward([token])
            for signal in ("residual", "logits", "top"):
                np.testing.assert_array_equal(getattr(mine, signal), getattr(other, signal))


def test_sizes_in_turn(any_image, unrecorded):
    """More sizes than are kept, with all logits (recorded) and with the last (not)."""
    chip, rng = Chip(any_image, CONTEXT), np.random.default_rng(3)
    for size in [1, 3, 1, 3, 2, 1, 17, 3, 2, 2, 1]:
        tokens, every = rng.integers(0, 320, size).tolist(), bool(rng.integers(2))
        mine, other = (c.forward(tokens, every) for c in (chip, unrecorded))
        np.testing.assert_array_equal(mine.logits, other.logits)


def test_what_a_caller_has_stays(tiny_image):
    """Wires of one pass are not overwritten by the next."""
    chip = Chip(tiny_image, CONTEXT)
    passes = [chip.forward([token]) for token in range(8)]
    kept = [wires.logits.copy() for wires in passes]
    chip.forward([9])
    for wires, logits in zip(passes, kept, strict=True):
        np.testing.assert_array_equal(wires.logits, logits)
    assert len({logits.tobytes() for logits in kept}) == len(kept)


def test_another_adapter_is_another_record(tiny_image, tiny_checkpoint, tmp_path):
    folder = write_adapter(tmp_path / "one", tiny_image.config, 2, strength=2.0)
    (adapter,) = load_adapters(tiny_image, [str(folder)], tiny_checkpoint)
    chip, twin = Chip(tiny_image, CONTEXT, adapters=[adapter]), Chip(tiny_image, CONTEXT)
    plain = [twin.forward([token]).logits for token in (1, 2, 3)]
    for name, same in (("", True), (adapter.name, False), ("", True)):
        chip.use(name)
        chip.rewind(0)
        logits = [chip.forward([token]).logits for token in (1, 2, 3)]
        assert np.array_equal(logits, plain) is same


def test_a_team_of_another_size(tiny_image, threads):
    """A record that was made with as many threads as there are serves fewer and more."""
    chip, twin = Chip(tiny_image, CONTEXT), Chip(tiny_image, CONTEXT)
    before = compiled.team().threads
    for count, token in ((before, 5), (1, 6), (3, 7), (before, 8)):
        compiled.team().resize(count)
        logits = chip.forward([token]).logits
        np.testing.assert_array_equal(logits, twin.forward([token], all_logits=True).logits)


def test_few_records_are_kept(tiny_image):
    chip = Chip(tiny_image, CONTEXT)
    for size in (*range(1, 14), MOST_TOKENS):
        chip.rewind(0)
        chip.forward(list(range(size)), all_logits=True)
    assert MOST_TOKENS in chip._recorder._passes
    assert MOST_TOKENS <= sum(chip._recorder._passes) <= KEPT_TOKENS


def test_a_board_repeats_passes_of_one_size(any_image, unrecorded):
    """Whichever chips are in them."""
    board, rng = Board(any_image, 4, CONTEXT), np.random.default_rng(4)
    alone = [Chip(any_image, CONTEXT, unrecorded.ops) for _ in range(4)]
    for _ in range(12):
        chosen = rng.permutation(4)[: rng.integers(2, 5)].tolist()
        runs = [Run(number, [int(rng.integers(320))]) for number in chosen]
        for run, wires in zip(runs, board.forward(runs), strict=True):
            expected = alone[run.chip].forward(run.tokens)
            np.testing.assert_array_equal(wires.logits, expected.logits)
            np.testing.assert_array_equal(wires.top, expected.top)
