"""Error feedback: the factor, the cost it lowers, and bytes that depend on nothing else."""

from __future__ import annotations

import os

import numpy as np
import pytest
from numba.core import config

from kernels.reference import levels, row_scales
from kernels.rom.pack import unpack_codes
from weights.calibrate import MAX_TOKENS, Moments
from weights.ldlq import Curvature, _factor, quantise_calibrated
from weights.quantize import quantise


def correlated(columns: int, tokens: int, seed: int = 0) -> np.ndarray:
    """Inputs float64[tokens, columns] whose columns resemble each other."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(columns // 4, columns))
    noise = 0.3 * rng.normal(size=(tokens, columns))
    return rng.normal(size=(tokens, columns // 4)) @ mixing + noise


def weights(rows: int, columns: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)


def dequantised(matrix) -> np.ndarray:
    scale = row_scales(matrix)
    return levels(matrix) * np.ldexp(scale[:, :1].astype(np.float64), -scale[:, 1:])


def cost(w: np.ndarray, matrix, x: np.ndarray) -> float:
    """Squared error of the outputs for inputs x."""
    return float(np.square(x @ (w - dequantised(matrix)).T).sum())


@pytest.mark.parametrize("columns", [64, 160])
def test_factor(columns):
    h = np.cov(correlated(columns, 300).T) + 0.01 * np.eye(columns)
    u = _factor(h.copy())
    assert np.array_equal(u, np.triu(u))
    assert np.array_equal(np.diag(u), np.ones(columns))
    d = np.linalg.solve(u, np.linalg.solve(u, h).T)
    np.testing.assert_allclose(d, np.diag(np.diag(d)), atol=1e-9 * np.abs(h).max())


@pytest.mark.parametrize("bits", [3, 4, 6])
def test_each_level_lowers_the_outputs_error(bits):
    x, w = correlated(128, 400), weights(40, 128)
    curvature = Curvature.of(x.T @ x)
    plain = cost(w, quantise(w, bits), x)
    greedy = cost(w, quantise_calibrated(w, curvature, bits, 0), x)
    best = cost(w, quantise_calibrated(w, curvature, bits, 2), x)
    assert greedy < 0.6 * plain
    assert best < greedy


@pytest.mark.parametrize("bits", [3, 4, 6])
def test_without_correlation_it_is_plain_rounding(bits):
    w = weights(24, 96)
    a, b = quantise(w, bits), quantise_calibrated(w, Curvature.of(np.eye(96)), bits, 0)
    assert np.array_equal(a.codes, b.codes)
    assert np.array_equal(a.group_scale, b.group_scale)


def test_rows_of_zeros_and_inputs_that_never_came():
    w = weights(9, 64)
    w[3] = 0
    matrix = quantise_calibrated(w, Curvature.of(np.zeros((64, 64))), 3, 2)
    assert not dequantised(matrix)[3].any()
    assert np.isfinite(dequantised(matrix)).all()
    assert unpack_codes(matrix.codes, 9, 3).max() < 8


def test_threads_change_nothing(monkeypatch):
    x, w = correlated(288, 400), weights(33, 288)
    images = set()
    for threads in (1, 2, 5):
        monkeypatch.setattr(config, "NUMBA_NUM_THREADS", threads)
        matrix = quantise_calibrated(w, Curvature.of(x.T @ x), 3, 2)
        images.add((matrix.codes.tobytes(), matrix.group_scale.tobytes()))
    assert len(images) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills need fork")
def test_a_forked_process_can_quantise():
    """OpenMP would end it; `tests/support/kills.py` compiles in such processes."""
    x, w = correlated(96, 200), weights(33, 96)
    quantise_calibrated(w, Curvature.of(x.T @ x), 3, 2)
    child = os.fork()
    if child == 0:
        try:
            quantise_calibrated(w, Curvature.of(x.T @ x), 3, 2)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def tokens(count: int, columns: int = 48, loud: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """int8 inputs with scales over `loud` powers of two."""
    rng = np.random.default_rng(count)
    x = rng.integers(-127, 128, (count, columns)).astype(np.int8)
    exponent = 20 - rng.integers(0, loud + 1, count)
    mantissa = rng.integers(1 << 15, 1 << 16, count)
    return x, np.stack([mantissa, exponent], axis=1).astype(np.int32)


@pytest.mark.parametrize("loud", [0, 3, 12])
def test_moments_are_those_of_the_real_inputs(loud):
    x, scale = tokens(200, loud=loud)
    moments = Moments(48)
    moments.add(x, scale)
    real = x * np.ldexp(scale[:, :1].astype(np.float64), -scale[:, 1:])
    assert np.abs(moments.value - real.T @ real).max() <= 2e-3 * np.trace(real.T @ real) / 48


def test_moments_do_not_depend_on_the_order_of_sums():
    """What makes an image the same on every host: no product is ever rounded."""
    x, scale = tokens(512, loud=4)
    order = np.random.default_rng(5).permutation(512)
    a, b = Moments(48), Moments(48)
    a.add(x, scale)
    b.add(x[order], scale[order])
    assert np.array_equal(a.value, b.value)


def test_moments_refuse_what_could_round():
    x, scale = np.zeros((MAX_TOKENS + 1, 32), np.int8), np.ones((MAX_TOKENS + 1, 2), np.int32)
    with pytest.raises(ValueError, match="at most"):
        Moments(32).add(x, scale)
