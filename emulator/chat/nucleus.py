"""Top-p over the chip's eight best tokens: a host option, since nothing says that HC1 has it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emulator.blocks.wires import Wires
from emulator.chat.sampler import Sampler
from emulator.errors import UsageError

TOP_P_BITS = 16  # of top_p; times a sum of eight weights of 15 bits it fits int64


@dataclass(frozen=True, slots=True)
class Nucleus:
    """Draws as `inner` does, from as few of its best tokens as hold `top_p` of their weight.

    Integers alone: a seed gives the same text on every host. Raises UsageError for a top_p that is
    not above 0 and at most 1.
    """

    inner: Sampler
    top_p: float

    def __post_init__(self) -> None:
        if not 0 < self.top_p <= 1:  # false for NaN, too
            raise UsageError(f"--top-p must be above 0 and at most 1, not {self.top_p}")

    def pick(self, wires: Wires) -> int:
        """The id that follows the last token of a pass."""
        top = wires.top[: self.inner.top_k]
        weights = self.inner.weights(wires.logits[-1, top])
        sums = np.cumsum(weights)
        share = max(1, round(self.top_p * (1 << TOP_P_BITS)))
        held = int(np.argmax(sums << TOP_P_BITS >= share * sums[-1])) + 1
        return int(top[self.inner.draw(weights[:held], wires.start + wires.tokens.size)])
