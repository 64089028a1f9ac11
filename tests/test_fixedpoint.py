"""The arithmetic that defines the datapath, against exact integers, fractions and `math`."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from emulator.fixedpoint import power_of_two_block, scale_of, scale_value
from kernels import arith, reference
from kernels.blocks.attention_values import EXP2_NEGATIVE

INT32 = np.iinfo(np.int32)
TWINS = pytest.mark.parametrize("twin", [reference, arith], ids=["reference", "compiled"])
fast = settings(max_examples=150, deadline=None)
mantissas = st.integers(1 << 15, (1 << 16) - 1)


def half_up(x: Fraction) -> int:
    return math.floor(x + Fraction(1, 2))


@TWINS
@fast
@given(
    st.integers(-(2**62), 2**62 - 1) | st.sampled_from([2**62 - 1, -(2**62)]), st.integers(0, 200)
)
def test_round_shift_rounds_half_up(twin, x, shift):
    """Any right shift, above 63 too, as long as |x| < 2**62."""
    assert int(twin.round_shift(x, shift)) == half_up(Fraction(x, 1 << shift))


@TWINS
@pytest.mark.parametrize(("x", "expected"), [(1, 1), (-1, 0), (3, 2), (-3, -1), (-2, -1), (0, 0)])
def test_round_shift_ties_go_up(twin, x, expected):
    """+-0.5, +-1.5 and whole numbers."""
    assert int(twin.round_shift(x, 1)) == expected


@TWINS
@fast
@given(st.integers(-(2**31), 2**31), st.integers(0, 31))
def test_round_shift_to_the_left_is_exact(twin, x, shift):
    assert int(twin.round_shift(x, -shift)) == x << shift


@njit
def compiled_bit_length(x):
    return arith.bit_length(x)


@pytest.mark.parametrize("twin", [reference.bit_length, compiled_bit_length])
@fast
@given(st.integers(0, 2**63 - 1))
def test_bit_length(twin, x):
    assert int(twin(x)) == x.bit_length()


@TWINS
@fast
@given(st.integers(0, 2**62 - 1) | st.integers(0, 2**31 - 1).map(lambda r: r * r))
def test_integer_sqrt(twin, x):
    """Floor of the root, on squares and one below them."""
    assert int(twin.integer_sqrt(x)) == math.isqrt(x)
    assert int(twin.integer_sqrt(max(x - 1, 0))) == math.isqrt(max(x - 1, 0))


@fast
@given(st.integers(1, 2**61), st.integers(-50, 50))
def test_normalise(value, exponent):
    """A 16-bit mantissa within 2**-16 of the value; both twins."""
    mantissa, e = (int(n) for n in reference.normalise(value, exponent))
    assert (mantissa, e) == tuple(int(n) for n in arith.normalise(value, exponent))
    assert 1 << 15 <= mantissa < 1 << 16
    ratio = Fraction(mantissa) / (Fraction(2) ** (e - exponent)) / value
    assert abs(ratio - 1) <= Fraction(1, 1 << 16)


def test_normalise_zero():
    """Zero has mantissa 0 and an exponent above every other."""
    assert reference.normalise(0, -9).tolist() == [0, reference.ZERO_EXPONENT]
    assert tuple(arith.normalise(0, -9)) == (0, reference.ZERO_EXPONENT)


@fast
@given(
    st.integers(-(2**45) + 1, 2**45 - 1), mantissas, mantissas, st.integers(-90, 90), st.booleans()
)
def test_requantise(acc, a, b, exponent, small):
    """Saturated, and within half a unit and 2**-15 of the exact product; both twins."""
    acc = acc >> 30 if small else acc
    scale_a, scale_b = np.array([a, exponent]), np.array([b, 20])
    got = int(reference.requantise(acc, scale_a, scale_b, 16))
    assert got == int(arith.requantise(acc, a, exponent, b, 20, 16))
    exact = Fraction(acc * a * b) * Fraction(2) ** (16 - exponent - 20)
    clamped = min(max(exact, INT32.min), INT32.max)
    assert INT32.min <= got <= INT32.max
    assert abs(got - clamped) <= Fraction(1, 2) + abs(clamped) / (1 << 15)


def test_requantise_at_the_last_shift():
    """A shift of 63 is one of 63: a quarter is rounded to nothing."""
    assert int(arith.requantise(35182224737018, 46334, 74, 46351, 20, 16)) == 0


def test_requantise_saturates_both_ways():
    """Far exponents neither wrap nor change sign."""
    for exponent in (-20, -64, -127, -1000):
        scale = np.array([40000, exponent])
        assert reference.requantise(1, scale, scale, 16) == INT32.max
        assert reference.requantise(-1, scale, scale, 16) == INT32.min
        assert reference.requantise(0, scale, scale, 16) == 0


@fast
@given(st.floats(1e-30, 1e30))
def test_scale_of(value):
    """A 16-bit mantissa, relative error below 2**-16; `scale_value` reads it back."""
    scale = scale_of(value)
    assert 1 << 15 <= scale[0] < 1 << 16
    assert scale.dtype == np.int32
    assert abs(float(scale_value(scale)) / value - 1) < 2**-16


@pytest.mark.parametrize(("width", "block"), [(64, 64), (96, 32), (576, 64), (1536, 512), (7, 1)])
def test_power_of_two_block(width, block):
    assert power_of_two_block(width) == block


def test_exp2_negative():
    """Within 3 units of 32767 * 2**(-n / 256), never rising, 32767 at 0, 0 from 16 octaves on."""
    n = np.arange(20 << 8)
    got = reference.exp2_negative(n)
    assert np.abs(got - 32767 * np.exp2(-n / 256)).max() <= 3
    assert got[0] == 32767
    assert not got[16 << 8 :].any()
    assert (np.diff(got) <= 0).all()
    last = EXP2_NEGATIVE.size - 1  # the compiled kernel's table, whose last entry is for all beyond
    assert got.tolist() == EXP2_NEGATIVE[np.minimum(n, last)].tolist()


def test_silu():
    """Within 17 units of Q15.16 inside +-8 (2.6e-4), within 8 / (1 + e**8) = 176 outside."""
    x = np.arange(-12 << 16, 12 << 16, 37).astype(np.int32)
    got = reference.swiglu(x, np.full_like(x, 1 << 16))
    real = x / 65536
    error = np.abs(got - 65536 * real / (1 + np.exp(-real)))
    inside = np.abs(real) < 8
    assert error[inside].max() <= 17
    assert error[~inside].max() <= 177


@fast
@given(st.lists(st.integers(INT32.min, INT32.max), min_size=1, max_size=20))
def test_to_int8(values):
    """-127 .. 127, the largest at the end of the range, each within one step of the value."""
    x, peak, exponent = reference.to_int8(np.array(values), 16)
    assert np.abs(x.astype(int)).max() in (0 if not any(values) else 127, 127)
    step = float(peak) / 127 * 2.0 ** -float(exponent)
    assert np.abs(x * step - np.array(values) / 65536).max() <= 0.51 * step + 2.0 ** -float(
        exponent
    )


@fast
@given(st.lists(st.integers(-32768, 32768), min_size=64, max_size=64), st.sampled_from([1, 8, 64]))
def test_hadamard_is_its_own_inverse(values, block):
    """Twice gives `block` times the vector; the compiled one the same."""
    h = np.array(values, np.int64)
    once = reference.hadamard(h, block)
    assert (reference.hadamard(once, block) == h * block).all()
    work = h.astype(np.int32)
    arith.hadamard(work, block)
    assert (work == once).all()


def test_rotating_the_residual_twice_gives_it_back():
    """R1 is its own inverse but for `block`, to within the mixer's 14 bits."""
    from weights.rotate import mixer

    h = np.random.default_rng(3).integers(-32768, 32769, (2, 576))
    twice = reference.rotate_residual(reference.rotate_residual(h, mixer(576)), mixer(576))
    assert np.abs(twice / 64 - h).max() < 32768 * 2**-10
