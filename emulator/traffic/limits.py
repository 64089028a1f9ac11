"""The user's limits on latency: `--slo ttft=2000,tpot=100`, in ms."""

from __future__ import annotations

import math
from dataclasses import dataclass

from emulator.errors import UsageError

METRICS = ("ttft", "tpot", "itl", "e2el")  # vLLM's names; each in ms


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that each metric may be, in ms; what is not named may be anything."""

    most_ms: dict[str, float]

    @staticmethod
    def parse(text: str) -> Limits:
        """Raises UsageError, naming the part, for anything else than metric=ms."""
        most = {}
        for part in text.split(","):
            name, equals, value = part.partition("=")
            if name not in METRICS or not equals:
                raise UsageError(f"--slo {part!r}: write one of {', '.join(METRICS)} as ttft=2000")
            try:
                ms = float(value)
            except ValueError:
                ms = math.nan
            if not 0 < ms < math.inf:
                raise UsageError(f"--slo {part!r}: a limit is a positive number of ms")
            if name in most:
                raise UsageError(f"--slo {part!r}: {name} is limited twice")
            most[name] = ms
        return Limits(most)

    def __str__(self) -> str:
        return ", ".join(f"{name} {ms:,g} ms" for name, ms in self.most_ms.items())
