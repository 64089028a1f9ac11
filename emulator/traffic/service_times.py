"""How long a card works on a request: the time model as tables by position, asked in O(1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emulator.chip import Stage
from emulator.errors import UsageError
from emulator.silicon.spec import ChipSpec
from emulator.timing.schedule import runs_alike, stage_cycles
from emulator.traffic.randomness import Reals
from emulator.traffic.requests import NS, Ints


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """Times of one card under one prefill hypothesis, in one deployment.

    The columns are int64[positions + 1], by the number of positions attended to; `_sum` columns
    hold the sum of all entries up to and including their own.
    """

    hypothesis: str  # "serial" or "pipelined"
    deployment: str
    clock_hz: float
    positions: int
    layers: int
    token: Ints  # cycles of a token through embedding and layers
    token_sum: Ints
    head: Ints  # cycles of head and top-k
    layer: Ints  # cycles of the slowest layer, which sets the pace of a pipelined prefill
    layer_sum: Ints
    step_sum: Ints  # of token and head together
    request_ns: float  # what the deployment adds to a request
    step_ns: float  # and to a decode step

    def prefill_ns(self, prompt: Ints, cached: Ints | int = 0) -> Ints:
        """From the start of the prompt to its first answer token, of which `cached` are known."""
        if self.hypothesis == "serial":
            cycles = self.token_sum[prompt] - self.token_sum[cached]
        else:
            # A token waits only for the one before it in the same layer, and no token is faster
            # than an earlier one: all pass one layer, then the last passes the others.
            first = self.token[prompt] - self.layers * self.layer[prompt]
            paced = self.layer_sum[prompt] - self.layer_sum[cached]
            cycles = first + paced + (self.layers - 1) * self.layer[prompt]
        return self._ns(cycles + self.head[prompt], self.request_ns)

    def decode_ns(self, prompt: Ints, output: Ints) -> Ints:
        """From the first answer token to the last: output - 1 steps."""
        cycles = self.step_sum[prompt + output - 1] - self.step_sum[prompt]
        return self._ns(cycles, np.multiply(output - 1, self.step_ns))

    def step_times_ns(self) -> Reals:
        """float64[positions + 1]: the decode step that attends to so many positions."""
        return np.asarray((self.token + self.head) * (NS / self.clock_hz) + self.step_ns)

    def _ns(self, cycles: Ints, added: Reals | float) -> Ints:
        return np.asarray(np.rint(cycles * (NS / self.clock_hz) + added), np.int64)


def service_times(
    stages: list[Stage],
    spec: ChipSpec,
    hypotheses: tuple[str, ...],
    deployment: str | None = None,
    positions: int | None = None,
) -> dict[str, ServiceTimes]:
    """Tables for each hypothesis; the oldest deployment, the vendor's laboratory, unless named.

    They reach to `positions`, the chip's own unless given.

    The pipelined pace is exact where all layers have the same code widths; elsewhere every layer
    is taken to be as slow as the slowest. Raises UsageError for an unknown deployment.
    """
    name = deployment or next(iter(spec.deployment))
    if name not in spec.deployment:
        raise UsageError(f"--deployment {name}: the chip has {', '.join(spec.deployment)}")
    costs = spec.deployment[name]
    positions = positions or int(spec.kv_sram.positions)
    rows = [(1, (0, 0, 0))]  # nothing attends to no position
    for alike, cycles in runs_alike(lambda c: _parts(stages, spec, c), 1, positions):
        rows.append((alike, cycles))
    counts = np.array([alike for alike, _ in rows])
    token, head, layer = np.repeat(np.array([c for _, c in rows], np.int64), counts, axis=0).T
    layers = sum(stage.layer is not None for stage in stages)
    added = {"serial": costs.request_serial, "pipelined": costs.request_pipelined}
    return {
        hypothesis: ServiceTimes(
            hypothesis, name, spec.clock_hz, positions, layers, token, np.cumsum(token), head,
            layer, np.cumsum(layer), np.cumsum(token + head),
            1e3 * added[hypothesis].value, 1e3 * costs.decode_step.value,
        )
        for hypothesis in hypotheses
    }  # fmt: skip


def _parts(stages: list[Stage], spec: ChipSpec, context: int) -> tuple[int, int, int]:
    """Cycles of embedding and layers, of the head, and of the slowest layer."""
    cycles = stage_cycles(stages, spec, context)
    head = cycles.pop("head")
    slowest = max(cycles[stage.name] for stage in stages if stage.layer is not None)
    return sum(cycles.values()), head, slowest
