"""The sampler: picks one of the chip's eight best tokens, with integers alone.

It reads ids and Q15.16 logits from the top-k block. Weights come from the softmax's own table of
powers of two, random bits from Philox with the position as counter. docs/datapath.md is the
contract.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from emulator.blocks.wires import Int32, Int64, Wires
from emulator.chat.philox import MASK, philox
from emulator.config import MAX_K
from emulator.errors import UsageError
from emulator.fixedpoint import LOG2_E, scale_of
from kernels.reference import FRACTION, SCORE_FRACTION, exp2_negative, round_shift

TEMPERATURES = (0.01, 2.0)  # above 0; the vendor's API ends at 2
SEED_BITS = 64  # of Philox's key


class Picker(Protocol):
    """Picks the next token: the chip's sampler, or one of the host's."""

    def pick(self, wires: Wires) -> int:
        """The id that follows the last token of a pass."""


@dataclass(frozen=True, slots=True)
class Sampler:
    """Picks a token. The default is greedy, and ignores temperature and seed.

    Raises UsageError for top_k outside 1 to 8, a temperature outside 0.01 to 2, or a seed
    outside 0 to 2**64 - 1.
    """

    top_k: int = 1
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = TEMPERATURES
        if not 1 <= self.top_k <= MAX_K:
            raise UsageError(f"--top-k must be from 1 to {MAX_K}, not {self.top_k}")
        if not low <= self.temperature <= high:  # false for NaN, too
            raise UsageError(f"--temperature must be from {low} to {high}, not {self.temperature}")
        if not 0 <= self.seed < 1 << SEED_BITS:
            raise UsageError(f"--seed must be from 0 to 2**{SEED_BITS} - 1, not {self.seed}")

    def pick(self, wires: Wires) -> int:
        """The id that follows the last token of a pass; the position after it is the counter."""
        top = wires.top[: self.top_k]
        if top.size == 1:
            return int(top[0])
        weights = self.weights(wires.logits[-1, top])
        return int(top[self.draw(weights, wires.start + wires.tokens.size)])

    def weights(self, logits: Int32 | Int64) -> Int64:
        """int[k] Q15.16, largest first -> int64[k], 32767 * 2**-(difference / temperature)."""
        mantissa, exponent = (int(n) for n in scale_of(LOG2_E / self.temperature))
        below = (logits[0].astype(np.int64) - logits) * mantissa  # < 2**32 * 2**16
        return exp2_negative(round_shift(below, exponent + FRACTION - SCORE_FRACTION))

    def draw(self, weights: Int64, position: int) -> int:
        """Draw index i with probability weights[i] / sum, by the seed and `position`."""
        word, *_ = philox((position, 0, 0, 0), (self.seed & MASK, self.seed >> 32))
        ends = np.cumsum(weights)
        return int(np.searchsorted(ends, word * int(ends[-1]) >> 32, side="right"))
