"""KL, shares of best tokens and bins, against sums written out."""

from __future__ import annotations

import numpy as np
import pytest

from emulator.quality.evaluate import Distance, WindowDistance, best, bins, log_softmax


def two_models(positions: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (positions, 40))
    return log_softmax(logits), log_softmax(logits + rng.normal(0, 0.5, logits.shape))


def test_distance():
    """More positions than are compared at a time."""
    log_p, log_q = two_models(150)
    distance = Distance()
    distance.add(log_p, log_q)
    kl = [sum(np.exp(p) * (p - q)) for p, q in zip(log_p, log_q, strict=True)]
    five = [
        len({*np.argsort(p)[-5:].tolist()} & {*np.argsort(q)[-5:].tolist()}) / 5
        for p, q in zip(log_p, log_q, strict=True)
    ]
    report = distance.report()
    assert report["kl_mean"] == pytest.approx(np.mean(kl))
    assert report["kl_p99"] == pytest.approx(np.quantile(kl, 0.99))
    assert report["top5_agreement"] == pytest.approx(np.mean(five))
    assert 0.3 < report["top1_agreement"] < 1


def test_best_are_ordered_and_ties_go_to_the_lower_id():
    assert best(np.array([[1.0, 3.0, 2.0, 3.0, 0.0, 2.0]]), 4).tolist() == [[1, 3, 2, 5]]
    assert best(np.zeros((1, 3)), 5).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("window", [2, 5, 33, 512])
def test_bins_cover_what_predicts(window: int):
    runs = bins(window)
    assert [p for start, end in runs for p in range(start, end)] == list(range(window - 1))
    lengths = [end - start for start, end in runs]
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("window", [3, 9, 40])
def test_windows(window: int):
    """The figures are of second halves, KL by position of all; two windows of different models."""
    distance, pairs = WindowDistance(window), [two_models(window - 1, seed) for seed in (1, 2)]
    for log_p, log_q in pairs:
        distance.add(log_p, log_q)
    kl = np.mean([(np.exp(p) * (p - q)).sum(-1) for p, q in pairs], axis=0)
    report = distance.report()
    expected = [kl[start:end].mean() for start, end in bins(window)]
    assert report["kl_by_position"] == pytest.approx(expected)
    assert report["kl_mean"] == pytest.approx(kl[window // 2 :].mean())
