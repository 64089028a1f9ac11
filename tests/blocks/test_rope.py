"""RoPE: pairs of values turn by an angle that grows with the position."""

from __future__ import annotations

import numpy as np
import pytest

from emulator.blocks.rope import Rope
from emulator.blocks.wires import Wires
from emulator.silicon.spec import load_spec
from kernels import compiled
from tests.support.signals import (
    FILLS,
    ONE,
    fixed,
    signal,
    twins,
)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("head_dim", [32, 64, 128])
def test_twins(fill, head_dim):
    rng = np.random.default_rng(head_dim)
    tables = rng.integers(-16384, 16385, (2, 20, head_dim // 2)).astype(np.int16)
    for start in (0, 7, 15):
        twins("rope", signal((5, 3, head_dim), fill), np.arange(start, start + 5), *tables)


def test_a_part_of_a_head():
    """The values behind the tables' width stay as they are; the others turn as a narrower head."""
    rng = np.random.default_rng(1)
    tables = rng.integers(-16384, 16385, (2, 20, 12)).astype(np.int16)
    v, positions = signal((5, 3, 32), "random"), np.array([7, 8, 0, 19, 3])
    twins("rope", v, positions, *tables)
    out = compiled.rope(v, positions, *tables)
    np.testing.assert_array_equal(out[..., 24:], v[..., 24:])
    narrower = compiled.rope(v[..., :24].copy(), positions, *tables)
    np.testing.assert_array_equal(out[..., :24], narrower)


def turned(start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """q before, q after and the angles [2, 16] of two tokens at `start`."""
    angles = np.outer(np.arange(20), 10000.0 ** -(np.arange(16) / 16))
    tables = (np.round(f(angles) * (1 << 14)).astype(np.int16) for f in (np.cos, np.sin))
    q = np.random.default_rng(start).normal(0, 3, (2, 4, 32))
    wires = Wires.carrying(2, start, {"q": fixed(q), "k": fixed(q[:, :2])})
    Rope(*tables, values=6 * 32).run(compiled, wires)
    assert np.array_equal(wires.q[:, :2], wires.k)
    return q, wires.q / ONE, angles[start : start + 2]


@pytest.mark.parametrize("start", [0, 7, 18])
def test_against_the_formula(start):
    """Value i and value i + head_dim / 2 are a point that turns; tables have 14 fractional bits."""
    before, after, angles = turned(start)
    pair = (before[..., :16] + 1j * before[..., 16:]) * np.exp(1j * angles)[:, None]
    np.testing.assert_allclose(after[..., :16] + 1j * after[..., 16:], pair, atol=2e-3)


def test_position_0_changes_nothing():
    before, after, _ = turned(0)
    np.testing.assert_array_equal(after[0], fixed(before)[0] / ONE)


def test_cost():
    """The same at every position; a token reads one row of each table."""
    tables = np.zeros((2, 20, 16), np.int16)
    block, wide = Rope(*tables, values=6 * 32), Rope(*tables, values=1 << 15)
    assert block.cost(load_spec(), 1) == block.cost(load_spec(), 4000)
    assert block.cost(load_spec(), 1).rom_bits == 2 * 16 * 16
    assert wide.cost(load_spec(), 1).cycles > block.cost(load_spec(), 1).cycles
