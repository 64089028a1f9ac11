"""The vector functions against NumPy, with the body that this process has."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from kernels.host import simd

RNG = np.random.default_rng(0)
CORNERS = np.array([-128, -127, -1, 0, 1, 126, 127], np.int8)


def signed(n: int) -> np.ndarray:
    """int8[n], a third of it corners."""
    values = RNG.integers(-128, 128, n).astype(np.int8)
    return np.where(RNG.random(n) < 0.3, RNG.choice(CORNERS, n), values)


def on_bytes(function, result: type, lanes: int):
    """A compiled wrapper (a, b) -> array, of a vector function of two i8x32."""

    @njit
    def wrapper(a, b, out):
        simd.store(
            out.ctypes.data,
            function(simd.load_i8x32(a.ctypes.data), simd.load_i8x32(b.ctypes.data)),
        )

    def call(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        out = np.empty(lanes, result)
        wrapper(a, b, out)
        return out

    return call


def test_lookup():
    """All sixteen entries, whatever bits 4 to 6 hold."""
    call = on_bytes(simd.lookup, np.uint8, 32)
    table = np.tile(RNG.integers(0, 256, 16).astype(np.uint8), 2)
    for high in range(0, 128, 16):
        index = (np.arange(32) % 16 + high).astype(np.uint8)
        np.testing.assert_array_equal(call(table, index), table[np.arange(32) % 16])


def test_dot_i8():
    """u up to 128, s down to -128: the corners of int16 are reached and not passed."""
    call = on_bytes(simd.dot_i8, np.int16, 16)
    for _ in range(50):
        u, s = RNG.choice([0, 1, 64, 127, 128], 32).astype(np.uint8), signed(32)
        expected = (u.astype(int) * s).reshape(16, 2).sum(axis=1)
        np.testing.assert_array_equal(call(u, s), expected)
    worst = call(np.full(32, 128, np.uint8), np.full(32, -128, np.int8))
    assert (worst == -32768).all()


def test_dot_u8():
    """Four products, any unsigned byte, on top of a sum."""

    @njit
    def wrapper(total, u, s, out):
        a, b = simd.load_i8x32(u.ctypes.data), simd.load_i8x32(s.ctypes.data)
        result = simd.dot_u8(simd.load_i32x8(total.ctypes.data), a, b)
        simd.store(out.ctypes.data, result)

    for _ in range(50):
        u, s = RNG.choice([0, 1, 128, 254, 255], 32).astype(np.uint8), signed(32)
        total, out = RNG.integers(-(1 << 30), 1 << 30, 8).astype(np.int32), np.empty(8, np.int32)
        wrapper(total, u, s, out)
        np.testing.assert_array_equal(out, total + (u.astype(int) * s).reshape(8, 4).sum(axis=1))


@pytest.mark.parametrize("scale", [-128, -1, 0, 1, 127])
def test_a_group_meets_its_scale(scale):
    """`begin`, `accumulate` and `add_scaled` together, at the largest sums of a group."""

    @njit
    def wrapper(u, s, start, scales, out):
        scale = simd.group_scales(scales.ctypes.data)
        part = simd.begin(simd.fill_i32(start), scale)
        for i in range(8):
            a = simd.load_i8x32(u.ctypes.data + 32 * i)
            part = simd.accumulate(part, a, simd.broadcast4(s.ctypes.data + 4 * i), scale)
        total = simd.load_i32x8(out.ctypes.data)
        simd.store(out.ctypes.data, simd.add_scaled(total, part, scale))

    scales = np.full(8, scale, np.int8)
    scales[3] = -17
    for value in (-128, 127, None):
        u = RNG.choice([0, 128], (8, 8, 4)).astype(np.uint8)  # [vector, row, column]
        s = signed(32) if value is None else np.full(32, value, np.int8)
        out = np.arange(-4, 4, dtype=np.int32)
        wrapper(u, s, -64 * s.sum(dtype=int), scales, out)
        sums = np.einsum("vrc,vc->r", u.astype(int) - 64, s.reshape(8, 4).astype(int))
        expected = np.arange(-4, 4) + sums * scales
        np.testing.assert_array_equal(out, expected)


def test_sums_and_transform():
    """lane_sum and hadamard8."""

    @njit
    def wrapper(rows, transformed):
        a = rows.ctypes.data
        simd.store(transformed.ctypes.data, simd.hadamard8(simd.load_i32x8(a)))
        return simd.lane_sum(simd.load_i32x8(a))

    rows = RNG.integers(-(1 << 20), 1 << 20, (8, 8)).astype(np.int32)
    transformed = np.empty(8, np.int32)
    assert wrapper(rows, transformed) == rows[0].sum()
    signs = np.array([[(-1) ** bin(i & j).count("1") for j in range(8)] for i in range(8)])
    np.testing.assert_array_equal(transformed, signs @ rows[0])


def test_columns_and_pairs():
    """Four values of many rows side by side; two positions' values as pairs of int16."""
    rows_, lanes = (16, 16) if simd.WIDE else (8, 8)
    load = simd.load_i8x64 if simd.WIDE else simd.load_i8x32

    @njit
    def wrapper(at, stride, to, pairs):
        simd.store_columns(at, stride, to)
        for s, found in enumerate(simd.pairs_by_four(load(at), load(at + stride))):
            simd.store(pairs + 4 * lanes * s, found)

    values = RNG.integers(-128, 128, (rows_, 80)).astype(np.int8)
    out, pairs = np.empty((8, rows_, 4), np.uint8), np.empty((4, lanes, 2), np.int16)
    wrapper(values.ctypes.data, 80, out.ctypes.data, pairs.ctypes.data)
    columns = values[:, :32].astype(int).reshape(rows_, 8, 4).transpose(1, 0, 2) + 128
    np.testing.assert_array_equal(out, columns)
    unsigned = values[:2, : 4 * lanes].view(np.uint8).reshape(2, lanes, 4)
    np.testing.assert_array_equal(pairs, unsigned.transpose(2, 1, 0))
