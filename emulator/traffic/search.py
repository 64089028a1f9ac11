"""The highest rate, or the fewest cards, that keeps the limits at a percentile."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from emulator.errors import UsageError
from emulator.traffic.limits import Limits
from emulator.traffic.metrics import percentile_ms
from emulator.traffic.requests import NS, Requests
from emulator.traffic.server import Served, simulate
from emulator.traffic.service_times import ServiceTimes
from emulator.traffic.source import OpenLoad, Trace
from emulator.workers.pool import in_order

PERCENT = 99  # of the requests must keep the limits, as in MLPerf
HALVINGS = 14  # of the rate: to 0.01 % of the capacity
MOST_CARDS = 100_000
LOADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)  # of the capacity


@dataclass(frozen=True, slots=True)
class Found:
    """The best that meets the limits; None where nothing does."""

    best: float | None  # requests a second, or cards
    served: Served  # at the best; else where the limits were nearest
    at_ms: dict[str, float]  # each limited metric at the percentile, there


@dataclass(frozen=True, slots=True)
class Point:
    """One load of the curve."""

    load: float  # share of the capacity that is asked for
    rate: float  # requests a second
    p50_ms: float  # time to first token
    p95_ms: float
    p99_ms: float
    e2e_p99_ms: float


def capacity(requests: Requests, times: ServiceTimes, cards: int) -> float:
    """Requests a second, of those that come, at which the cards are never idle."""
    fits = requests.fits(times.positions)
    if not fits.any():
        raise UsageError(f"no request fits the chip's {times.positions:,} positions")
    prompt, output = requests.prompt[fits], requests.output[fits]
    service_ns = int((times.prefill_ns(prompt) + times.decode_ns(prompt, output)).sum())
    return cards * len(requests) * NS / service_ns


def highest_rate(
    source: OpenLoad | Trace, times: ServiceTimes, cards: int, policy: str, limits: Limits
) -> Found:
    """By halving between nothing and the capacity; the same requests at every rate.

    Above its capacity a server falls behind for as long as the requests come, so nothing is
    looked for there, even where the requests are too few to show it.
    """
    low, high = 0.0, capacity(source.requests(), times, cards)
    best: Found | None = None
    nearest = _try(source, high / (1 << HALVINGS), times, cards, policy, limits)
    if _meets(nearest.at_ms, limits):
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            found = _try(source, middle, times, cards, policy, limits)
            if _meets(found.at_ms, limits):
                low, best = middle, found
            else:
                high = middle
    return best or nearest


def fewest_cards(
    source: OpenLoad | Trace, times: ServiceTimes, policy: str, limits: Limits
) -> Found:
    """By doubling, then halving. Nothing is found where even a free card is too slow."""
    requests = source.requests()
    capacity(requests, times, 1)  # something fits

    def at(cards: int) -> Found:
        served = simulate(requests, times, cards, policy)
        at_ms = _at(served, limits)
        return Found(cards if _meets(at_ms, limits) else None, served, at_ms)

    idle = at(min(len(requests), MOST_CARDS))
    if idle.best is None:
        return idle
    low, found = 0, at(1)
    cards = 1
    while found.best is None:
        low, cards = cards, 2 * cards
        found = at(cards)
    while cards - low > 1:
        middle = (low + cards) // 2
        candidate = at(middle)
        if candidate.best is None:
            low = middle
        else:
            cards, found = middle, candidate
    return found


def curve(
    source: OpenLoad | Trace,
    times: ServiceTimes,
    cards: int,
    policy: str,
    workers: Executor | None = None,
) -> list[Point]:
    """Percentiles over load, up to saturation."""
    most = capacity(source.requests(), times, cards)
    return list(
        in_order(workers, point_at, ((source, times, cards, policy, x, x * most) for x in LOADS))
    )


def point_at(
    source: OpenLoad | Trace, times: ServiceTimes, cards: int, policy: str, load: float, rate: float
) -> Point:
    """Percentiles at one load."""
    served = simulate(source.at_rate(rate).requests(), times, cards, policy)
    done = served.done
    ttft = (served.first_ns - served.arrival_ns)[done] / 1e6
    whole = (served.last_ns - served.arrival_ns)[done] / 1e6
    p50, p95, p99 = map(float, np.percentile(ttft, (50, 95, 99)))
    return Point(load, rate, p50, p95, p99, float(np.percentile(whole, 99)))


def _try(
    source: OpenLoad | Trace,
    rate: float,
    times: ServiceTimes,
    cards: int,
    policy: str,
    limits: Limits,
) -> Found:
    served = simulate(source.at_rate(rate).requests(), times, cards, policy)
    at_ms = _at(served, limits)
    return Found(rate if _meets(at_ms, limits) else None, served, at_ms)


def _at(served: Served, limits: Limits) -> dict[str, float]:
    return {name: percentile_ms(served, name, PERCENT) for name in limits.most_ms}


def _meets(at_ms: dict[str, float], limits: Limits) -> bool:
    return all(at_ms[name] <= most for name, most in limits.most_ms.items())
