"""How masks are learned: the settings, and how far each step goes."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from emulator.learning.latents import Rate


@dataclass(frozen=True, slots=True)
class Plan:
    """From few and short runs with the small model; docs/quality.md has them."""

    steps: int = 400
    batch: int = 4  # windows in a step
    window: int = 512  # tokens
    group: float = 3e-4  # of a group's scale, relative
    row: float = 3e-4  # of a row's
    warm: int = 20  # steps until a step is at its longest
    every: int = 25  # steps between two looks at the held-out windows
    seed: int = 1

    def rate(self, step: int) -> Rate:
        """Of step 0, 1, ..: longer while it warms up, then shorter along half a cosine."""
        part = min(1.0, (step + 1) / self.warm) * (1 + math.cos(math.pi * step / self.steps)) / 2
        return Rate(self.group * part, self.row * part, step=step + 1)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
