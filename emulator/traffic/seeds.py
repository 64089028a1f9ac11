"""How far the figures of one load move from seed to seed."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import replace

import numpy as np

from emulator.traffic.limits import Limits
from emulator.traffic.metrics import report
from emulator.traffic.server import simulate
from emulator.traffic.service_times import ServiceTimes
from emulator.traffic.source import ClosedLoop, OpenLoad
from emulator.workers.pool import in_order

FIGURES = ("utilisation", "duration", "output_throughput", "mean_ttft_ms", "p50_ttft_ms",
           "p99_ttft_ms", "mean_e2el_ms", "p99_e2el_ms")  # fmt: skip
PERCENT = (5, 50, 95)


def spread(
    source: OpenLoad | ClosedLoop,
    times: ServiceTimes,
    cards: int,
    policy: str,
    limits: Limits | None,
    seeds: int,
    workers: Executor | None = None,
) -> dict[str, list[float]]:
    """5, 50 and 95 % of each figure over `seeds` seeds, from the source's own on.

    Seeds under which nothing was answered are left out; without any other, there are no figures.
    """
    each = (
        (replace(source, seed=seed), times, cards, policy, limits)
        for seed in range(source.seed, source.seed + seeds)
    )
    rows = [row for row in in_order(workers, figures, each) if row]
    if not rows:
        return {}
    columns = np.percentile(np.array(rows), PERCENT, axis=0).T.tolist()
    return dict(zip(FIGURES, columns, strict=True))


def figures(
    source: OpenLoad | ClosedLoop,
    times: ServiceTimes,
    cards: int,
    policy: str,
    limits: Limits | None,
) -> list[float]:
    """FIGURES under one seed; none if nothing was answered."""
    found = report(simulate(source.requests(), times, cards, policy), limits)
    return [float(found[name]) for name in FIGURES] if found["completed"] else []
