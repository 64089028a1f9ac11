"""Where the requests of a plan come from: a public load, lengths of one's own, or a trace."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from emulator.errors import UsageError
from emulator.traffic.arrivals import arrivals, think_times
from emulator.traffic.requests import LATER, NS, Requests, closed_loop, independent
from emulator.traffic.traces import read_trace
from emulator.traffic.workloads import Workload, workload

MOST_REQUESTS = 20_000_000
MOST_SECONDS = 1e9  # of a simulation, so that its nanoseconds fit 64 bits with room to spare
OWN_REQUESTS = 10_000  # where a load of one's own says nothing


@dataclass(frozen=True, slots=True)
class OpenLoad:
    """Requests that come whatever the server does."""

    load: Workload
    process: str
    burstiness: float
    rate: float  # requests a second
    count: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.load.name}, {self.process} arrivals"

    @property
    def as_recorded(self) -> bool:
        """As many requests as were recorded, at the same rate."""
        return self.rate == self.load.rate and self.count == self.load.requests

    def requests(self) -> Requests:
        prompt, output = self.load.lengths(self.seed, self.count)
        at = arrivals(self.process, self.rate, self.count, self.seed, self.burstiness, self.load)
        return independent(at, prompt, output)

    def at_rate(self, rate: float) -> OpenLoad:
        """The same requests, closer together or further apart."""
        return replace(self, rate=rate)


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """Users who ask, read the answer, think and ask again."""

    load: Workload
    users: int
    think_s: float
    count: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.load.name}, {self.users:,} users who think {self.think_s:g} s on average"

    def requests(self) -> Requests:
        prompt, output = self.load.lengths(self.seed, self.count)
        think = think_times(self.think_s, self.count, self.seed)
        return closed_loop(self.users, think, prompt, output)


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests that were recorded."""

    path: Path
    format: str
    recorded: Requests
    speed: float

    @property
    def name(self) -> str:
        times = "" if self.speed == 1 else f", {self.speed:g} times as fast"
        return f"{self.path.name} ({self.format}){times}"

    @property
    def rate(self) -> float:
        """First calls of a session, or requests, a second."""
        known = self.recorded.arrival_ns[self.recorded.arrival_ns != LATER]
        return float(known.size / max(int(known.max()) / NS, 1e-9) * self.speed)

    def requests(self) -> Requests:
        return self.recorded.faster(self.speed)

    def at_rate(self, rate: float) -> Trace:
        return replace(self, speed=self.speed * rate / self.rate)


Source = OpenLoad | ClosedLoop | Trace


def load_of(text: str) -> Workload:
    """A public load by its name, or "1000/200": so many tokens in and out in each request."""
    into, slash, out = text.partition("/")
    if not slash:
        return workload(text)
    if not (into.isdecimal() and out.isdecimal() and 0 < int(into) < 1 << 31 > int(out) > 0):
        raise UsageError(f"--load {text}: write tokens in and out as 1000/200, or a load's name")
    lengths = (int(into),), (int(out),)
    return Workload(text, f"{into} tokens in, {out} out", "assumed", "--load", "", OWN_REQUESTS,
                    "poisson", *lengths)  # fmt: skip


def open_load(
    load: Workload,
    seed: int,
    rate: float | None,
    process: str | None,
    burstiness: float | None,
    duration_s: float | None,
    count: int | None,
) -> OpenLoad:
    """What is not given is as the load was recorded. Raises UsageError for an impossible value."""
    rate = load.rate if rate is None else rate
    if rate is None:
        raise UsageError(f"--load {load.name} has no rate of its own: give --rate, in requests/s")
    _positive("--rate", rate, 1e9)
    if burstiness is not None:
        _positive("--burstiness", burstiness, 1e6)
        if process not in (None, "gamma"):
            raise UsageError(f"--burstiness shapes gamma arrivals, not {process}")
    process = process or ("gamma" if burstiness is not None else load.arrivals)
    if duration_s is not None:
        _positive("--duration", duration_s, 1e9)
        count = max(math.ceil(rate * duration_s), 1) if count is None else count
    count = _count(load.requests if count is None else count)
    _not_too_long("--rate", count / rate)
    shape = burstiness if burstiness is not None else 1 / (load.gap_cv * load.gap_cv)
    return OpenLoad(load, process, shape, rate, count, seed)


def closed_load(
    load: Workload, seed: int, users: int, think_s: float, count: int | None
) -> ClosedLoop:
    """Raises UsageError for an impossible value."""
    if not 1 <= users <= 1_000_000:
        raise UsageError(f"--users must be 1 to 1,000,000, not {users}")
    if not 0 <= think_s <= 1e6:
        raise UsageError(f"--think must be 0 to 1,000,000 s, not {think_s:g}")
    wanted = _count(max(load.requests, 20 * users) if count is None else count)
    _not_too_long("--think", think_s * (wanted / users + 1))
    return ClosedLoop(load, users, think_s, wanted, seed)


def trace(path: Path, speed: float, limit: int) -> Trace:
    """Raises UsageError for an impossible value or a trace that its format does not allow."""
    _positive("--speed", speed, 1e9)
    recorded, name = read_trace(path, _count(limit))
    if speed < 1:
        _not_too_long("--speed", int(recorded.arrival_ns.max()) / NS / speed)
    return Trace(path, name, recorded, speed)


def _count(count: int) -> int:
    if not 1 <= count <= MOST_REQUESTS:
        raise UsageError(f"{count} requests: must be 1 to {MOST_REQUESTS:,}")
    return count


def _not_too_long(option: str, seconds: float) -> None:
    if seconds > MOST_SECONDS:
        raise UsageError(f"{option} makes the requests last {seconds:.3g} s; the most is 1e9 s")


def _positive(option: str, value: float, most: float) -> None:
    if not 0 < value <= most:
        raise UsageError(f"{option} must be above 0 and at most {most:,.0f}, not {value:g}")
