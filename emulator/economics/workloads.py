"""The five workloads of the question which of them are stable enough to be hardwired.

Each is judged by three things: whether 99 % of its answers keep its limits on cards that are as
busy as machines are on average; what its tokens cost beside its peer's; how long a model must live.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from emulator.economics.compare import Offer, appliance, gpu, list_price
from emulator.economics.constants import Economics
from emulator.economics.demand import GPUS, Demand, gpu_seconds
from emulator.economics.draws import Known, at_values
from emulator.economics.payback import Payback, payback
from emulator.errors import UsageError
from emulator.traffic.limits import Limits
from emulator.traffic.metrics import percentile_ms
from emulator.traffic.randomness import Reals
from emulator.traffic.search import PERCENT, capacity
from emulator.traffic.server import simulate
from emulator.traffic.service_times import ServiceTimes
from emulator.traffic.source import load_of, open_load

REQUESTS = 3000  # of the simulation that judges the limits
SECONDS_A_DAY = 86400


@dataclass(frozen=True, slots=True)
class Workload:
    """One of the five, as the file describes it."""

    name: str
    title: str
    load: str
    peer: str
    grade: str
    source: str
    limits: str | None = None
    busy: float | None = None
    requests_a_day: float | None = None  # of one card with one user
    calls: tuple[int, int] | None = None  # of a session
    tool_ms: float = 0.0

    @property
    def cards(self) -> int:
        """In a server; one user has one."""
        return 10 if self.requests_a_day is None else 1

    @property
    def host(self) -> str:
        return "server" if self.requests_a_day is None else "edge"

    @property
    def rate(self) -> float | None:
        """Requests a second of one server, where it is not as much as it can."""
        return None if self.requests_a_day is None else self.requests_a_day / SECONDS_A_DAY


def named_workloads(economics: Economics) -> list[Workload]:
    """In the order of the file."""
    found = []
    for name, row in economics.workloads.items():
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
        try:
            found.append(Workload(name, **fields))
        except TypeError:
            raise UsageError(
                f"workload.{name}: must hold title, load, peer, grade, source"
            ) from None
    return found


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the model says of one workload under one hypothesis; arrays of the draws."""

    workload: Workload
    hypothesis: str
    rate: float  # requests a second of one server
    p99_ms: dict[str, float]  # of each limited metric, simulated
    meets: bool
    peer_ms: dict[str, float]  # the peer's, published or computed from that; p50 under load
    ours_per_million: Reals  # $ a million answer tokens, with their prompts
    peer_per_million: Reals
    paid: Payback

    @property
    def cheaper(self) -> float:
        """Share of the draws in which ours is not dearer."""
        return float((self.ours_per_million <= self.peer_per_million).mean())


def judge(
    workload: Workload, economics: Economics, times: ServiceTimes, known: Known, volume: float
) -> Verdict:
    """One workload under one hypothesis."""
    demand = Demand.of(load_of(workload.load), times.positions)
    ours, peer = offers(workload, economics, times, known, demand)
    middle = offers(workload, economics, times, at_values(economics), demand)[0]
    rate = workload.rate or float(middle.unit_rate[0])
    p99 = _latencies(workload, times, rate)
    limits = Limits.parse(workload.limits) if workload.limits else Limits({})
    if workload.rate is None:
        ours_cost = 1e6 * ours.cheapest_request / demand.tokens_out
        peer_cost = 1e6 * peer.cheapest_request / demand.tokens_out
    else:
        ours_cost, peer_cost = (o.per_million_out(rate, demand) for o in (ours, peer))
    return Verdict(
        workload,
        times.hypothesis,
        rate,
        p99,
        all(p99[name] <= most for name, most in limits.most_ms.items()),
        _peer_latencies(economics, demand),
        ours_cost,
        peer_cost,
        payback(
            ours, peer, known, volume, workload.cards, workload.host, workload.rate, workload.busy
        ),
    )


def offers(
    workload: Workload, economics: Economics, times: ServiceTimes, known: Known, demand: Demand
) -> tuple[Offer, Offer]:
    """Ours and the peer's."""
    ours = appliance(demand, times, known, workload.cards, workload.host, workload.busy)
    if workload.peer in GPUS:
        return ours, gpu(demand, economics, known, workload.peer, workload.busy)
    return ours, list_price(demand, economics, workload.peer)


def _latencies(workload: Workload, times: ServiceTimes, rate: float) -> dict[str, float]:
    """Simulated 99th percentiles, ms, of Poisson arrivals at that rate."""
    load = load_of(workload.load)
    at = open_load(load, 1, 1.0, "poisson", None, None, REQUESTS)
    # Never above what the chip of the tables can do: the economics may add a deployment's time.
    most = capacity(at.requests(), times, workload.cards)
    served = simulate(
        at.at_rate(min(rate, most * 0.98)).requests(), times, workload.cards, "one-queue"
    )
    return {name: percentile_ms(served, name, PERCENT) for name in ("ttft", "e2el")}


def _peer_latencies(economics: Economics, demand: Demand) -> dict[str, float]:
    """A loaded GPU's first token, and its whole answer."""
    ttft = economics.value("gpu_latency.ttft_loaded")
    step = economics.value("gpu_latency.tpot_loaded")
    return {"ttft": ttft, "e2el": ttft + step * (demand.tokens_out - 1)}


@dataclass(frozen=True, slots=True)
class SessionTime:
    """Seconds of a session of dependent calls with a tool after each."""

    calls: int
    cards: dict[str, float]  # by hypothesis, nobody waiting before it
    gpu_alone: float
    gpu_loaded: float
    tools: float  # of which


def session_times(
    workload: Workload, economics: Economics, times: dict[str, ServiceTimes]
) -> list[SessionTime]:
    """For each number of calls that the workload names; every prompt is read anew."""
    demand = Demand.of(load_of(workload.load), next(iter(times.values())).positions)
    known = at_values(economics)
    tool = workload.tool_ms / 1e3
    ours = {
        h: float((t.prefill_ns(demand.prompt) + t.decode_ns(demand.prompt, demand.output)).mean())
        / 1e9
        for h, t in times.items()
    }
    reading = float(gpu_seconds(demand, economics.throughput, "H200", known).prompt[0])
    steps = demand.tokens_out - 1
    alone = reading + 1e-3 * economics.value("gpu_latency.tpot_alone") * steps
    loaded = 1e-3 * _peer_latencies(economics, demand)["e2el"]
    return [
        SessionTime(n, {h: n * (s + tool) for h, s in ours.items()}, n * (alone + tool),
                    n * (loaded + tool), n * tool)
        for n in workload.calls or ()
    ]  # fmt: skip


def percentiles(values: Reals, percents: tuple[float, ...] = (5, 50, 95)) -> list[float]:
    """Of the draws, infinities among them: a value that was drawn, never one between two."""
    ordered = np.sort(np.asarray(values))
    return [float(ordered[round(p / 100 * (ordered.size - 1))]) for p in percents]
