"""Random numbers: known bits, and the moments that they must have."""

from __future__ import annotations

import math

import numpy as np
import pytest

from emulator.traffic.arrivals import arrivals
from emulator.traffic.randomness import Stream, exp, log
from emulator.traffic.workloads import PERCENT, from_quantiles, workload, workloads


def test_the_bits_are_these_everywhere():
    """Philox of key (7, 3), then a logarithm without a library: no host may differ."""
    drawn = Stream(7, 3)
    assert [x.hex() for x in drawn.uniform(2)] == UNIFORM
    assert [x.hex() for x in drawn.exponential(2)] == EXPONENTIAL
    assert [x.hex() for x in drawn.gamma(0.5, 2)] == GAMMA


UNIFORM = ["0x1.edb31ec618b30p-2", "0x1.72c1e5d4967f1p-1"]
EXPONENTIAL = ["0x1.a662b5943184dp-5", "0x1.851a3a5fb9943p-2"]
GAMMA = ["0x1.8ab7cbc5cbe61p-5", "0x1.c1cf3f8ae950fp-6"]


def test_logarithm_and_exponential():
    x = Stream(1, 0).uniform(10_000) * 50 + 1e-9
    assert np.abs(log(x) - np.log(x)).max() < 2e-15
    assert np.abs(exp(-x) / np.exp(-x) - 1).max() < 1e-14
    assert exp(np.array([-1e9]))[0] == 0


@pytest.mark.parametrize("shape", [0.05, 0.5, 1.0, 3.7])
def test_gamma_has_its_mean_and_variance(shape):
    drawn = Stream(11, 1).gamma(shape, 400_000)
    assert drawn.mean() == pytest.approx(shape, rel=0.02)
    assert drawn.var() == pytest.approx(shape, rel=0.05)


def test_normal_has_its_moments():
    drawn = Stream(4, 0).normal(200_000)
    assert abs(drawn.mean()) < 0.01
    assert drawn.var() == pytest.approx(1, rel=0.01)
    assert (drawn**4).mean() == pytest.approx(3, rel=0.03)


def test_streams_differ():
    first = Stream(1, 0).uniform(8).tolist()
    assert first != Stream(1, 1).uniform(8).tolist()
    assert first != Stream(2, 0).uniform(8).tolist()


@pytest.mark.parametrize(
    "name", ["azure-conv", "azure-code", "mooncake-conversation", "sharegpt-300"]
)
def test_lengths_have_the_loads_quantiles(name):
    load = workload(name)
    drawn, _ = load.lengths(3, 200_000)
    for percent, tokens in list(zip(PERCENT, load.input_tokens, strict=True))[2:-2]:
        share = (drawn <= tokens).mean() * 100
        assert share == pytest.approx(percent, abs=0.7)
    assert drawn.min() >= load.input_tokens[0]
    assert drawn.max() <= load.input_tokens[-1]


def test_a_constant_length():
    assert set(from_quantiles((778,), Stream(0, 0), 5)) == {778}


# Means that were computed from the whole traces: what piecewise-linear quantiles lose is the tail.
MEANS = {"azure-conv": (1155, 211), "azure-code": (2048, 27.9), "sharegpt-300": (858, 653),
         "mooncake-conversation": (12035, 343)}  # fmt: skip


@pytest.mark.parametrize("name", MEANS)
def test_lengths_have_the_traces_means(name):
    prompt, output = workload(name).lengths(1, 200_000)
    assert prompt.mean() == pytest.approx(MEANS[name][0], rel=0.04)
    tail = 0.3 if name == "azure-code" else 0.02
    assert output.mean() == pytest.approx(MEANS[name][1], rel=tail)


@pytest.mark.parametrize("name", ["azure-conv", "azure-code"])
def test_recorded_arrivals_have_the_recorded_minutes(name):
    load = workload(name)
    at = arrivals("recorded", load.rate, load.requests, 0, 1.0, load)
    minutes = np.bincount(at // 60_000_000_000)
    assert minutes.tolist() == list(load.requests_a_minute)
    assert (np.diff(at) >= 0).all()


def test_recorded_bursts():
    """The busiest second of azure-code held 67 requests; azure-conv's gaps have a CV of 1.09."""
    code, conv = workload("azure-code"), workload("azure-conv")
    busiest = [
        np.bincount(arrivals("recorded", code.rate, code.requests, seed, 1.0, code) // 10**9).max()
        for seed in range(10)
    ]
    assert np.mean(busiest) == pytest.approx(code.busiest_second, rel=0.15)
    gaps = np.diff(arrivals("recorded", conv.rate, conv.requests, 0, 1.0, conv))
    assert gaps.std() / gaps.mean() == pytest.approx(conv.gap_cv, rel=0.05)


def test_recorded_arrivals_go_on_and_stretch():
    load = workload("azure-conv")
    twice = arrivals("recorded", 2 * load.rate, 3 * load.requests, 0, 1.0, load)
    assert twice[-1] / 1e9 == pytest.approx(1.5 * load.seconds, rel=0.01)


@pytest.mark.parametrize("process", ["constant", "poisson", "gamma"])
def test_arrivals_have_their_rate(process):
    at = arrivals(process, 8.0, 40_000, 1, 0.5, None)
    assert 40_000 / (at[-1] / 1e9) == pytest.approx(8.0, rel=0.03)
    gaps = np.diff(at)
    wanted = {"constant": 0, "poisson": 1, "gamma": math.sqrt(2)}[process]
    assert gaps.std() / gaps.mean() == pytest.approx(wanted, abs=0.05)


def test_every_load_says_where_it_is_from():
    for load in workloads().values():
        assert load.source
        assert load.date
        assert load.grade in ("read", "computed", "second-hand", "assumed")
        sizes = {len(load.input_tokens), len(load.output_tokens)}
        assert sizes <= {1, len(PERCENT)}
        assert list(load.input_tokens) == sorted(load.input_tokens)
        assert list(load.output_tokens) == sorted(load.output_tokens)
