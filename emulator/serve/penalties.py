"""Penalties and biases on logits: options of the host, which a chip like HC1 has no place for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emulator.blocks.wires import Int64
from emulator.serve.body import refuse
from kernels.reference import FRACTION

ONE = 1 << FRACTION  # of a logit, Q15.16


@dataclass(frozen=True, slots=True)
class Penalties:
    """What is added to logits before a token is picked.

    frequency: taken off for each time that a token is in the answer so far; presence: taken off
    once if it is there (as OpenAI documents them). repetition: a positive logit of a token that is
    in the prompt or the answer is divided by it, a negative one multiplied (CTRL,
    arXiv:1909.05858). bias: added to the logits of these ids.
    """

    frequency: float = 0.0
    presence: float = 0.0
    repetition: float = 1.0
    bias: tuple[tuple[int, float], ...] = ()

    @classmethod
    def of(
        cls,
        frequency: float | None,
        presence: float | None,
        repetition: float | None,
        bias: Mapping[str, float] | None,
        vocabulary: int,
    ) -> Penalties:
        """Those of a request. Raises RequestError for a bias on what is no token."""
        for key in bias or {}:
            digits = key.isascii() and key.isdigit() and len(key) < 10
            if not digits or int(key) >= vocabulary:
                refuse("logit_bias", f"by token ids from 0 to {vocabulary - 1}", key)
        return cls(
            frequency or 0.0,
            presence or 0.0,
            repetition or 1.0,
            tuple((int(key), value) for key, value in (bias or {}).items()),
        )

    @property
    def used(self) -> list[str]:
        """Names of those that change anything."""
        beyond = {
            "frequency_penalty": self.frequency != 0,
            "presence_penalty": self.presence != 0,
            "repetition_penalty": self.repetition != 1,
            "logit_bias": any(value for _, value in self.bias),
        }
        return [name for name, does in beyond.items() if does]

    def over(self, prompt: Sequence[int], vocabulary: int) -> AnswerBias:
        """What they do to one answer to `prompt`."""
        fixed = np.zeros(vocabulary, np.int64)
        for token, value in self.bias:
            fixed[token] += round(value * ONE)
        seen = np.zeros(vocabulary, bool)
        seen[list(prompt)] = True
        return AnswerBias(self, fixed, seen, np.zeros(vocabulary, np.int64))


NO_PENALTIES = Penalties()


@dataclass(slots=True)
class AnswerBias:
    """The penalties of one answer, as it grows."""

    penalties: Penalties
    _fixed: Int64  # int64[vocabulary] Q15.16
    _seen: NDArray[np.bool_] = field(repr=False)  # bool[vocabulary], in prompt or answer
    _count: Int64 = field(repr=False)  # int64[vocabulary], in the answer

    def applied(self, logits: NDArray[np.int32]) -> Int64:
        """int32[vocabulary] Q15.16 -> int64[vocabulary] Q15.16, each product rounded to nearest."""
        x, p = logits.astype(np.int64), self.penalties
        if p.repetition != 1:
            scaled = np.where(
                x > 0, x / p.repetition, x * p.repetition
            )  # < 2**35: exact in float64
            x = np.where(self._seen, np.rint(scaled).astype(np.int64), x)
        x = x + self._fixed - round(p.presence * ONE) * (self._count > 0)
        taken = np.rint(p.frequency * ONE * self._count).astype(np.int64)
        return np.asarray(x - taken, np.int64)

    def took(self, token: int) -> None:
        """Count a picked token."""
        self._seen[token] = True
        self._count[token] += 1
