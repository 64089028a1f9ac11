"""When a chip would have given each token of an answer, some times slower, so that one can watch.

The times are those that `plan` reckons with: prefill by one of the two hypotheses, the cycles of
each decode step, those of an adapter among them, and what a deployment adds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from emulator.chip import Stage
from emulator.traffic.requests import NS
from emulator.traffic.service_times import ServiceTimes


@dataclass(frozen=True, slots=True)
class Pace:
    """A card's time, `slow` times slower than the chip."""

    times: ServiceTimes  # without an adapter
    slow: float = 1.0
    reckon: Callable[[list[Stage]], ServiceTimes] | None = None  # those of other stages
    adapted: dict[str, ServiceTimes] = field(default_factory=dict)  # by the adapter's name

    def seconds(self, prompt: int, cached: int, token: int, adapter: str = "") -> float:
        """From the start of a prompt, `cached` tokens of it known, to answer token 1, 2, .."""
        times = self.adapted.get(adapter, self.times)
        read = times.prefill_ns(np.asarray(prompt), cached)
        steps = times.decode_ns(np.asarray(prompt), np.asarray(token))
        return self.slow * int(read + steps) / NS
