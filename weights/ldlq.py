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

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.pack import PackedMatrix
from weights.quantize import GROUP, alphabet, best_scale, nearest, pack_rows, row_scale

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

DAMPING = 0.01  # of the mean diagonal, added to it
PANEL = 64  # columns of the factor between two parallel steps
SWEEPS = 4  # of coordinate descent in a round, at most


@dataclass(frozen=True, slots=True)
class Curvature:
    """What an error in a row costs: the inputs' second moments and their factor."""

    h: Float32  # [columns, columns], damped, mean diagonal near 1
    u: Float32  # [columns, columns] unit upper triangular; h = u d u'

    @classmethod
    def of(cls, moments: Float64, damping: float = DAMPING) -> Curvature:
        """Of second moments float64[columns, columns]; `damping` counts in mean diagonals."""
        mean = float(np.trace(moments)) / len(moments)
        h = moments / mean if mean > 0 else np.zeros_like(moments)
        h = h + (damping if mean > 0 else 1.0) * np.eye(len(h))
        return cls(h.astype(np.float32), _factor(h.copy()).astype(np.float32))


def quantise_calibrated(
    w: NDArray[np.float32], curvature: Curvature, bits: int, rounds: int
) -> PackedMatrix:
    """[rows, columns] -> the packed matrix with the nearest outputs, for inputs like those seen.

    After the greedy pass, `rounds` of scale refit and coordinate descent.
    """
    rows, columns = w.shape
    group = GROUP[bits]
    levels = alphabet(bits)
    codes = np.empty((rows, columns), np.uint8)
    group_scale = np.empty((rows, columns // group), np.uint8)
    mantissa = np.empty(rows, np.uint16)
    exponent = np.empty(rows, np.int8)
    _rows(
        np.ascontiguousarray(w, np.float32),
        curvature.h,
        curvature.u,
        levels.astype(np.float32),
        group,
        rounds,
        (codes, group_scale, mantissa, exponent),
    )
    return pack_rows(codes, group_scale, mantissa, exponent, bits, group)


def _factor(h: Float64) -> Float64:
    """Unit upper triangular U with h = U D U'; overwrites h (symmetric, positive definite).

    From the last column to the first, PANEL of them before the rows above see any: each element
    meets the same terms in the same order as without panels.
    """
    n = len(h)
    u = np.eye(n)
    rows, pivots = np.empty((PANEL, n)), np.empty(PANEL)
    for end in range(n, 0, -PANEL):
        start = max(end - PANEL, 0)
        _factor_panel(h, u, rows, pivots, start, end)
        _update_above(h, rows, pivots, start, end - start)
    return u


@njit(cache=True, nogil=True)
def _factor_panel(h, u, rows, pivots, start, end):
    for k in range(end - 1, start - 1, -1):
        pivot = h[k, k]
        row = rows[k - start, :k]
        row[:] = h[k, :k] / pivot
        u[:k, k] = row
        pivots[k - start] = pivot
        for i in range(start, k):
            _axpy(-pivot * row[i], row[: i + 1], h[i, : i + 1])


@njit(cache=True, nogil=True, parallel=True)
def _update_above(h, rows, pivots, start, panel):
    for i in prange(start):
        for k in range(panel - 1, -1, -1):
            _axpy(-pivots[k] * rows[k, i], rows[k, : i + 1], h[i, : i + 1])


@njit(cache=True, nogil=True, parallel=True)
def _rows(w, h, u, levels, group, rounds, out):
    codes, group_scale, mantissa, exponent = out
    rows, columns = w.shape
    zero = nearest(np.float32(0), levels)
    for row in prange(rows):
        scale = np.empty(columns // group, np.float32)
        for g in range(scale.size):
            scale[g] = best_scale(w[row, g * group : (g + 1) * group], levels)
        mantissa[row], exponent[row] = 0, 0
        group_scale[row, :] = 0
        codes[row, :] = zero
        largest = scale.max()
        if largest == 0:
            continue
        m, e = row_scale(np.float64(largest) / 255.0)
        mantissa[row], exponent[row] = m, e
        unit = np.float32(np.float64(m) * 2.0 ** np.float64(-e))
        for g in range(scale.size):
            scale[g] = _on_grid(scale[g], unit)
        level = np.empty(columns, np.int64)  # the code of each column
        error = np.empty(columns, np.float32)  # w - w'
        _feedback(w[row], u, levels, scale, group, level, error)
        slope = np.empty(columns, np.float32)  # h @ error
        if rounds:
            _slope(h, error, slope)
        for _ in range(rounds):
            _refit(h, levels, unit, group, level, scale, error, slope)
            for _ in range(SWEEPS):
                if not _descend(h, levels, scale, group, level, error, slope):
                    break
        for g in range(scale.size):
            group_scale[row, g] = int(np.floor(scale[g] / unit + np.float32(0.5)))
        for k in range(columns):
            codes[row, k] = level[k]


@njit(cache=True, nogil=True)
def _on_grid(scale, unit):
    """The nearest multiple of `unit`, from 1 to 255 times."""
    steps = np.floor(scale / unit + np.float32(0.5))
    return min(max(steps, np.float32(1)), np.float32(255)) * unit


@njit(cache=True, nogil=True)
def _axpy(a, x, y):
    """y += a * x"""
    for i in range(y.size):
        y[i] += a * x[i]


@njit(cache=True, nogil=True)
def _feedback(w, u, levels, scale, group, level, error):
    """The greedy pass, column after column."""
    target = w.copy()  # w plus what the errors so far ask of each column
    for k in range(w.size):
        s = scale[k // group]
        level[k] = nearest(target[k] / s, levels)
        error[k] = w[k] - s * levels[level[k]]
        _axpy(error[k], u[k, k + 1 :], target[k + 1 :])


@njit(cache=True, nogil=True)
def _slope(h, error, slope):
    slope[:] = 0
    for k in range(error.size):
        _axpy(error[k], h[k], slope)


@njit(cache=True, nogil=True)
def _refit(h, levels, unit, group, level, scale, error, slope):
    """Each group's scale, one after another, to the minimum of e H e with the codes held."""
    for g in range(scale.size):
        start = g * group
        along, curve = np.float32(0), np.float32(0)
        for i in range(start, start + group):
            c = levels[level[i]]
            along += c * slope[i]
            pull = np.float32(0)
            for j in range(start, start + group):
                pull += h[i, j] * levels[level[j]]
            curve += c * pull
        if curve <= 0:
            continue
        better = _on_grid(scale[g] + along / curve, unit)
        step = scale[g] - better
        if step != 0:
            scale[g] = better
            for i in range(start, start + group):
                change = step * levels[level[i]]
                error[i] += change
                _axpy(change, h[i], slope)


@njit(cache=True, nogil=True)
def _descend(h, levels, scale, group, level, error, slope):
    """One sweep: each code to the minimum of e H e with all others held. True if any moved."""
    moved = False
    for k in range(level.size):
        s = scale[k // group]
        now = s * levels[level[k]]
        code = nearest((now + slope[k] / h[k, k]) / s, levels)
        if code != level[k]:
            change = now - s * levels[code]
            level[k] = code
            error[k] += change
            _axpy(change, h[k], slope)
            moved = True
    return moved
