"""Log probabilities of tokens, only reported: no token depends on these floats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from emulator.blocks.wires import Int32, Wires
from emulator.chat.sampler import Picker
from kernels.reference import FRACTION


class TokenChances(NamedTuple):
    """Log probabilities of a picked token and of the most likely tokens."""

    token: int
    logprob: float | None  # nats; None for the first token of a prompt
    top: list[tuple[int, float]]


@dataclass(slots=True)
class Recorder:
    """A sampler that records log probabilities at temperature 1, before any mask.

    It records the picked token and the `top` most likely ones; with None, nothing.
    """

    inner: Picker
    top: int | None = None
    _kept: list[TokenChances] = field(default_factory=list)

    def pick(self, wires: Wires) -> int:
        """Pick with the inner sampler."""
        token = self.inner.pick(wires)
        if self.top is not None:
            self._kept.append(chances_of(wires.logits[-1], token, self.top))
        return token

    def taken(self) -> list[TokenChances]:
        """Return what was recorded since the last call."""
        kept, self._kept = self._kept, []
        return kept


@dataclass(slots=True)
class PromptChances:
    """Log probabilities of a prompt's own tokens; it reads the passes of the prompt."""

    prompt: Sequence[int]
    top: int
    taken: list[TokenChances] = field(default_factory=list)

    def __call__(self, wires: Wires) -> None:
        """Take a pass whose logits are int32[T, vocabulary]: row i predicts the token after i."""
        if not self.taken:
            self.taken.append(TokenChances(self.prompt[0], None, []))
        following = self.prompt[len(self.taken) : len(self.taken) + wires.tokens.size]
        for logits, token in zip(wires.logits, following, strict=False):
            self.taken.append(chances_of(logits, token, self.top))


def chances_of(logits: Int32, token: int, top: int) -> TokenChances:
    """int32[vocabulary] Q15.16 -> log probabilities of `token` and of the `top` most likely."""
    x = (logits.astype(np.int64) - int(logits.max())) / (1 << FRACTION)
    logprobs = x - np.log(np.exp(x).sum())
    best = np.argpartition(-x, min(top, x.size - 1))[:top] if top else np.zeros(0, np.int64)
    best = best[np.lexsort((best, -x[best]))]
    return TokenChances(token, float(logprobs[token]), [(int(i), float(logprobs[i])) for i in best])
