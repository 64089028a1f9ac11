"""Residual add: exact inside int32, saturating at its ends."""

from __future__ import annotations

import numpy as np
import pytest

from emulator.blocks.residual_add import ResidualAdd
from emulator.blocks.wires import Wires
from emulator.silicon.spec import load_spec
from kernels import compiled
from tests.support.signals import (
    FILLS,
    INT32,
    signal,
    twins,
)


@pytest.mark.parametrize("left", FILLS)
@pytest.mark.parametrize("right", FILLS)
def test_twins(left, right):
    twins("residual_add", signal((2, 97), left, 1), signal((2, 97), right, 2))


def test_saturates():
    left = np.array([[5, INT32.max, INT32.min, INT32.max]], np.int32)
    right = np.array([[-7, 1, -1, INT32.min]], np.int32)
    wires = Wires.carrying(1, 0, {"residual": left, "delta": right})
    ResidualAdd(4).run(compiled, wires)
    assert wires.residual.tolist() == [[-2, INT32.max, INT32.min, -1]]


def test_cost():
    """One adder stage: a value leaves a cycle after it came."""
    cost = ResidualAdd(4096).cost(load_spec(), 1)
    (phase,) = cost.phases
    assert phase.latency == 1
    assert phase.take == cost.cycles == 1
    assert (cost.macs, cost.rom_bits, cost.sram_bits) == (0, 0, 0)
