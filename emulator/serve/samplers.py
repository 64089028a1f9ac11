"""Samplers of the host, for options that the chip cannot apply; replies name these options."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from emulator.blocks.wires import Int32, Int64, Wires
from emulator.chat.sampler import Picker, Sampler
from emulator.config import MAX_K
from kernels.reference import FRACTION

TOP_P_BITS = 16  # of top_p; times a sum of 2**17 weights of 15 bits it fits int64
FAR = 17.0  # nats: e**-17 times the best token's weight, 32767, rounds to 0


class Mask(Protocol):
    """Says which tokens may follow, as a grammar would."""

    def allowed(self) -> NDArray[np.bool_]:
        """bool[vocabulary]"""

    def took(self, token: int) -> None:
        """Advance by a picked token."""


@dataclass(slots=True)
class HostSampler:
    """Picks from any number of tokens with the chip's arithmetic: its table and its random bits.

    top_k 0 means the whole vocabulary. Temperature 0 is greedy. `mask` limits the choice; the
    first `least` tokens are never one of `end_ids`.
    """

    top_k: int
    top_p: float
    temperature: float
    seed: int
    mask: Mask | None = None
    least: int = 0
    end_ids: tuple[int, ...] = ()
    picked: int = 0

    def pick(self, wires: Wires) -> int:
        """The id that follows the last token of a pass."""
        logits = wires.logits[-1]
        ids = self._candidates(logits)
        if self.temperature == 0 or self.top_k == 1:
            token = int(ids[np.argmax(logits[ids])])  # the first of equals, as on the chip
        else:
            token = self._draw(logits, ids, wires.start + wires.tokens.size)
        self.picked += 1
        if self.mask is not None:
            self.mask.took(token)
        return token

    def _candidates(self, logits: Int32) -> Int64:
        """int64[n] ids that may follow, ascending; end tokens if nothing else may follow."""
        free = np.ones(logits.size, bool) if self.mask is None else self.mask.allowed()
        if self.picked < self.least:
            quiet = free.copy()
            quiet[list(self.end_ids)] = False
            free = quiet if quiet.any() else free
        return np.flatnonzero(free)

    def _draw(self, logits: Int32, ids: Int64, position: int) -> int:
        chance = Sampler(MAX_K, self.temperature, self.seed)
        least = int(logits[ids].max()) - int(FAR * max(self.temperature, 1.0) * (1 << FRACTION))
        near = ids[logits[ids] >= least]
        near = near[np.argsort(-logits[near].astype(np.int64), kind="stable")]
        near = near[: self.top_k or None]
        weights = chance.weights(logits[near])
        if self.top_p < 1:
            sums = np.cumsum(weights)
            share = max(1, round(self.top_p * (1 << TOP_P_BITS)))
            nucleus = int(np.argmax(sums << TOP_P_BITS >= share * sums[-1])) + 1
            near, weights = near[:nucleus], weights[:nucleus]
        return int(near[chance.draw(weights, position)])


class TokenChances(NamedTuple):
    """Log probabilities of a picked token and of the most likely tokens."""

    token: int
    logprob: float  # nats
    top: list[tuple[int, float]]


@dataclass(slots=True)
class Recorder:
    """A sampler that records log probabilities at temperature 1, before any mask.

    It records the picked token and the `top` most likely ones; with None, nothing. These floats
    are only reported: no token depends on them.
    """

    inner: Picker
    top: int | None = None
    _kept: list[TokenChances] = field(default_factory=list)

    def pick(self, wires: Wires) -> int:
        """Pick with the inner sampler."""
        token = self.inner.pick(wires)
        if self.top is not None:
            self._kept.append(self._chances(wires.logits[-1], token, self.top))
        return token

    def taken(self) -> list[TokenChances]:
        """Return what was recorded since the last call."""
        kept, self._kept = self._kept, []
        return kept

    def _chances(self, logits: Int32, token: int, top: int) -> TokenChances:
        x = (logits.astype(np.int64) - int(logits.max())) / (1 << FRACTION)
        logprobs = x - np.log(np.exp(x).sum())
        best = np.argpartition(-x, min(top, x.size - 1))[:top] if top else np.zeros(0, np.int64)
        best = best[np.lexsort((best, -x[best]))]
        return TokenChances(
            token, float(logprobs[token]), [(int(i), float(logprobs[i])) for i in best]
        )
