"""The table of code widths is whole: a place for every bit, a way to unpack every width."""

from __future__ import annotations

import numpy as np
import pytest

from emulator.errors import UsageError
from kernels.host.simd import WIDE
from kernels.rom.codes import UNPACK, kind_of
from kernels.rom.pack import (
    BIT_PLACES,
    LARGEST_LEVEL,
    TILE_BYTES,
    VECTORS,
    PackedMatrix,
    even_step,
    pack_codes,
)
from kernels.rom.widths import CODE_BITS, CODE_BITS_TEXT, WIDTHS
from kernels.rom.wiring import EVEN, KIND, STEP
from weights.mix import Mix
from weights.quantize import alphabet, levels_of, nearest

WIDTH = pytest.mark.parametrize("width", WIDTHS.values(), ids=lambda width: width.bits)


@WIDTH
def test_every_bit_has_a_place_of_its_own(width):
    """The eight codes of a byte column fill its words, without a gap."""
    places = BIT_PLACES[width.bits, :, : width.bits].reshape(-1, 2)
    assert {tuple(place) for place in places.tolist()} == {
        (word, bit) for word in range(width.bits) for bit in range(8)
    }
    assert len(places) == VECTORS * width.bits
    assert TILE_BYTES[width.bits] == width.tile_bytes


@WIDTH
def test_levels_rise_and_fit(width):
    levels = np.array(width.levels)
    assert levels.size == 1 << width.bits
    assert (np.diff(levels) > 0).all()
    assert np.abs(levels).max() <= LARGEST_LEVEL
    assert width.group % 32 == 0
    assert 0 < width.error_left <= 1 or width.bits < 3


def test_every_width_can_be_unpacked():
    """Each width by its table, and computed where the table of widths says so."""
    computed = {bits + EVEN for bits, width in WIDTHS.items() if width.computed_steps}
    assert set(UNPACK) == set(WIDTHS) | (set() if WIDE else computed)
    assert {kind_of.py_func(bits + EVEN) for bits in WIDTHS if bits + EVEN in computed} <= set(
        UNPACK
    )


@pytest.mark.parametrize(
    ("levels", "step"),
    [
        (range(-32, 32), 1),
        (range(-64, 64, 2), 2),
        ([5, 5, 5, 5], 0),
        ([-3, 0, 3, 7], 0),
        ([2, 1, 0, -1], -1),
    ],
)
def test_even_step(levels, step):
    assert even_step(np.array(levels, np.int8)) == step


@WIDTH
def test_a_level_is_computed_only_where_it_can_be(width):
    """The kernels' form of a matrix: kind, and step of a computed level."""

    def kind_and_step(levels: np.ndarray) -> tuple[int, int]:
        codes = pack_codes(np.zeros((8, 32), np.uint8), width.bits)
        ones = np.ones((1, 1, 8), np.int8)
        rows = np.ones(8)
        matrix = PackedMatrix(
            *(8, 32, width.bits, 32, codes, ones),
            *(rows.astype(np.uint16), rows.astype(np.int8), levels.astype(np.int8)),
        )
        return int(matrix.wiring[KIND]), int(matrix.wiring[STEP])

    even = np.arange(1 << width.bits) - (1 << width.bits - 1)
    for step in width.computed_steps:
        assert kind_and_step(step * even) == (width.bits + EVEN, step)
    uneven = even.copy()
    uneven[0] -= 1
    assert kind_and_step(uneven) == (width.bits, 1)
    assert kind_and_step(even[::-1]) == (width.bits, 1)


@WIDTH
def test_nearest_is_the_nearest(width):
    """By the formula of even levels or by comparison: the same as a search; a tie goes up."""
    levels = alphabet(width.bits).astype(np.float64)
    values = np.random.default_rng(width.bits).uniform(-80, 80, 400).astype(np.float32)
    values = np.append(values, (levels[:-1] + levels[1:]).astype(np.float32) / 2)
    for value in values:
        distance = np.abs(levels - value)
        wanted = np.flatnonzero(distance == distance.min())[-1]
        assert nearest(value, levels_of(width.bits)) == wanted


def test_a_mix_names_the_widths():
    with pytest.raises(UsageError, match=f"a code has {CODE_BITS_TEXT} bits, not '9'"):
        Mix.parse("9")
    assert {Mix.parse(str(bits)).base for bits in CODE_BITS} == set(WIDTHS)
