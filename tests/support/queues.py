"""Closed forms of queues, in units of the mean service time, and a chip with times to order."""

from __future__ import annotations

import math

import numpy as np

from emulator.traffic.requests import independent
from emulator.traffic.server import Served, simulate

SERVICE_NS = 1_000_000


class GivenTimes:
    """A card on which a request takes as many ns as its prompt has tokens."""

    positions = 1 << 62
    hypothesis = "given"

    def prefill_ns(self, prompt, cached=0):
        return prompt

    def decode_ns(self, prompt, output):
        return np.zeros_like(prompt)


def serve(gaps, services, cards: int, load: float, policy: str = "one-queue") -> Served:
    """Gaps and services of any mean, scaled so that the cards are busy for `load` of the time.

    The scale is the sample's own, which takes the error of the sample's load out of the mean wait.
    """
    gaps = np.rint(gaps / gaps.mean() * (SERVICE_NS / cards / load)).astype(np.int64)
    services = np.rint(services / services.mean() * SERVICE_NS).astype(np.int64)
    requests = independent(np.cumsum(gaps), services, np.zeros(gaps.size, np.int64))
    return simulate(requests, GivenTimes(), cards, policy)


def mean_wait(served: Served) -> float:
    return float((served.start_ns - served.arrival_ns).mean()) / SERVICE_NS


def m_d_c(cards: int, load: float) -> float:
    """Crommelin 1934: Poisson arrivals, constant service."""
    offered, wait = cards * load, 0.0
    for k in range(1, 4000):
        mean, least = k * offered, k * cards
        term = math.exp(-mean + least * math.log(mean) - math.lgamma(least + 1))
        first, tail, n = term, 0.0, least
        while term > 1e-18 or n < mean:
            tail += term
            n += 1
            term *= mean / n
        part = tail - (tail - first) / load
        wait += part
        if part < 1e-13:
            break
    return wait


def m_m_c(cards: int, load: float) -> float:
    """Erlang 1917: Poisson arrivals, exponential service."""
    offered = cards * load
    others = sum(offered**k / math.factorial(k) for k in range(cards))
    all_busy = offered**cards / math.factorial(cards) / (1 - load)
    return all_busy / (others + all_busy) / (cards * (1 - load))


def kingman(load: float, gap_cv: float, service_cv: float) -> float:
    """Kingman 1962: an upper bound for one card, near the truth as the load nears 1.

    The variances are of gaps in units of the mean service, so gaps have a mean of 1 / load.
    """
    variance = (gap_cv / load) ** 2 + service_cv**2
    return load * variance / (2 * (1 - load))
