"""MLPerf Inference's llama3.1-8b by LoadGen's rules, beside the official rows of v5.1.

Offline gives all samples at once. Server and Interactive send them in a Poisson stream and look
for the highest rate at which 99 % keep both limits. Ours is a simulation, and no submission.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emulator.errors import UsageError
from emulator.toml_file import read_toml
from emulator.traffic.limits import Limits
from emulator.traffic.requests import NS, independent
from emulator.traffic.search import highest_rate
from emulator.traffic.server import simulate
from emulator.traffic.service_times import ServiceTimes
from emulator.traffic.source import OpenLoad
from emulator.traffic.workloads import workload

ROWS = Path(__file__).with_name("mlperf.toml")
LOAD = "mlperf-8b"
STREAM = 60_000  # requests of a trial; LoadGen asks for 600 s of them


@dataclass(frozen=True, slots=True)
class Entry:
    """An official row: output tokens a second of the whole system."""

    system: str
    entry: str
    devices: int
    offline: float
    server: float
    server_ttft_p99_ms: float
    server_tpot_p99_ms: float
    interactive: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """Ours for one hypothesis: output tokens a second of all cards; None where no rate will do."""

    hypothesis: str
    cards: int
    offline: float
    server: float | None
    interactive: float | None
    server_ttft_p99_ms: float
    server_tpot_p99_ms: float


def official() -> list[Entry]:
    """In the order of the file."""
    return [Entry(**row) for row in _file()["entry"]]


def run(times: ServiceTimes, cards: int, policy: str, seed: int) -> Result:
    """All three scenarios."""
    load = workload(LOAD)
    prompt, output = load.lengths(seed, load.requests)
    at_once = independent(np.zeros(load.requests, np.int64), prompt, output)
    offline = int(output.sum()) * NS / simulate(at_once, times, cards, policy).end_ns
    rates: dict[str, float | None] = {}
    p99: dict[str, float] = {}
    for name, limit in _file()["scenario"].items():
        limits = Limits({"ttft": limit["ttft_ms"], "tpot": limit["tpot_ms"]})
        stream = OpenLoad(load, "poisson", 1.0, 1.0, STREAM, seed)
        found = highest_rate(stream, times, cards, policy, limits)
        tokens = float(found.served.requests.output.mean())
        rates[name] = None if found.best is None else found.best * tokens
        if name == "Server":
            p99 = found.at_ms
    return Result(times.hypothesis, cards, offline, rates["Server"], rates["Interactive"],
                  p99["ttft"], p99["tpot"])  # fmt: skip


def _file() -> dict[str, Any]:
    return read_toml(ROWS, UsageError)[0]
