"""Many chips, each constant drawn over its range, and what each of them would have shown.

Every constant has a stream of its own, named after it, so that a constant that is added or never
read changes no other. What the vendor or an observer stated is taken as stated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from emulator.silicon.spec import ChipSpec, whole
from emulator.timing.budget import Shape, area_parts, power_parts, total, transistor_parts
from emulator.timing.closed_form import ClosedForm, Cycles

Array = NDArray[np.float64]
KNOWN = ("official", "observed")
WIDE = 4  # a range whose ends differ by more is drawn by its logarithm
MIDDLE = 1536  # mean positions of a reply of 1,024 tokens to a prompt of 1,024
SHORT = 25  # about the mean positions of the public records
CONTEXTS = (1, MIDDLE, 6144)
LONG_PROMPT = 5000


@dataclass(slots=True)
class Draws:
    """A lookup for `budget` and `closed_form`: "section.key" -> float[chips]."""

    spec: ChipSpec
    chips: int
    seed: int
    drawn: dict[str, Array] = field(default_factory=dict)

    def __call__(self, key: str) -> Array:
        if key not in self.drawn:
            self.drawn[key] = self._draw(key)
        return self.drawn[key]

    def uniform(self, name: str) -> Array:
        """float[chips] in 0..1 from the stream of that name."""
        return np.random.default_rng([self.seed, crc32(name.encode())]).random(self.chips)

    def _draw(self, key: str) -> Array:
        constant, u = self.spec.constant(key), self.uniform(key)
        low, high = constant.range
        if constant.grade in KNOWN or low == high:
            return np.full(self.chips, float(constant.value))
        if whole(constant.unit):
            high += 1
        if low > 0 and high / low > WIDE:
            values = low * (high / low) ** u
        else:
            values = low + (high - low) * u
        return np.floor(values) if whole(constant.unit) else values


@dataclass(frozen=True, slots=True)
class Population:
    """Chips and what they show; float[chips] each."""

    at: Draws
    pipelined: Array  # 1: prompt tokens follow each other; only where every layer owns its adders
    log_prior: Array  # of the clock, where it was solved for; -inf outside its range
    rates: dict[int, Array]  # tokens/s by positions of CONTEXTS, in the vendor's laboratory
    step_short_us: Array  # of the chip alone
    first_token_us: dict[int, Array]  # by prompt tokens, of the chip alone
    first_token_long_us: Array
    die: Array  # mm2
    transistors: Array  # billions
    power: Array  # W, one user

    @property
    def rate(self) -> Array:
        """tokens/s at 1k in, 1k out."""
        return self.rates[MIDDLE]


def populate(
    spec: ChipSpec, form: ClosedForm, shape: Shape, chips: int, seed: int, rates: tuple[float, ...],
    spread: float, prompts: tuple[int, ...],
) -> Population:  # fmt: skip
    """Draw and compute.

    With `rates` (tokens/s, each known to `spread`) the clock is not drawn: a rate is, from what the
    published ones allow, and the clock that meets it follows; `log_prior` makes up for that.
    """
    at = Draws(spec, chips, seed)
    lab = at(f"deployment.{next(iter(spec.deployment))}.decode_step") * 1e-6
    middle = form.cycles(at, MIDDLE)
    log_prior = np.zeros(chips)
    if rates:
        goal = np.exp(np.mean(np.log(rates)))
        noise = _normal(at, "rate") * spread / np.sqrt(len(rates))
        seconds = 1 / (goal * np.exp(noise)) - lab
        clock = middle.token / seconds
        low, high = spec.clock.frequency.range
        inside = (low <= clock) & (clock <= high)
        log_prior = np.where(inside, np.log(clock * (seconds + lab) / seconds), -np.inf)
        at.drawn["clock.frequency"] = np.clip(clock, low, high)
    clock = at("clock.frequency")
    short = form.cycles(at, SHORT)
    pipelined = np.floor(2 * at.uniform("prefill")) * at("fabric.owned")
    shown = {context: 1 / (form.cycles(at, context).token / clock + lab) for context in CONTEXTS}
    first = {n: _prompt(form, at, short, pipelined, n, n / 2) * 1e6 / clock for n in prompts}
    long = form.cycles(at, LONG_PROMPT / 2)
    return Population(
        at=at,
        pipelined=pipelined,
        log_prior=log_prior,
        rates=shown,
        step_short_us=1e6 * short.token / clock,
        first_token_us=first,
        first_token_long_us=1e6
        / clock
        * _prompt(form, at, long, pipelined, LONG_PROMPT, LONG_PROMPT / 2),
        die=total(area_parts(at, shape)),
        transistors=total(transistor_parts(at, shape)),
        power=total(power_parts(at, shape, form.work(at, middle, MIDDLE), shown[MIDDLE])),
    )


def _prompt(
    form: ClosedForm, at: Draws, mean: Cycles, pipelined: Array, tokens: int, context: float
) -> Any:
    """Cycles to the first reply token, by a prompt token of mean length; see `prefill`."""
    pace = np.maximum(mean.layer, form.config.layers * form.sweep(at, context)[0])
    each = np.where(pipelined > 0, pace, mean.headless)
    return mean.token + (tokens - 1) * each


def _normal(at: Draws, name: str) -> Array:
    """float[chips], by Box and Muller from two streams."""
    radius = np.sqrt(-2 * np.log1p(-at.uniform(f"{name} radius")))
    wave: Array = radius * np.cos(2 * np.pi * at.uniform(f"{name} angle"))
    return wave
