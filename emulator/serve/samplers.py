"""Samplers of the host, for options that the chip cannot apply; replies name these options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from emulator.blocks.wires import Int32, Int64, Wires
from emulator.chat.sampler import Sampler
from emulator.config import MAX_K
from kernels.reference import FRACTION

TOP_P_BITS = 16  # of top_p; times a sum of 2**17 weights of 15 bits it fits int64
FAR = 17.0  # nats: e**-17 times the best token's weight, 32767, rounds to 0


class Bias(Protocol):
    """Changes logits by what was picked so far."""

    def applied(self, logits: Int32) -> Int64:
        """int32[vocabulary] -> int64[vocabulary], both Q15.16"""

    def took(self, token: int) -> None:
        """Advance by a picked token."""


class Mask(Protocol):
    """Says which tokens may follow, as a grammar would."""

    def allowed(self) -> NDArray[np.bool_]:
        """bool[vocabulary]"""

    def took(self, token: int) -> None:
        """Advance by a picked token."""


@dataclass(slots=True)
class HostSampler:
    """Picks from any number of tokens with the chip's arithmetic: its table and its random bits.

    top_k 0 means the whole vocabulary. Temperature 0 is greedy. `bias` changes the logits, then
    `mask` limits the choice; the first `least` tokens are never one of `end_ids`.
    """

    top_k: int
    top_p: float
    temperature: float
    seed: int
    mask: Mask | None = None
    least: int = 0
    end_ids: tuple[int, ...] = ()
    bias: Bias | None = None
    picked: int = 0

    def pick(self, wires: Wires) -> int:
        """The id that follows the last token of a pass."""
        logits = wires.logits[-1].astype(np.int64)
        if self.bias is not None:
            logits = self.bias.applied(wires.logits[-1])
        ids = self._candidates(logits.size)
        if self.temperature == 0 or self.top_k == 1:
            token = int(ids[np.argmax(logits[ids])])  # the first of equals, as on the chip
        else:
            token = self._draw(logits, ids, wires.start + wires.tokens.size)
        self.picked += 1
        for counts in (self.mask, self.bias):
            if counts is not None:
                counts.took(token)
        return token

    def _candidates(self, size: int) -> Int64:
        """int64[n] ids that may follow, ascending; end tokens if nothing else may follow."""
        free = np.ones(size, bool) if self.mask is None else self.mask.allowed()
        if self.picked < self.least:
            quiet = free.copy()
            quiet[list(self.end_ids)] = False
            free = quiet if quiet.any() else free
        return np.flatnonzero(free)

    def _draw(self, logits: Int64, ids: Int64, position: int) -> int:
        chance = Sampler(MAX_K, self.temperature, self.seed)
        least = int(logits[ids].max()) - int(FAR * max(self.temperature, 1.0) * (1 << FRACTION))
        near = ids[logits[ids] >= least]
        near = near[np.argsort(-logits[near], kind="stable")]
        near = near[: self.top_k or None]
        weights = chance.weights(logits[near])
        if self.top_p < 1:
            sums = np.cumsum(weights)
            share = max(1, round(self.top_p * (1 << TOP_P_BITS)))
            nucleus = int(np.argmax(sums << TOP_P_BITS >= share * sums[-1])) + 1
            near, weights = near[:nucleus], weights[:nucleus]
        return int(near[chance.draw(weights, position)])
