"""Head norm: each head of q and k by its root mean square, times a gain; Q15.16 again."""

from __future__ import annotations

import numpy as np
import pytest

from emulator.blocks.head_norm import HeadNorm
from emulator.blocks.wires import Wires
from emulator.silicon.spec import load_spec
from kernels import compiled
from tests.support.signals import CONSTANT, FILLS, ONE, fixed, signal, twins
from weights.layer_vectors import gain_codes


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("head_dim", [16, 48, 128])
def test_twins(fill, head_dim):
    rng = np.random.default_rng(head_dim)
    gain = rng.integers(-32767, 32768, head_dim).astype(np.int16)
    far = np.array([65535, -20], np.int32)
    for constant in (CONSTANT, far):
        for epsilon in (0, 1, 12345678, 1 << 40):
            twins("head_norm", signal((3, 2, head_dim), fill, 3), gain, epsilon, constant)


@pytest.mark.parametrize("size", [0.001, 1, 300])
def test_against_the_formula(size):
    """x / sqrt(mean(x**2) + eps) * gain, to what 16-bit mantissas leave of it, loud or quiet."""
    rng = np.random.default_rng(5)
    real = {"q": rng.normal(0, size, (3, 4, 48)), "k": rng.normal(0, size, (3, 2, 48))}
    gains = [rng.normal(1, 0.3, 48).astype(np.float32), rng.normal(9, 2, 48).astype(np.float32)]
    codes, exponents = zip(*map(gain_codes, gains), strict=True)
    wires = Wires.carrying(3, 0, {name: fixed(x) for name, x in real.items()})
    HeadNorm.of((4, 2), 1e-6, *codes, exponents).run(compiled, wires)
    for (name, x), gain in zip(real.items(), gains, strict=True):
        held = fixed(x) / ONE
        expected = held / np.sqrt((held**2).mean(axis=-1, keepdims=True) + 1e-6) * gain
        np.testing.assert_allclose(getattr(wires, name) / ONE, expected, rtol=2e-4, atol=3e-3)


def test_heads_know_nothing_of_each_other():
    """One loud head leaves the others as they were."""
    gain = np.full(32, 1 << 14, np.int16)
    block = HeadNorm.of((2, 2), 1e-6, gain, gain, (14, 14))
    quiet = fixed(np.random.default_rng(1).normal(0, 1, (1, 2, 32)))
    loud = quiet.copy()
    loud[:, 0] *= 100
    results = []
    for q in (quiet, loud):
        wires = Wires.carrying(1, 0, {"q": q, "k": q})
        block.run(compiled, wires)
        results.append(wires.q)
    np.testing.assert_array_equal(results[0][:, 1], results[1][:, 1])


def test_cost():
    """More heads take longer, at every position alike; both gains are read."""
    spec, gain = load_spec(), np.ones(128, np.int16)
    few, many = (HeadNorm.of((heads, 1), 1e-6, gain, gain, (0, 0)) for heads in (1, 199))
    assert many.cost(spec, 1).cycles > few.cost(spec, 1).cycles
    assert few.cost(spec, 1) == few.cost(spec, 4000)
    assert few.cost(spec, 1).rom_bits == 2 * 16 * 128
