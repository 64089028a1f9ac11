"""Arithmetic units in RTL against the twin: all inputs, or their edges where there are 2**60."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

pytest.importorskip("amaranth")

import numpy as np
from amaranth.hdl import Cat, Const, Module, Signal, Value, signed

from emulator.rtl import arithmetic
from emulator.rtl.attention_values import SUM_BITS
from emulator.rtl.block_rtl import BlockRtl
from emulator.rtl.exponential import exp_line, exp_read, exp_shift
from emulator.rtl.gate import LIMIT, between, line_ends
from emulator.rtl.pipeline import Port, fields, step
from emulator.rtl.rom import read_rom
from emulator.rtl.simulate import simulate
from kernels import reference
from tests.support.described import described

SPEC = described()


class Unit(BlockRtl):
    """A unit that answers for every input value, so many at once."""

    def __init__(self, build: Any, count: int, width: int, out: int, lanes: int = 16) -> None:
        super().__init__(SPEC)
        self.unit = build
        self.inputs = [Port("x", count, width, lanes, sign=False)]
        self.outputs = [Port("y", count, out, lanes)]

    def build(self, m: Module) -> None:
        valid, lanes = self.unit(m, self.inputs[0].valid, list(self.inputs[0]))
        self.outputs[0].drive(m, valid, lanes)


def answers(build: Any, values: np.ndarray, width: int, out: int, lanes: int = 16) -> np.ndarray:
    return simulate(Unit(build, values.size, width, out, lanes), {"x": values}).arrays["y"]


def of_each(function: Callable[[Module, Value], Value]) -> Any:
    def build(m: Module, valid: Value, lanes: Sequence[Value]) -> tuple[Value, list[Value]]:
        return step(m, valid, [function(m, lane) for lane in lanes])

    return build


def test_reciprocal_of_edges():
    """Around every table entry's ends and every power of two; the slow test takes all peaks."""
    near = [k * 2**s + d for k in range(256, 513, 5) for s in range(7) for d in (-1, 0, 1)]
    peaks = np.unique([*range(64), *near, 32766, 32767, 32768])
    check_peaks(peaks[peaks <= 32768])


@pytest.mark.slow
def test_reciprocal_of_all_peaks():
    check_peaks(np.arange(32769))


def check_peaks(peaks: np.ndarray) -> None:
    def build(m: Module, valid: Value, lanes: Sequence[Value]) -> Any:
        return arithmetic.reciprocal(m, valid, 127 << 22, lanes, 6, 30)

    got = answers(build, peaks, 16, 32)
    np.testing.assert_array_equal(got, (127 << 22) // np.maximum(peaks, 1))


def test_reciprocal_of_sums():
    """From the least sum, one position, to the widest; powers of two and their neighbours."""
    rng = np.random.default_rng(0)
    edges = [n for s in range(15, SUM_BITS) for n in (2**s - 1, 2**s, 2**s + 1)]
    sums = np.array([*edges, 2**SUM_BITS - 1, *rng.integers(32767, 2**SUM_BITS, 200)])

    def build(m: Module, valid: Value, lanes: Sequence[Value]) -> Any:
        return arithmetic.reciprocal(m, valid, 1 << 46, lanes, 6, 32)

    np.testing.assert_array_equal(answers(build, sums, SUM_BITS, 33, 8), (1 << 46) // sums)


def test_rounding_shift_of_every_value():
    """All of ten bits by all of 0 to 15 places."""
    values = np.arange(1 << 14)
    x, s = ((values & 1023) ^ 512) - 512, values >> 10

    def shift(m: Module, lane: Value) -> Value:
        return arithmetic.round_shift(lane[:10].as_signed(), lane[10:])

    got = answers(of_each(shift), values, 14, 12, 64)
    np.testing.assert_array_equal(got, reference.round_shift(x, s))


def test_requantise_at_its_edges():
    """Ties, both clamps, and shifts from -40 to 70, of products up to 2**61."""
    products = [d + s * 2**k for k in (0, 14, 31, 32, 45, 61) for s in (-1, 1) for d in (-1, 0, 1)]
    cases = [(p, s) for p in products for s in (-40, -31, -1, 0, 1, 15, 16, 31, 46, 63, 64, 70)]

    def build(m: Module, valid: Value, lanes: Sequence[Value]) -> Any:
        number = Signal(range(len(cases)))
        with m.If(valid):
            m.d.sync += number.eq(number + 1)
        words = [(p & (1 << 63) - 1) | (s & 0x3FFF) << 63 for p, s in cases]
        product, shift = fields(read_rom(m, number, words, 77), [63, 14], True)
        return step(m, valid, [arithmetic.requantised(m, product, shift)])

    got = answers(build, np.zeros(len(cases), int), 1, 32, 1)
    want = [twin_of_the_last_stage(p, s) for p, s in cases]
    np.testing.assert_array_equal(got, want)


def twin_of_the_last_stage(product: int, shift: int) -> int:
    """`reference.requantise` behind its multiplication."""
    p = np.int64(product)
    p = np.clip(p, -(2**31), 2**31) if shift < 0 else p
    return int(reference.saturate_int32(reference.round_shift(p, np.maximum(shift, -31))))


def test_exponential_of_every_distance():
    """All of 13 bits: beyond 16 powers of two nothing is left."""

    def power(m: Module, valid: Value, lanes: Sequence[Value]) -> Any:
        valid, read = step(m, valid, [v for d in lanes for v in exp_read(m, d, Const(1, 1))])
        pairs = zip(read[::3], read[1::3], read[2::3], strict=True)
        valid, lines = step(m, valid, [v for e, r, w in pairs for v in (exp_line(e, r), w)])
        shifted = zip(lines[::2], lines[1::2], strict=True)
        return step(m, valid, [exp_shift(value, whole) for value, whole in shifted])

    distances = np.arange(1 << 13)
    got = answers(power, distances, 13, 16, 32)
    np.testing.assert_array_equal(got, reference.exp2_negative(distances))


@pytest.mark.slow
def test_a_gates_table_at_every_value():
    """All 2**20 values of Q15.16 from -8 to 8, where a gate is a line between two entries."""

    def line(m: Module, valid: Value, lanes: Sequence[Value]) -> Any:
        ends = [v for g in lanes for v in line_ends(m, g.as_signed(), reference.SILU.tolist())]
        valid, ends = step(m, valid, ends)
        return step(m, valid, [between(e, r) for e, r in zip(ends[::2], ends[1::2], strict=True)])

    values = np.arange(-LIMIT, LIMIT)
    got = answers(line, values, 21, 32, 64)
    one = np.full(values.size, 1 << 16)  # times one in Q15.16
    np.testing.assert_array_equal(got, reference.geglu(values, one, reference.SILU))


def test_normalise():
    """All of twelve bits, and what rounds up to a 17th bit."""
    values = np.concatenate([np.arange(4096), 2**24 - np.arange(1, 300)])

    def scale(m: Module, lane: Value) -> Value:
        mantissa, exponent = arithmetic.normalise(m, lane, Const(20, signed(12)))
        return Cat(mantissa, exponent)

    got = answers(of_each(scale), values, 24, 28)
    want = reference.normalise(values, 20).astype(np.int64)
    np.testing.assert_array_equal(got & 0xFFFF, want[:, 0])
    np.testing.assert_array_equal(got >> 16, want[:, 1])


def test_square_root_and_quotient():
    """Squares and their neighbours at 62 bits; quotients at both ends of a root."""
    roots = np.array([2**30, 2**30 + 1, 2**31 - 1, 1518500249, 1234567890])
    values = np.concatenate([roots**2 - 1, roots**2, roots**2 + 1])
    values = values[values < 2**62]

    def root(m: Module, valid: Value, lanes: Sequence[Value]) -> Any:
        done, found = arithmetic.integer_sqrt(m, valid, lanes[0], 8)
        return done, [found]

    np.testing.assert_array_equal(answers(root, values, 62, 32, 1), reference.integer_sqrt(values))
    peaks = np.array([0, 1, 2**15 - 1, 2**15] * 5)

    def quotient(m: Module, valid: Value, lanes: Sequence[Value]) -> Any:
        peak, divisor = lanes[0][:16], lanes[0][16:]
        done, found = arithmetic.divide(m, valid, Cat(Const(0, 47), peak), divisor, 33, 9)
        return done, [found]

    words = peaks | np.repeat(roots, 4) << 16
    got = answers(quotient, words, 47, 34, 1)
    np.testing.assert_array_equal(got, (peaks << 47) // np.repeat(roots, 4))
