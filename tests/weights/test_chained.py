"""Weights that are moved to what a chip with coarse masks feeds them."""

from __future__ import annotations

import numpy as np
import pytest

from weights.chained import Fit
from weights.stray import CrossMoments, Signal, Stray

COLUMNS, ROWS, TOKENS = 64, 16, 4000


def signal(values: np.ndarray) -> Signal:
    """Int8 with a unit for each token, as a fabric reads it."""
    peak = np.abs(values).max(axis=1)
    return Signal(np.rint(values * (127 / peak)[:, None]).astype(np.int8), peak / 127)


def real(one: Signal) -> np.ndarray:
    return one.x * one.unit[:, None]


def inputs(seed: int, tokens: int = TOKENS) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(tokens, COLUMNS)) * rng.uniform(0.01, 3, (tokens, 1))


def measured(seed: int, distort: np.ndarray, lack: np.ndarray | None = None) -> Stray:
    """A pass that reads x distorted, and whose stream lacks x times `lack` in Q15.16."""
    x = inputs(seed)
    found = Stray.of(COLUMNS, None if lack is None else ROWS)
    missing = np.zeros((len(x), ROWS)) if lack is None else x @ lack.T
    found.add(signal(x @ distort.T), signal(x), np.rint(np.ldexp(missing, 16)).astype(np.int64))
    return found


def test_moments_are_sums_of_products():
    """Loud and quiet tokens; the order of tokens changes no bit."""
    a, b = signal(inputs(1)), signal(inputs(2))
    moments = CrossMoments(COLUMNS, COLUMNS)
    moments.add(a, b)
    want = real(a).T @ real(b)
    assert np.abs(moments.value - want).max() < 1e-3 * np.abs(want).max()
    order = np.random.default_rng(0).permutation(TOKENS)
    again = CrossMoments(COLUMNS, COLUMNS)
    again.add(Signal(a.x[order], a.unit[order]), Signal(b.x[order], b.unit[order]))
    assert np.array_equal(moments.value, again.value)


def test_moments_count_their_tokens():
    x = signal(np.ones(((1 << 15) + 1, 1)))
    with pytest.raises(ValueError, match=r"2\*\*53"):
        CrossMoments(1, 1).add(x, x)


@pytest.mark.parametrize("lacks", [False, True])
def test_weights_make_up_for_what_was_distorted(lacks: bool):
    """A distortion that the weights can undo, and a lack that they can fill, on unseen text."""
    rng = np.random.default_rng(3)
    distort = np.eye(COLUMNS) + 0.05 * rng.normal(size=(COLUMNS, COLUMNS))
    w = rng.normal(size=(ROWS, COLUMNS)).astype(np.float32)
    lack = 0.3 * rng.normal(size=(ROWS, COLUMNS)) if lacks else None
    fit = Fit.of(measured(1, distort, lack), measured(2, distort, lack))
    x = inputs(9)
    wanted = x @ w.T + (x @ lack.T if lack is not None else 0)
    missed = [np.square(x @ distort.T @ v.T - wanted).mean() for v in (w, fit.move(w))]
    assert missed[1] < 0.05 * missed[0]


def test_weights_stay_where_the_other_text_disagrees():
    rng = np.random.default_rng(4)
    change = 0.05 * rng.normal(size=(COLUMNS, COLUMNS))
    one, other = np.eye(COLUMNS) + change, np.eye(COLUMNS) - change
    w = rng.normal(size=(ROWS, COLUMNS)).astype(np.float32)
    assert np.array_equal(Fit.of(measured(1, one), measured(2, other)).move(w), w)


def test_silent_text():
    """No inputs, no wishes."""
    w = np.ones((ROWS, COLUMNS), np.float32)
    assert np.array_equal(Fit.of(Stray.of(COLUMNS, ROWS), Stray.of(COLUMNS, ROWS)).move(w), w)
