"""GELU and ReLU^2 gates: table or square, times up, then R4 and int8."""

from __future__ import annotations

import math

import numpy as np
import pytest

from emulator.blocks.other_gates import GeGlu, ReLu2Glu, gate_block
from emulator.blocks.swiglu import SwiGlu
from emulator.blocks.wires import Wires
from emulator.config.model import ACTIVATIONS
from emulator.silicon.spec import load_spec
from kernels import compiled
from kernels.tables import gelu_table, gelu_tanh_table
from tests.support.signals import CONSTANT, FILLS, INT32, fixed, signal, twins, values_of

FORMULAS = {
    "silu": lambda x: x / (1 + math.exp(-x)),
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "relu2": lambda x: max(x, 0.0) ** 2,
}


@pytest.mark.parametrize("fill", FILLS)
def test_twins(fill):
    gate, up = signal((2, 96), fill, 1), signal((2, 96), fill, 2)
    for table in (gelu_table(), gelu_tanh_table()):
        twins("geglu", gate, up, table)
        twins("geglu_narrow", gate, up, table, 32, CONSTANT)
    twins("relu2_glu", gate, up)
    twins("relu2_narrow", gate, up, 32, CONSTANT)
    twins("relu2_glu", gate >> 12, up)


def test_geglu_at_every_table_edge():
    points = (np.arange(257) - 128) << 12
    gate = (points[:, None] + [-1, 0, 1]).astype(np.int32)
    for up in (1 << 16, INT32.min):
        twins("geglu", gate, np.full_like(gate, up), gelu_table())


def test_tables():
    """Each entry is the formula's value to half a unit of Q15.16."""
    for name, table in (("gelu", gelu_table()), ("gelu_tanh", gelu_tanh_table())):
        exact = [65536 * FORMULAS[name](j / 16 - 8) for j in range(257)]
        assert np.abs(table - exact).max() < 0.501


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_against_the_formula(activation):
    """To half a step of int8 and the table's error, also beyond the table's ends."""
    rng = np.random.default_rng(6)
    gate, up = rng.normal(0, 4, (4, 96)), rng.normal(0, 2, (4, 96))
    wires = Wires.carrying(4, 0, {"gate": fixed(gate), "up": fixed(up)})
    gate_block(activation, 96).run(compiled, wires)
    product = np.vectorize(FORMULAS[activation])(gate) * up
    h = np.ones((1, 1))
    for _ in range(5):
        h = np.kron([[1, 1], [1, -1]], h)
    expected = (product.reshape(4, 3, 32) @ h / math.sqrt(32)).reshape(4, 96)
    step = np.abs(expected).max(axis=-1, keepdims=True) / 127
    assert (np.abs(values_of(wires.x, wires.x_scale) - expected) <= 0.51 * step + 4e-3).all()


def test_cost():
    """GELU takes what SiLU takes; a square and a product take a little more than a product."""
    spec = load_spec()
    blocks = {name: gate_block(name, 1536) for name in ACTIVATIONS}
    assert [type(block) for block in blocks.values()] == [SwiGlu, GeGlu, GeGlu, ReLu2Glu]
    assert blocks["gelu"].cost(spec, 1) == blocks["silu"].cost(spec, 4000)
    assert blocks["relu2"].cost(spec, 1).cycles > 0
    assert gate_block("relu2", 14336).cost(spec, 1).cycles > blocks["relu2"].cost(spec, 1).cycles
