"""Float matrix -> codes, with error feedback: each column makes good the errors of those before.

With H the second moments of a matrix's inputs, a row w that becomes w' costs e H e for e = w - w'.
Factored as H = U D U' with U unit upper triangular, that is the sum over columns k of
D[k] * (e[k] + sum of e[j] U[j, k] over j < k) ** 2, so a greedy pass in column order rounds
w[k] + sum of e[j] U[j, k] (LDLQ: Chee et al., QuIP, arXiv 2307.13304; the same rounding as GPTQ,
arXiv 2210.17323). Rounds of scale refit and coordinate descent on e H e follow.

One thread works on a row, every sum runs in a fixed order and fastmath is off, so the result
does not depend on the host or on the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.rom.pack import PackedMatrix
from kernels.rom.widths import WIDTHS
from weights.quantize import (
    GROUP_SCALE_MAX,
    best_scale,
    levels_of,
    nearest,
    pack_rows,
    row_scale,
)
from weights.threads import by_rows

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

DAMPING = 0.01  # of the mean diagonal, added to it
PANEL = 64  # columns of the factor between two parallel steps
PIECE_ROWS = 128  # of the factor, that a thread takes at a time
BLOCK = 8  # rows that a thread works on side by side
SWEEPS = 4  # of coordinate descent in a round, at most


@dataclass(frozen=True, slots=True)
class Curvature:
    """What an error in a row costs: the inputs' second moments and their factor."""

    h: Float32  # [columns, columns], damped, mean diagonal near 1
    u: Float32  # [columns, columns] unit upper triangular; h = u d u'

    @classmethod
    def of(cls, moments: Float64, damping: float = DAMPING) -> Curvature:
        """Of second moments float64[columns, columns]; `damping` counts in mean diagonals.

        The moments are used up: for 14,336 columns they are 1.6 GB, and h and u as much together.
        """
        mean = float(np.trace(moments)) / len(moments)
        if mean > 0:
            moments /= mean
        else:
            moments[:] = 0
        moments.flat[:: len(moments) + 1] += damping if mean > 0 else 1.0
        return cls(moments.astype(np.float32), _factor(moments).astype(np.float32))


def quantise_calibrated(
    w: NDArray[np.float32], curvature: Curvature, bits: int, rounds: int
) -> PackedMatrix:
    """[rows, columns] -> the packed matrix with the nearest outputs, for inputs like those seen.

    After the greedy pass, `rounds` of scale refit and coordinate descent.
    """
    rows, columns = w.shape
    group = WIDTHS[bits].group
    levels = levels_of(bits)
    codes = np.empty((rows, columns), np.uint8)
    group_scale = np.empty((rows, columns // group), np.int8)
    mantissa = np.empty(rows, np.uint16)
    exponent = np.empty(rows, np.int8)
    w = np.ascontiguousarray(w, np.float32)

    def some(piece: slice) -> None:
        found = codes[piece], group_scale[piece], mantissa[piece], exponent[piece]
        _block(w[piece], curvature.h, curvature.u, levels, group, rounds, found)

    by_rows(some, rows, BLOCK)
    return pack_rows(codes, group_scale, mantissa, exponent, bits, group)


def _factor(h: Float64) -> Float64:
    """Unit upper triangular U with h = U D U', in the place of h (symmetric, positive definite).

    From the last column to the first, PANEL of them before the rows above see any: each element
    meets the same terms in the same order as without panels. What is yet to be factored is read
    below the diagonal, what is done lies above.
    """
    n = len(h)
    rows, pivots = np.empty((PANEL, n)), np.empty(PANEL)
    for end in range(n, 0, -PANEL):
        start = max(end - PANEL, 0)
        _factor_panel(h, rows, pivots, start, end)
        by_rows(partial(_update_above, h, rows, pivots, start, end), start, PIECE_ROWS)
    for k in range(n):
        h[k, :k], h[k, k] = 0, 1
    return h


@njit(cache=True, nogil=True)
def _factor_panel(h, rows, pivots, start, end):
    for k in range(end - 1, start - 1, -1):
        pivot = h[k, k]
        row = rows[k - start, :k]
        row[:] = h[k, :k] / pivot
        h[:k, k] = row
        pivots[k - start] = pivot
        for i in range(start, k):
            axpy(-pivot * row[i], row[: i + 1], h[i, : i + 1])


def _update_above(
    h: Float64, rows: Float64, pivots: Float64, start: int, end: int, piece: slice
) -> None:
    first, last, _ = piece.indices(start)
    _subtract(h, rows, pivots, first, last, end - start)


@njit(cache=True, nogil=True)
def _subtract(h, rows, pivots, first, last, panel):
    for i in range(first, last):
        for k in range(panel - 1, -1, -1):
            axpy(-pivots[k] * rows[k, i], rows[k, : i + 1], h[i, : i + 1])


@njit(cache=True, nogil=True)
def _block(w, h, u, levels, group, rounds, out):
    """A few rows side by side, so that a row of h or u is read once for all of them."""
    codes, group_scale, mantissa, exponent = out
    rows, columns = w.shape
    scale = np.ones((rows, columns // group), np.float32)
    unit = np.ones(rows, np.float32)  # what a scale is a multiple of
    for r in range(rows):
        mantissa[r], exponent[r] = _first_scales(w[r], levels, scale[r], unit[r:])
    level = np.empty((rows, columns), np.int64)  # the code of each weight
    error = np.empty((rows, columns), np.float32)  # w - w'
    _feedback(w, u, levels, scale, group, level, error)
    if rounds:
        slope = np.zeros((rows, columns), np.float32)  # error @ h
        for k in range(columns):
            for r in range(rows):
                axpy(error[r, k], h[k], slope[r])
        for _ in range(rounds):
            refit(h, levels, unit, group, level, scale, error, slope)
            for _ in range(SWEEPS):
                if not _descend(h, levels, scale, group, level, error, slope):
                    break
    zero = nearest(np.float32(0), levels)
    for r in range(rows):
        empty = mantissa[r] == 0
        for g in range(columns // group):
            steps = int(np.floor(scale[r, g] / unit[r] + np.float32(0.5)))
            group_scale[r, g] = 0 if empty else steps
        for k in range(columns):
            codes[r, k] = zero if empty else level[r, k]


@njit(cache=True, nogil=True)
def _first_scales(w, levels, scale, unit):
    """Search the scale of each group of a row; set them and unit[0], return the row's scale.

    A row of zeros keeps what it had and has the row scale (0, 0).
    """
    group = w.size // scale.size
    found = np.empty(scale.size, np.float32)
    for g in range(found.size):
        found[g] = best_scale(w[g * group : (g + 1) * group], levels)
    largest = np.abs(found).max()
    if largest == 0:
        return 0, 0
    mantissa, exponent = row_scale(np.float64(largest) / GROUP_SCALE_MAX)
    unit[0] = np.float32(np.float64(mantissa) * 2.0 ** np.float64(-exponent))
    for g in range(found.size):
        scale[g] = _on_grid(found[g], unit[0])
    return mantissa, exponent


@njit(cache=True, nogil=True)
def _on_grid(scale, unit):
    """The nearest multiple of `unit` with the same sign, from 1 to GROUP_SCALE_MAX times."""
    steps = np.floor(abs(scale) / unit + np.float32(0.5))
    size = min(max(steps, np.float32(1)), np.float32(GROUP_SCALE_MAX)) * unit
    return -size if scale < 0 else size


@njit(cache=True, nogil=True)
def axpy(a, x, y):
    """y += a * x"""
    for i in range(y.size):
        y[i] += a * x[i]


@njit(cache=True, nogil=True)
def _feedback(w, u, levels, scale, group, level, error):
    """The greedy pass, column after column."""
    target = w.copy()  # w plus what the errors so far ask of each column
    for k in range(w.shape[1]):
        for r in range(w.shape[0]):
            s = scale[r, k // group]
            level[r, k] = nearest(target[r, k] / s, levels)
            error[r, k] = w[r, k] - s * levels.value[level[r, k]]
            axpy(error[r, k], u[k, k + 1 :], target[r, k + 1 :])


@njit(cache=True, nogil=True)
def refit(h, levels, unit, group, level, scale, error, slope):
    """Each group's scale, one after another, to the minimum of e H e with the codes held."""
    for start in range(0, level.shape[1], group):
        for r in range(level.shape[0]):
            along, curve = np.float32(0), np.float32(0)
            for i in range(start, start + group):
                c = levels.value[level[r, i]]
                along += c * slope[r, i]
                pull = np.float32(0)
                for j in range(start, start + group):
                    pull += h[i, j] * levels.value[level[r, j]]
                curve += c * pull
            if curve <= 0:
                continue
            now = scale[r, start // group]
            better = _on_grid(now + along / curve, unit[r])
            if better != now:
                scale[r, start // group] = better
                for i in range(start, start + group):
                    change = (now - better) * levels.value[level[r, i]]
                    error[r, i] += change
                    axpy(change, h[i], slope[r])


@njit(cache=True, nogil=True)
def _descend(h, levels, scale, group, level, error, slope):
    """One sweep: each code to the minimum of e H e with all others held. True if any moved."""
    moved = False
    for k in range(level.shape[1]):
        for r in range(level.shape[0]):
            s = scale[r, k // group]
            now = s * levels.value[level[r, k]]
            code = nearest((now + slope[r, k] / h[k, k]) / s, levels)
            if code != level[r, k]:
                change = now - s * levels.value[code]
                level[r, k] = code
                error[r, k] += change
                axpy(change, h[k], slope[r])
                moved = True
    return moved
