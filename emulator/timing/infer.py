"""Which chips of a population agree with what is published, and what those would show else.

A chip's weight is the product of what each fact says of it. A deployment's own costs are known only
to lie between nothing and a maximum, and are integrated away, so that neither kind of prefill is
helped by a constant fitted to the records.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emulator.config import LlamaConfig
from emulator.errors import UsageError
from emulator.silicon.sections import Constant
from emulator.silicon.spec import ChipSpec
from emulator.timing.budget import shape_of
from emulator.timing.closed_form import ClosedForm
from emulator.timing.models import blank_stages
from emulator.timing.population import Array, Population, populate
from emulator.timing.telemetry import Record
from emulator.timing.validate import deployment_of
from emulator.toml_file import read_toml
from weights.mix import Mix

FACTS = Path(__file__).with_name("facts.toml")
SIBLING_RATE = "official-slide"  # in records.json
QUANTILES = (0.05, 0.5, 0.95)
RATES = ("rate", "sibling slide")
NAMES = (*RATES, "die", "transistors", "power", "decode steps", "first tokens")


def load_facts() -> dict[str, Constant]:
    """ "spread.die" -> Constant, of facts.toml."""
    tables = read_toml(FACTS, UsageError)[0]
    return {
        f"{section}.{name}": Constant(**(entry | {"range": tuple(entry["range"])}))
        for section, table in tables.items()
        for name, entry in table.items()
    }


@dataclass(frozen=True, slots=True)
class Published:
    """The facts that chips are weighed by."""

    rate: float  # tokens/s
    sibling: float
    die: float
    transistors: float
    power: float
    records: tuple[tuple[str, Record], ...]  # with their deployments

    @property
    def prompts(self) -> tuple[int, ...]:
        return tuple(sorted({record.prefill_tokens for _, record in self.records}))


def published_facts(
    spec: ChipSpec, records: list[Record], headline: list[dict[str, Any]]
) -> Published:
    """Of the chip's description and the telemetry that nothing speaks against."""
    p = spec.published
    slide = next(row for row in headline if row.get("id") == SIBLING_RATE)
    named = tuple((name, r) for r in records if (name := deployment_of(r, spec)) is not None)
    return Published(
        rate=p.rate.value,
        sibling=1 / slide["seconds_per_token"],
        die=p.die.value,
        transistors=p.transistors.value,
        power=p.power.value,
        records=named,
    )


@dataclass(frozen=True, slots=True)
class Posterior:
    """A population and its weights under some of the facts."""

    chips: Population
    weights: Array  # sum 1
    request_us: Array  # what the newest deployment adds to a first token, as its records say

    @property
    def effective(self) -> float:
        """How many equally weighted chips say as much."""
        return float(1 / np.sum(self.weights**2))

    def quantiles(self, values: Array, at: tuple[float, ...] = QUANTILES) -> list[float]:
        """Weighted p5, p50, p95."""
        order = np.argsort(values, kind="stable")
        reached = np.cumsum(self.weights[order])
        places = np.minimum(np.searchsorted(reached, at), len(order) - 1)
        return [float(x) for x in values[order][places]]

    def share(self, mask: Array) -> float:
        """Weight of the chips for which the mask is 1."""
        return float(np.sum(self.weights * mask))

    def correlation(self, a: Array, b: Array) -> float:
        """Of two quantities over the surviving chips; 0 where one does not vary."""
        x, y = (v - np.sum(self.weights * v) for v in (a, b))
        size = math.sqrt(np.sum(self.weights * x * x) * np.sum(self.weights * y * y))
        return float(np.sum(self.weights * x * y) / size) if size > 0 else 0.0

    @property
    def shows(self) -> dict[str, Array]:
        """What each chip would show, by name with unit."""
        c = self.chips
        return {
            **{f"tok/s at {n:,} positions": rate for n, rate in c.rates.items()},
            "first token at 5,000, ms": 1e-3 * (c.first_token_long_us + self.request_us),
            "die, mm2": c.die,
            "transistors, billion": c.transistors,
            "card, W": c.power,
        }


def infer(
    spec: ChipSpec, config: LlamaConfig, mix: Mix, facts: Published, chips: int, seed: int,
    without: tuple[str, ...] = (),
) -> Posterior:  # fmt: skip
    """Weigh a population by every fact of NAMES but those in `without`."""
    known = load_facts()
    form, shape = ClosedForm.of(config, mix), shape_of(blank_stages(config, mix))
    rates = {"rate": facts.rate, "sibling slide": facts.sibling}
    wanted = tuple(rate for name, rate in rates.items() if name not in without)
    spread = known["spread.rate"].value
    population = populate(spec, form, shape, chips, seed, wanted, spread, facts.prompts)
    return weigh(population, facts, known, without)


def weigh(
    population: Population, facts: Published, known: Mapping[str, Constant],
    without: tuple[str, ...] = (),
) -> Posterior:  # fmt: skip
    """Weights of a population whose clock already meets the rates it was drawn for."""
    log = population.log_prior.copy()
    for name in ("die", "transistors", "power"):
        if name not in without:
            ratio = np.log(getattr(population, name) / getattr(facts, name))
            log -= 0.5 * (ratio / known[f"spread.{name}"].value) ** 2
    request = np.zeros_like(log)
    for deployment in dict.fromkeys(name for name, _ in facts.records):
        rows = [record for name, record in facts.records if name == deployment]
        steps = np.stack([1e6 * r.decode_step_s - population.step_short_us for r in rows])
        first = np.stack(
            [1e6 * r.ttft_s - population.first_token_us[r.prefill_tokens] for r in rows]
        )
        if "decode steps" not in without:
            log += _over_all_costs(steps, known, "decode_step")
        if "first tokens" not in without:
            log += _over_all_costs(first, known, "first_token")
        request = np.clip(first.mean(axis=0), 0, known["most.first_token"].value)
    weights = np.exp(log - log.max())
    return Posterior(population, weights / weights.sum(), request)


def _over_all_costs(left: Array, known: Mapping[str, Constant], name: str) -> Array:
    """Log of how likely rows that leave `left` [rows, chips] unexplained are, whatever the cost.

    The cost is uniform from 0 to most; the rows scatter about it as a normal law:
    log of (1 / most) * integral over c of product over rows of N(left - c, spread).
    """
    spread, most = known[f"spread.{name}"].value, known[f"most.{name}"].value
    rows, mean = len(left), left.mean(axis=0)
    width = spread / math.sqrt(rows)
    inside = _normal_cdf((most - mean) / width) - _normal_cdf(-mean / width)
    scatter = np.sum((left - mean) ** 2, axis=0) / (2 * spread**2)
    log: Array = np.log(np.maximum(inside, 1e-300)) - scatter - math.log(most / width)
    return log


def _normal_cdf(x: Array) -> Array:
    """By the logistic of a cubic in x (error below 0.0002), enough for a weight."""
    below: Array = 1 / (1 + np.exp(-np.clip(1.5976 * x + 0.07056 * x**3, -700, 700)))
    return below
