"""The datapath's distance by place: each alone, all at once, and the chip itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from emulator.chip import Chip
from emulator.errors import UsageError
from emulator.quality.attribution import kl_by_group, kl_by_place, kl_together
from emulator.quality.float_model import FloatModel
from emulator.quality.tap_points import EXACT, PLACES, AsChip, int8
from kernels.reference import FRACTION, narrow, swiglu
from weights.rom import RomImage

WINDOWS = np.random.default_rng(5).integers(0, 256, (16, 48)).tolist()  # of 4, sums stray by a half


def test_nothing_rounded_is_exact(either_image: RomImage):
    """To the bit; and a model exchanged for itself costs nothing."""
    masks = FloatModel.of_image(either_image)
    nothing = replace(masks, places=AsChip(frozenset()))
    assert np.array_equal(masks.forward(WINDOWS[0]), nothing.forward(WINDOWS[0]))
    costs = kl_by_group(masks, masks, WINDOWS[:1])
    assert all(value == 0 for values in costs.values() for value in values)


def test_places_add_up_to_the_chip(either_image: RomImage):
    masks = FloatModel.of_image(either_image)
    told: list[tuple[int, int]] = []
    places = kl_by_place(masks, WINDOWS, progress=lambda *now: told.append(now))
    together = kl_together(masks, Chip(either_image), WINDOWS)
    assert tuple(places) == PLACES
    assert {name: len(v) for name, v in places.items()} == {
        **dict.fromkeys(PLACES, 2), "head_input": 1,
    }  # fmt: skip
    assert told == [(i, len(told)) for i in range(1, len(told) + 1)]
    assert all(value > 0 for values in places.values() for value in values)
    assert all(sum(values) < together["all_places"] for values in places.values())
    added = sum(map(sum, places.values()))
    assert added == pytest.approx(together["all_places"], rel=0.3)
    assert together["chip"] == pytest.approx(together["all_places"], rel=0.3)


def test_depths(tiny_image: RomImage):
    """One run of all layers is about what its two layers add up to."""
    masks = FloatModel.of_image(tiny_image)
    one, two = (kl_by_place(masks, WINDOWS[:4], depths) for depths in (1, 2))
    assert len(one["down_input"]) == 1
    assert one["down_input"][0] == pytest.approx(sum(two["down_input"]), rel=0.4)
    assert one["head_input"] == two["head_input"]


def test_windows_longer_than_the_context(tiny_image: RomImage):
    masks = FloatModel.of_image(tiny_image)
    with pytest.raises(UsageError, match="does not fit"):
        kl_together(masks, Chip(tiny_image), [list(range(65))])


def test_int8_is_that_of_the_chip():
    v = np.random.default_rng(0).normal(0, 3, (20, 96)).astype(np.float32)
    v[3] = 0
    fixed = np.rint(np.ldexp(v, FRACTION)).astype(np.int32)
    x, scale = narrow(fixed, np.array([1 << 15, 15], np.int32))
    of_chip = np.ldexp(x * (scale[:, :1] / 127), -scale[:, 1:])
    assert (np.abs(int8(v) - of_chip) > 1e-3 * np.abs(v).max()).mean() < 0.01  # but for ties
    assert np.abs(int8(v) - v).max() <= np.abs(v).max() / 254 * 1.001


def test_tables_are_near_what_they_stand_for():
    chip = AsChip(frozenset(PLACES))
    x = np.linspace(-20, 0, 5000, dtype=np.float32)
    assert np.abs(chip.exp(x) / 32767 - EXACT.exp(x)).max() < 2e-3  # 8 bits of a power of two
    assert chip.exp(np.array([-np.inf, 0], np.float32)).tolist() == [0, 32767]
    gate = np.linspace(-12, 12, 5000, dtype=np.float32)
    assert np.abs(chip.silu(gate) - EXACT.silu(gate)).max() < 3e-3
    fixed = np.rint(np.ldexp(gate, FRACTION)).astype(np.int32)
    of_chip = np.ldexp(swiglu(fixed, np.int32(1 << FRACTION)), -FRACTION)
    assert np.abs(chip.silu(gate) - of_chip).max() < 1e-4
    assert np.abs(chip.rope(np.cos(x)) - np.cos(x)).max() <= 2**-15
