"""A user's requests as work: card time under each hypothesis, and GPU time from published rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from emulator.economics.draws import Known
from emulator.errors import UsageError
from emulator.traffic.randomness import Reals
from emulator.traffic.requests import NS, Ints
from emulator.traffic.service_times import ServiceTimes
from emulator.traffic.workloads import Workload

SAMPLE = 4000  # requests whose mean stands for a load
GPUS = ("H100", "H200", "B200", "L40S")
BASE = "H200"  # the one that factors of others refer to


@dataclass(frozen=True, slots=True)
class Demand:
    """A sample of the requests that fit the chip."""

    name: str
    prompt: Ints
    output: Ints
    left_out: float  # share of all requests that is too long for the chip, and not compared

    @staticmethod
    def of(load: Workload, positions: int, seed: int = 0) -> Demand:
        """Raises UsageError when nothing fits."""
        prompt, output = load.lengths(seed, SAMPLE)
        fits = prompt + output <= positions
        if not fits.any():
            raise UsageError(f"--load {load.name}: nothing of it fits {positions:,} positions")
        return Demand(load.name, prompt[fits], output[fits], 1 - float(fits.mean()))

    @property
    def tokens_in(self) -> float:
        """Mean of a request."""
        return float(self.prompt.mean())

    @property
    def tokens_out(self) -> float:
        return float(self.output.mean())


class Seconds:
    """Machine time of a mean request, split into its prompt and its answer; arrays of the draws."""

    __slots__ = ("answer", "prompt")

    def __init__(self, prompt: Reals, answer: Reals) -> None:
        self.prompt, self.answer = prompt, answer

    @property
    def total(self) -> Reals:
        return self.prompt + self.answer


def card_seconds(demand: Demand, times: ServiceTimes, known: Known) -> Seconds:
    """The chip's own time, with what a deployment adds."""
    prompt = float(times.prefill_ns(demand.prompt).mean()) / NS
    answer = float(times.decode_ns(demand.prompt, demand.output).mean()) / NS
    added = known["chip.request_pipelined"] if times.hypothesis == "pipelined" else 0.0
    steps = demand.tokens_out - 1
    return Seconds(prompt + 1e-6 * added * np.ones_like(known["chip.decode_step"]),
                   answer + 1e-6 * known["chip.decode_step"] * steps)  # fmt: skip


def gpu_seconds(demand: Demand, throughput: Mapping[str, Any], gpu: str, known: Known) -> Seconds:
    """One GPU at saturation, batched: a fit of published rows by tokens in and out.

    A request takes a * in + b * out + c * (in + out / 2) * out: reading the prompt, making tokens,
    and reading the KV cache for each of them.
    """
    factor = 1.0
    rows = throughput[gpu]
    if not isinstance(rows, list):
        factor, rows = float(rows), throughput[BASE]
    a, b, c = fit(rows)
    prompt, output = demand.prompt.astype(np.float64), demand.output.astype(np.float64)
    spread = known["throughput.spread"] * factor
    reading = float((a * prompt).mean())
    making = float((b * output + c * (prompt + output / 2) * output).mean())
    return Seconds(reading / spread, making / spread)


def fit(rows: list[list[float]]) -> tuple[float, float, float]:
    """Least squares of the relative error; what comes out below 0 is left out and fitted again."""
    into, out, rate = np.array(rows, np.float64).T
    seconds = out / rate
    terms = np.stack([into, out, (into + out / 2) * out]) / seconds
    kept = [0, 1, 2]
    while True:
        found, *_ = np.linalg.lstsq(terms[kept].T, np.ones(into.size), rcond=None)
        if (found >= 0).all():
            break
        kept.remove(kept[int(np.argmin(found))])
    whole = dict(zip(kept, found.tolist(), strict=True))
    return whole.get(0, 0.0), whole.get(1, 0.0), whole.get(2, 0.0)
