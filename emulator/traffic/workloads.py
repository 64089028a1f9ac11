"""The public loads of workloads.toml: lengths and arrivals by distribution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emulator.errors import UsageError
from emulator.toml_file import read_toml
from emulator.traffic.randomness import Stream
from emulator.traffic.requests import Ints

WORKLOADS = Path(__file__).with_name("workloads.toml")
PERCENT = (*range(0, 100, 5), 99, 100)  # at which the quantiles of the file stand
INPUT, OUTPUT, ARRIVALS, THINK = range(4)  # streams of a seed


@dataclass(frozen=True, slots=True)
class Workload:
    """One load, as the file describes it."""

    name: str
    title: str
    grade: str
    source: str
    date: str
    requests: int
    arrivals: str  # recorded, poisson or gamma
    input_tokens: tuple[int, ...]  # quantiles, or one constant
    output_tokens: tuple[int, ...]
    seconds: float | None = None  # None where nobody recorded a rate
    gap_cv: float = 1.0  # standard deviation of the gaps over their mean
    requests_a_minute: tuple[int, ...] = ()
    minute_burstiness: float = 1.0  # shape of the gaps inside a minute
    busiest_second: int | None = None  # requests in it
    measured: tuple[Mapping[str, Any], ...] = ()  # what other machines made of these requests

    @property
    def rate(self) -> float | None:
        """Requests a second."""
        return self.requests / self.seconds if self.seconds else None

    def lengths(self, seed: int, count: int) -> tuple[Ints, Ints]:
        """int64[count] prompt and answer tokens, drawn independently of each other."""
        return (
            from_quantiles(self.input_tokens, Stream(seed, INPUT), count),
            from_quantiles(self.output_tokens, Stream(seed, OUTPUT), count),
        )


def from_quantiles(quantiles: tuple[int, ...], stream: Stream, count: int) -> Ints:
    """int64[count] draws from quantiles at PERCENT, linear between them."""
    if len(quantiles) == 1:
        return np.full(count, quantiles[0], np.int64)
    at = 100 * stream.uniform(count)
    percent, tokens = np.array(PERCENT, np.float64), np.array(quantiles, np.float64)
    piece = np.searchsorted(percent, at, side="right") - 1
    low, high = percent[piece], percent[piece + 1]
    drawn = tokens[piece] + (tokens[piece + 1] - tokens[piece]) * ((at - low) / (high - low))
    return np.rint(drawn).astype(np.int64)


def workloads() -> dict[str, Workload]:
    """All loads, in the order of the file."""
    found = {}
    for name, row in _file()["load"].items():
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
        found[name] = Workload(name, **fields)
    return found


def workload(name: str) -> Workload:
    """Raises UsageError with the known names."""
    known = workloads()
    if name not in known:
        raise UsageError(f"--load {name}: the known loads are {', '.join(known)}")
    return known[name]


def host_power_w() -> float:
    """What a server takes beside its cards."""
    return float(_file()["server"]["host_power"]["value"])


def _file() -> dict[str, Any]:
    return read_toml(WORKLOADS, UsageError)[0]
