"""RMSNorm: int8 whose scale holds the root mean square; the final norm keeps its gain."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.blocks.rms_norm import FinalGain, RmsNorm, root_exposed
from emulator.blocks.wires import Wires
from emulator.silicon.spec import load_spec
from kernels import compiled
from tests.support.signals import (
    CONSTANT,
    FILLS,
    INT32,
    WIDTHS,
    fixed,
    signal,
    twins,
    values_of,
)
from weights.rotate import mixer


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("width", WIDTHS)
def test_twins(fill, width):
    """Every fill, batches 1 and 5, with the constants and epsilons of a model and far ones."""
    rng = np.random.default_rng(width)
    gain = rng.integers(-32767, 32768, width).astype(np.int16)
    far = np.array([65535, -100], np.int32)
    for tokens in (1, 5):
        v = signal((tokens, width), fill, tokens)
        for constant in (CONSTANT, far):
            for epsilon in (0, 1, 12345678, 1 << 40):
                twins("rms_norm", v, epsilon, constant)
                twins("gain_norm", v, gain, mixer(width), epsilon, constant)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(INT32.min, INT32.max), min_size=32, max_size=32))
def test_twins_on_any_vector(values):
    twins("rms_norm", np.array([values], np.int32), 2748779, CONSTANT)


def test_against_the_formula():
    """x / sqrt(mean(x**2) + eps), to half a step of int8 and what the int16 in between rounds."""
    x = np.random.default_rng(3).normal(0, 4, (5, 96))
    wires = Wires.carrying(5, 0, {"residual": fixed(x)})
    RmsNorm.of(96, 1e-5).run(compiled, wires)
    expected = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5)
    step = np.abs(expected).max(axis=-1, keepdims=True) / 127
    assert (np.abs(values_of(wires.x, wires.x_scale) - expected) <= 0.51 * step).all()


def test_the_final_gain_against_the_formula():
    """The residual is in the rotated basis: back, times the gain, and into the basis again."""
    hidden, m = 96, mixer(96)
    rotation = np.kron(m / (1 << 14), hadamard(hidden // len(m)) / math.sqrt(hidden // len(m)))
    x = np.random.default_rng(3).normal(0, 4, (4, hidden))
    gain = np.random.default_rng(4).integers(8192, 32767, hidden).astype(np.int16)
    wires = Wires.carrying(4, 0, {"residual": fixed(x @ rotation)})
    FinalGain.of(gain, 14, m, 1e-5).run(compiled, wires)
    normed = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5)
    expected = normed * (gain / (1 << 14)) @ rotation
    step = np.abs(expected).max(axis=-1, keepdims=True) / 127
    assert (np.abs(values_of(wires.x, wires.x_scale) - expected) <= 0.6 * step).all()


def hadamard(n: int) -> np.ndarray:
    return np.ones((1, 1)) if n == 1 else np.kron([[1, 1], [1, -1]], hadamard(n // 2))


def test_cost():
    """A maximum holds the vector back, a narrow norm's root, too; the final norm of a tied model
    needs three maxima.
    """
    spec = load_spec()
    plain = RmsNorm.of(96, 1e-5).cost(spec, 1)
    gain = FinalGain.of(np.ones(96, np.int16), 0, mixer(96), 1e-5).cost(spec, 1)
    held = root_exposed(spec, 96)
    assert root_exposed(spec, 4096) == 0 < held
    assert RmsNorm.of(4096, 1e-5).cost(spec, 1).cycles > plain.cycles - held
    assert gain.cycles > 2 * plain.cycles
    assert (plain.rom_bits, gain.rom_bits) == (0, 16 * 96)
