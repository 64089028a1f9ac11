"""Biases: a value a row, added to what a fabric pass gives, saturating."""

from __future__ import annotations

import numpy as np
import pytest

from emulator.blocks.bias_add import WIRES, BiasAdd
from emulator.blocks.wires import Wires
from emulator.silicon.spec import load_spec
from kernels import compiled
from tests.support.signals import FILLS, INT32, signal, twins


@pytest.mark.parametrize("fill", FILLS)
def test_twins(fill):
    for tokens, rows in ((1, 32), (5, 97)):
        twins("bias_add", signal((tokens, rows), fill, 1), signal((rows,), fill, 2))


def test_each_output_gets_its_own_rows():
    """q, k and v keep their shapes; the biases of the three lie one behind the other."""
    shapes = {"q": (2, 4, 16), "k": (2, 2, 16), "v": (2, 2, 16)}
    before = {name: signal(shape, "small", len(name)) for name, shape in shapes.items()}
    bias = np.arange(128, dtype=np.int32) * 1000
    wires = Wires.carrying(2, 0, before)
    block = BiasAdd.of("qkv", bias)
    block.run(compiled, wires)
    for name, own in zip(shapes, np.split(bias, [64, 96]), strict=True):
        np.testing.assert_array_equal(
            getattr(wires, name), before[name] + own.reshape(shapes[name][1:])
        )
    assert block.reads == block.writes == ("q", "k", "v")


def test_the_sum_ends_at_int32():
    wires = Wires.carrying(1, 0, {"delta": np.full((1, 32), INT32.max - 5, np.int32)})
    BiasAdd.of("o", np.full(32, 6, np.int32)).run(compiled, wires)
    assert (wires.delta == INT32.max).all()


def test_cost():
    """Wider passes take longer; every bias is read once, whatever the position."""
    spec = load_spec()
    few, many = (
        BiasAdd.of("o", np.zeros(32, np.int32)),
        BiasAdd.of("down", np.zeros(1 << 16, np.int32)),
    )
    assert many.cost(spec, 1).cycles > few.cost(spec, 1).cycles
    assert few.cost(spec, 1) == few.cost(spec, 4000)
    assert many.cost(spec, 1).rom_bits == 32 << 16
    assert set(WIRES) == {"qkv", "o", "gate_up", "down"}
