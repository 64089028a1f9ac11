"""When a chip would have given each token of an answer, some times slower, so that one can watch.

The times are those that `plan` reckons with: prefill by one of the two hypotheses, the cycles of
each decode step, and what a deployment adds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emulator.traffic.requests import NS
from emulator.traffic.service_times import ServiceTimes


@dataclass(frozen=True, slots=True)
class Pace:
    """A card's time, `slow` times slower than the chip."""

    times: ServiceTimes
    slow: float = 1.0

    def seconds(self, prompt: int, cached: int, token: int) -> float:
        """From the start of a prompt, `cached` tokens of it known, to answer token 1, 2, .."""
        read = self.times.prefill_ns(np.asarray(prompt), cached)
        return (
            self.slow * int(read + self.times.decode_ns(np.asarray(prompt), np.asarray(token))) / NS
        )
