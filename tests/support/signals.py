"""Signals and matrices made by hand, and the comparison of a compiled kernel with its twin."""

from __future__ import annotations

import numpy as np

from emulator.fixedpoint import scale_value
from kernels import compiled, reference
from kernels.rom.pack import PackedMatrix, pack_codes, tile_rows

INT32 = np.iinfo(np.int32)
CONSTANT = np.array([40000, 22], np.int32)
WIDTHS = (32, 96, 160, 576, 1536)
FILLS = ("random", "small", "zeros", "largest", "smallest", "one-hot", "alternating")


def same(a, b) -> None:
    """Equal types, shapes and bits."""
    if isinstance(a, (tuple, list)):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            same(left, right)
    else:
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(a, b)


def twins(name: str, *args) -> None:
    same(getattr(reference, name)(*args), getattr(compiled, name)(*args))


def signal(shape: tuple[int, ...], fill: str, seed: int = 0) -> np.ndarray:
    """int32 of the given shape, filled as one of FILLS says."""
    rng = np.random.default_rng(seed)
    if fill == "random":
        return rng.integers(INT32.min, INT32.max, shape, np.int32, endpoint=True)
    if fill == "small":
        return rng.integers(-300, 301, shape).astype(np.int32)
    v = np.zeros(shape, np.int32)
    if fill == "largest":
        v[:] = INT32.max
    elif fill == "smallest":
        v[:] = INT32.min
    elif fill == "one-hot":
        v[..., seed % shape[-1]] = -1
    elif fill == "alternating":
        v[..., ::2], v[..., 1::2] = INT32.max, INT32.min
    return v


def scales(rng: np.random.Generator, shape: tuple[int, ...], low: int, high: int) -> np.ndarray:
    """Scales with exponents low .. high; about one in eight is that of a vector of zeros."""
    scale = np.stack(
        [rng.integers(1 << 15, 1 << 16, shape), rng.integers(low, high + 1, shape)], axis=-1
    )
    scale[rng.random(shape) < 0.125] = (0, reference.ZERO_EXPONENT)
    return scale.astype(np.int32)


def matrix(
    rows: int, columns: int, bits: int, group: int, exponents: tuple[int, int] = (10, 40)
) -> PackedMatrix:
    rng = np.random.default_rng(rows * columns + bits)
    mantissa = rng.integers(1 << 15, 1 << 16, rows).astype(np.uint16)
    mantissa[rng.random(rows) < 0.1] = 0
    alphabet = rng.integers(-64, 65, 1 << bits).astype(np.int8)
    alphabet[[0, -1]] = -64, 64
    if bits == 6 and rows % 5 < 4:  # levels that rise evenly, by 1 or 2, need no table
        alphabet = (np.arange(-32, 32) * (1, 2, -1, 0)[rows % 5]).astype(np.int8)
    codes = rng.integers(0, 1 << bits, (rows, columns)).astype(np.uint8)
    codes[0] = 0  # one row of the largest level, for the widest sums
    group_scale = rng.integers(-128, 128, (rows, columns // group)).astype(np.int8)
    group_scale[0] = -128
    return PackedMatrix(
        rows,
        columns,
        bits,
        group,
        pack_codes(codes, bits),
        tile_rows(group_scale),
        mantissa,
        rng.integers(exponents[0], exponents[1] + 1, rows).astype(np.int8),
        alphabet,
    )


ONE = 1 << reference.FRACTION  # 1.0 in Q15.16


def fixed(values: np.ndarray) -> np.ndarray:
    """Real numbers as Q15.16 int32."""
    return np.round(values * ONE).astype(np.int32)


def values_of(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """int8[..., n] with scale int32[..., 2] as the real numbers they stand for."""
    return x * scale_value(scale)[..., None]
