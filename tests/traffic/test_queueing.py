"""The simulator against closed forms: the mean wait within 1 %."""

from __future__ import annotations

import numpy as np
import pytest

from emulator.traffic.randomness import Stream
from emulator.traffic.server import POLICIES
from tests.support.queues import kingman, m_d_c, m_m_c, mean_wait, serve

COUNT = 1_000_000


def waits(cards: int, load: float, random_service: bool, seeds: range) -> float:
    """Mean over the seeds; with random service also with gaps and services exchanged, whose
    error has the other sign."""
    found = []
    for seed in seeds:
        stream = Stream(seed, 0)
        gaps, services = stream.exponential(COUNT), stream.exponential(COUNT)
        if random_service:
            found.append(mean_wait(serve(gaps, services, cards, load)))
            found.append(mean_wait(serve(services, gaps, cards, load)))
        else:
            found.append(mean_wait(serve(gaps, np.ones(COUNT), cards, load)))
    return float(np.mean(found))


def test_the_closed_forms_agree_where_they_meet():
    assert m_d_c(1, 0.6) == pytest.approx(0.6 / (2 * 0.4))
    assert m_m_c(1, 0.6) == pytest.approx(0.6 / 0.4)
    assert kingman(0.6, 1.0, 0.0) > m_d_c(1, 0.6)


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_constant_service(load):
    """M/D/1."""
    assert waits(1, load, False, range(1)) == pytest.approx(m_d_c(1, load), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("cards", [1, 2])
@pytest.mark.parametrize("load", [0.3, 0.6, 0.9])
def test_constant_service_of_several_cards(cards, load):
    """M/D/c, Crommelin. Four million requests: at 0.9 a million have an error of 1 %."""
    assert waits(cards, load, False, range(4)) == pytest.approx(m_d_c(cards, load), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("cards", [1, 2])
@pytest.mark.parametrize("load", [0.3, 0.6, 0.9])
def test_random_service_of_several_cards(cards, load):
    """M/M/c."""
    assert waits(cards, load, True, range(4)) == pytest.approx(m_m_c(cards, load), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("load", [0.6, 0.9])
def test_ten_cards(load):
    assert waits(10, load, False, range(4)) == pytest.approx(m_d_c(10, load), rel=0.01)


@pytest.mark.parametrize("burstiness", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("load", [0.3, 0.6, 0.9])
def test_bursts_stay_below_kingmans_bound(load, burstiness):
    """G/D/1: never above, and near it where load and variance are high and the bound is tight."""
    gaps = Stream(5, 0).gamma(burstiness, 200_000)
    wait = mean_wait(serve(gaps, np.ones(gaps.size), 1, load))
    bound = kingman(load, float(gaps.std() / gaps.mean()), 0.0)
    assert wait < bound
    if load == 0.9 and burstiness <= 1:
        assert wait > 0.75 * bound


def test_knowing_all_lengths_is_worth_one_queue():
    """Least work and one queue give every request the same start."""
    stream = Stream(2, 0)
    gaps, services = stream.exponential(5000), stream.exponential(5000)
    one, least = (serve(gaps, services, 4, 0.9, p) for p in ("one-queue", "least-work"))
    assert np.array_equal(one.start_ns, least.start_ns)


def test_round_robin_waits_longer():
    gaps, services = (Stream(2, n).exponential(20_000) for n in range(2))
    waits_of = [mean_wait(serve(gaps, services, 4, 0.8, p)) for p in ("one-queue", "round-robin")]
    assert waits_of[1] > 2 * waits_of[0]


@pytest.mark.parametrize("policy", POLICIES)
def test_no_card_does_two_things_and_none_idles_for_nothing(policy):
    gaps, services = (Stream(3, n).exponential(3000) for n in range(2))
    served = serve(gaps, services, 3, 0.9, policy)
    for card in range(3):
        mine = served.card == card
        start, last = served.start_ns[mine], served.last_ns[mine]
        assert (start[1:] >= last[:-1]).all()
    assert (served.start_ns >= served.arrival_ns).all()
    assert sum(served.busy_ns) == int((served.last_ns - served.start_ns).sum())
