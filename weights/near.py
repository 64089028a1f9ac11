"""Masks near those of another image: scales and alphabets stay, a code changes where it pays.

A new mask costs the same for one via as for all, but what stays alike is measured once, and says
how far two models lie apart. From the codes of the old masks on, each code in turn takes the value
with the least sum of what its error costs (e H e, as `weights.ldlq` has it; without calibration
e e) and a price for every cell of its own that differs from the old masks. A price of 0 changes
all that helps, a high one nothing.

One thread works on a row, every sum runs in a fixed order and fastmath is off, so the result does
not depend on the host or on the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from emulator.config import LlamaConfig
from emulator.errors import UsageError
from kernels.rom.pack import PackedMatrix, pack_codes, unpack_codes, untile_rows
from weights.rom import RomImage, expected_matrices
from weights.threads import by_rows

BLOCK = 8  # rows that a thread works on side by side: a row of H is read once for all of them
SWEEPS = 4  # over all codes of a row, at most

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Near:
    """What to stay near to, and what a changed cell has to save."""

    image: RomImage
    price: float  # of a cell, in mean squared weights of its matrix
    cell_bits: int  # a code wider than a cell lies in several

    @property
    def tag(self) -> str:
        """For the name of an image."""
        return f"near-{self.image.digest[:8]}-{self.price:g}"

    def check(self, config: LlamaConfig, rotation: dict[str, int]) -> None:
        """Raise UsageError unless the model has the image's shape and turns as it does."""
        where = self.image.folder
        if expected_matrices(config) != expected_matrices(self.image.config):
            raise UsageError(f"--near {where}: its matrices have other shapes than the model's")
        if rotation != self.image.manifest["rotation"]:
            raise UsageError(f"--near {where}: its weights are rotated in another way")

    def masks(self, name: str, w: Float32, h: Float32 | None) -> PackedMatrix:
        """[rows, columns] -> the image's matrix `name` with some codes changed.

        `h` are the inputs' second moments, with a mean diagonal near 1. Raises UsageError where a
        row of the image is empty and the model's is not.
        """
        old = self.image.matrices[name]
        scale = scales(old)
        empty = np.flatnonzero(~scale.any(axis=1) & w.any(axis=1))
        if empty.size:
            raise UsageError(f"--near: row {empty[0]} of {name} is empty in the image's masks")
        codes = np.ascontiguousarray(unpack_codes(old.codes, old.rows, old.bits))
        w, values = np.ascontiguousarray(w, np.float32), old.alphabet.astype(np.float32)
        joint = np.empty((0, 0), np.float32) if h is None else h
        price, cells = np.float32(self.price * _mean_square(w)), self._cells(old.bits)

        def some(piece: slice) -> None:
            _settle(w[piece], joint, values, scale[piece], price, cells, codes[piece])

        by_rows(some, old.rows, BLOCK)
        return replace(old, codes=pack_codes(codes, old.bits))

    def _cells(self, bits: int) -> NDArray[np.int64]:
        """[2**bits]: cells that differ, by the exclusive or of two codes."""
        differs, mask = np.arange(1 << bits), (1 << self.cell_bits) - 1
        parts = [differs >> low & mask for low in range(0, bits, self.cell_bits)]
        return np.asarray(np.count_nonzero(parts, axis=0), np.int64)


def scales(matrix: PackedMatrix) -> Float32:
    """[rows, groups]: what a level of the alphabet is worth."""
    row = np.ldexp(matrix.row_mantissa.astype(np.float64), -matrix.row_exponent.astype(np.int64))
    steps = untile_rows(matrix.group_scale, matrix.rows)
    return np.ascontiguousarray(steps * row[:, None], np.float32)


@njit(cache=True, nogil=True)
def _mean_square(w):
    total = 0.0
    for r in range(w.shape[0]):
        for k in range(w.shape[1]):
            total += np.float64(w[r, k]) * np.float64(w[r, k])
    return total / w.size


@njit(cache=True, nogil=True)
def _settle(w, h, values, scale, price, cells, codes):
    """Coordinate descent from the codes that are there; `h` is empty where columns stand alone."""
    rows, columns = w.shape
    group, joint = columns // scale.shape[1], h.size > 0
    old = codes.copy()
    slope = np.zeros((rows, columns), np.float32)  # error @ h
    for k in range(columns):
        for r in range(rows):
            error = w[r, k] - scale[r, k // group] * values[codes[r, k]]
            _spread(error, h, k, slope[r], joint)
    for _ in range(SWEEPS):
        moved = False
        for k in range(columns):
            curve = h[k, k] if joint else np.float32(1)
            for r in range(rows):
                s, now = scale[r, k // group], codes[r, k]
                if s == 0:
                    continue
                if now == old[r, k] and slope[r, k] * slope[r, k] <= price * curve:
                    continue  # the best value there is would not pay for a cell
                code = _best(slope[r, k], curve, s, values, price, cells, old[r, k], now)
                if code != now:
                    _spread(s * (values[now] - values[code]), h, k, slope[r], joint)
                    codes[r, k] = code
                    moved = True
        if not moved:
            break


@njit(cache=True, nogil=True)
def _spread(error, h, k, slope, joint):
    """slope += error * h[k]"""
    if joint:
        for i in range(slope.size):
            slope[i] += error * h[k, i]
    else:
        slope[k] += error


@njit(cache=True, nogil=True)
def _best(slope, curve, scale, values, price, cells, old, now):
    """The code whose saving less its price is largest; `now` if none is better."""
    best, most = now, -price * cells[now ^ old]
    for code in range(values.size):
        change = scale * (values[code] - values[now])
        saved = change * (slope + slope - change * curve) - price * cells[code ^ old]
        if saved > most:
            best, most = code, saved
    return best
