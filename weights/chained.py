"""Masks that make up for those before them: fitted to what the chip will really feed a matrix.

`weights.ldlq` rounds W so that its outputs stay near W x for the inputs x of a chip whose masks
are almost exact. But a matrix reads what coarser masks made of x: z. Here W is moved first, toward
where its outputs on z are nearest to those wanted: W x, and for a matrix that adds to the residual
stream also what the stream lacks by then. With H the moments of z, C those of x against z and D
those of the lack against z, that is W + (W (C - H) + D) / H; and H is what an error costs.

The whole way would fit the text's noise too. So a matrix goes the share of it that serves best on
windows that are held out: about half with 12,000 tokens. Every sum runs in a fixed order: the masks
depend on neither host nor threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.rom.pack import PackedMatrix
from weights.checkpoint import PASS_MATRICES
from weights.ldlq import BLOCK, Curvature, axpy, quantise_calibrated
from weights.stray import Stray

Float32 = NDArray[np.float32]

Measure = Callable[[], tuple[Stray, Stray]]  # of the text that is fitted, and of that held out
Make = Callable[[str, Measure], dict[str, PackedMatrix]]


class Chain(Protocol):
    """Text on its way through two chips, layer by layer: nearly exact masks, and those made."""

    def layer(
        self, layer: int, probe: dict[str, PackedMatrix], vectors: dict[str, NDArray], make: Make
    ) -> dict[str, PackedMatrix]:
        """Run the next layer. At each pass `make(name, measure)` gives the masks of its matrices.

        Returns all masks that were made.
        """


def fitted(weights: dict[str, Float32], bits: dict[str, int], rounds: int) -> Make:
    """Make the masks of a layer's matrices: move them, then round with error feedback."""

    def make(name: str, measure: Measure) -> dict[str, PackedMatrix]:
        fit = Fit.of(*measure())
        return {
            matrix: quantise_calibrated(fit.move(weights[matrix]), fit.cost, bits[matrix], rounds)
            for matrix in PASS_MATRICES[name]
        }

    return make


def taken(masks: dict[str, PackedMatrix]) -> Make:
    """The masks that an interrupted compile has made already."""
    return lambda name, measure: {matrix: masks[matrix] for matrix in PASS_MATRICES[name]}


@dataclass(frozen=True, slots=True)
class Fit:
    """Of a pass: what an error costs, and where its matrices are to be moved."""

    cost: Curvature
    wish: Wish  # of the text that is fitted
    held_out: Wish  # of the text that is not
    h: Float32  # its H

    @classmethod
    def of(cls, stray: Stray, held_out: Stray) -> Fit:
        """The moments are used up."""
        wish, other = Wish.of(stray), Wish.of(held_out)
        h = (held_out.own.value / _mean(held_out)).astype(np.float32)
        stray.own.value += held_out.own.value  # an error costs in all of the text
        return cls(Curvature.of(stray.own.value), wish, other, h)

    def move(self, w: Float32) -> Float32:
        """Weights whose outputs on what is read are nearer to those wanted.

        Of the way to where the fitted text would have them, they go the share that brings them
        nearest on the other text.
        """
        w = np.ascontiguousarray(w, np.float32)
        way = np.zeros_like(w)
        _gather(w, self.wish.pull, self.wish.lack, way)
        inverse = (1 / self.cost.d).astype(np.float32)
        _solve(way, self.cost.u, np.ascontiguousarray(self.cost.u.T), inverse)
        wanted, cost = np.zeros_like(w), np.zeros_like(w)
        _gather(w, self.held_out.pull, self.held_out.lack, wanted)
        _gather(way, self.h, np.zeros((0, 0), np.float32), cost)
        gain, price = _dot(way, wanted), _dot(way, cost)
        share = min(max(gain / price, 0.0), 1.0) if price > 0 else 0.0
        return w + np.float32(share) * way


@dataclass(frozen=True, slots=True)
class Wish:
    """How a pass's outputs ought to change, by its inputs; in units of the mean of H."""

    pull: Float32  # C - H: for W, W (C - H)
    lack: Float32  # D, or nothing

    @classmethod
    def of(cls, stray: Stray) -> Wish:
        mean = _mean(stray)
        lack = np.zeros((0, 0)) if stray.lack is None else stray.lack.value / mean
        pull = (stray.cross.value - stray.own.value) / mean
        return cls(pull.astype(np.float32), lack.astype(np.float32))


def _mean(stray: Stray) -> float:
    h = stray.own.value
    return float(np.trace(h)) / len(h) or 1.0


def _dot(a: Float32, b: Float32) -> float:
    """Sum of all products, the same on every host."""
    return math.fsum(_dots(a, b))


@njit(cache=True, nogil=True)
def _dots(a, b):
    sums = np.zeros(len(a))
    for r in range(len(a)):
        for k in range(a.shape[1]):
            sums[r] += np.float64(a[r, k]) * b[r, k]
    return sums


@njit(cache=True, nogil=True, parallel=True)
def _gather(w, pull, lack, y):
    """y += w pull + lack, a few rows side by side."""
    rows, columns = w.shape
    for block in prange((rows + BLOCK - 1) // BLOCK):
        several = range(block * BLOCK, min(block * BLOCK + BLOCK, rows))
        if len(lack):
            for r in several:
                y[r] += lack[r]
        for k in range(columns):
            for r in several:
                axpy(w[r, k], pull[k], y[r])


@njit(cache=True, nogil=True, parallel=True)
def _solve(y, u, down, inverse):
    """y = y / (u d u'), a few rows side by side; `down` is u', `inverse` 1 / d."""
    rows, columns = y.shape
    for block in prange((rows + BLOCK - 1) // BLOCK):
        several = range(block * BLOCK, min(block * BLOCK + BLOCK, rows))
        for k in range(columns - 1, -1, -1):
            for r in several:
                axpy(-y[r, k], down[k, :k], y[r, :k])
        for k in range(columns):
            for r in several:
                y[r, k] *= inverse[k]
        for k in range(columns):
            for r in several:
                axpy(-y[r, k], u[k, k + 1 :], y[r, k + 1 :])
