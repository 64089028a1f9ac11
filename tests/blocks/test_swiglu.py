"""SwiGLU: the SiLU table times `up`, rotated and narrowed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from emulator.blocks.swiglu import SwiGlu
from emulator.blocks.wires import Wires
from emulator.silicon.spec import load_spec
from kernels import compiled
from tests.support.signals import (
    CONSTANT,
    FILLS,
    INT32,
    fixed,
    signal,
    twins,
    values_of,
)


@pytest.mark.parametrize("gate", FILLS)
@pytest.mark.parametrize("up", FILLS)
def test_twins(gate, up):
    twins("swiglu", signal((2, 97), gate, 1), signal((2, 97), up, 2))


@pytest.mark.parametrize("fill", FILLS)
def test_swiglu_narrowed(fill):
    for width, block in ((96, 32), (1536, 512)):
        gate, up = signal((3, width), "small", 1) << 10, signal((3, width), fill, 2)
        twins("swiglu_narrow", gate, up, block, CONSTANT)


def test_swiglu_at_every_table_edge():
    """One below, on and above each of the 257 points, at an `up` of +1 and of -2**31."""
    points = (np.arange(257) - 128) << 12
    gate = (points[:, None] + [-1, 0, 1]).astype(np.int32)
    for up in (1 << 16, INT32.min):
        twins("swiglu", gate, np.full_like(gate, up))


def test_against_the_formula():
    """SiLU(gate) * up, then R4 on blocks of 32, to half a step of int8 and the table's error."""
    rng = np.random.default_rng(6)
    gate, up = rng.normal(0, 3, (4, 96)), rng.normal(0, 2, (4, 96))
    wires = Wires.carrying(4, 0, {"gate": fixed(gate), "up": fixed(up)})
    SwiGlu.of(96).run(compiled, wires)
    product = gate / (1 + np.exp(-gate)) * up
    h = np.ones((1, 1))
    for _ in range(5):
        h = np.kron([[1, 1], [1, -1]], h)
    expected = (product.reshape(4, 3, 32) @ h / math.sqrt(32)).reshape(4, 96)
    step = np.abs(expected).max(axis=-1, keepdims=True) / 127
    assert (np.abs(values_of(wires.x, wires.x_scale) - expected) <= 0.51 * step + 2e-3).all()


def test_cost():
    """Two maxima, of the product and of its transform, so wider vectors take longer."""
    spec = load_spec()
    assert SwiGlu.of(14336).cost(spec, 1).cycles > SwiGlu.of(96).cost(spec, 1).cycles
    assert SwiGlu.of(96).cost(spec, 1) == SwiGlu.of(96).cost(spec, 4000)
