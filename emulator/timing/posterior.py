"""What `infer` found, as one JSON object, and the copy of it that other reports quote."""

from __future__ import annotations

import json
from concurrent.futures import Executor
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from emulator.config import LlamaConfig
from emulator.silicon.spec import ChipSpec
from emulator.timing.infer import NAMES, RATES, Posterior, Published, infer, load_facts, weigh
from emulator.workers.pool import in_order
from weights.mix import Mix

RECORDED = Path(__file__).with_name("posterior.json")
LANE_BANDS = ((8, 11), (12, 15), (16, 16), (17, 23), (24, 31), (32, 64))
STRONG = 0.15  # a correlation below says nothing
MOST_PAIRS = 8


def summarise(
    spec: ChipSpec, config: LlamaConfig, mix: Mix, facts: Published, chips: int, seed: int,
    workers: Executor | None = None,
) -> tuple[dict[str, Any], Posterior]:  # fmt: skip
    """The report of `infer`, and the surviving chips."""
    found = infer(spec, config, mix, facts, chips, seed)
    at = found.chips.at
    drawn = {key: values for key, values in at.drawn.items() if np.ptp(values) > 0}
    lanes, shared = at("fabric.lanes"), 1 - at("fabric.owned")
    report = {
        "chips": chips,
        "seed": seed,
        "effective_chips": found.effective,
        "sharing": {"owned": 1 - found.share(shared), "shared": found.share(shared)},
        "prefill": {
            "serial": 1 - found.share(found.chips.pipelined),
            "pipelined": found.share(found.chips.pipelined),
        },
        "pipelined_by_spread_us": _pipelined_by_spread(found, facts),
        "lanes": {
            f"{low} to {high}" if low < high else f"{low}": found.share(
                ((low <= lanes) & (lanes <= high)).astype(float)
            )
            for low, high in LANE_BANDS
        },
        "constants": {
            key: {
                "range": [float(values.min()), float(values.max())],
                "p5_p50_p95": found.quantiles(values),
            }
            for key, values in drawn.items()
            if key != "fabric.owned"
        },
        "correlations": _correlations(found, drawn),
        "shows": {name: found.quantiles(values) for name, values in found.shows.items()},
        "rates": {str(n): found.quantiles(rate) for n, rate in found.chips.rates.items()},
        "left_out": _left_out(spec, config, mix, facts, found, workers),
    }
    return report, found


def _correlations(found: Posterior, drawn: dict[str, Any]) -> list[dict[str, Any]]:
    """The strongest pairs among the constants that survive."""
    pairs = [(found.correlation(drawn[a], drawn[b]), a, b) for a, b in combinations(drawn, 2)]
    strong = sorted((p for p in pairs if abs(p[0]) > STRONG), key=lambda pair: -abs(pair[0]))
    return [{"of": [a, b], "correlation": size} for size, a, b in strong[:MOST_PAIRS]]


def _pipelined_by_spread(found: Posterior, facts: Published) -> dict[str, float]:
    """How sure the pipelined prefill is, were first tokens to scatter less or more."""
    known = load_facts()
    spread = known["spread.first_token"]
    shares = {}
    for us in (spread.range[0], spread.value, spread.range[1]):
        other = known | {"spread.first_token": replace(spread, value=us)}
        again = weigh(found.chips, facts, other)
        shares[f"{us:g}"] = again.share(found.chips.pipelined)
    return shares


def _left_out(
    spec: ChipSpec, config: LlamaConfig, mix: Mix, facts: Published, found: Posterior,
    workers: Executor | None,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Each fact predicted from all others, beside the ranges alone (the null model)."""
    chips, seed = found.chips.at.chips, found.chips.at.seed
    again = (NAMES, ("rate",), RATES, ("sibling slide",))  # what needs other chips, not weights
    each = ((spec, config, mix, facts, chips, seed, without) for without in again)
    drawn = dict(zip(again, in_order(workers, quantiles_without, each), strict=True))
    rows = {}
    for name, without, measured in (
        ("rate", ("rate",), facts.rate),
        ("rate, both figures", RATES, facts.rate),
        ("sibling slide", ("sibling slide",), facts.sibling),
        ("die", ("die",), facts.die),
        ("transistors", ("transistors",), facts.transistors),
        ("power", ("power",), facts.power),
    ):
        attribute = name if name in ("die", "transistors", "power") else "rate"
        if attribute == "rate":
            predicted = drawn[without]["rate"]
        else:
            left = weigh(found.chips, facts, load_facts(), without)
            predicted = left.quantiles(getattr(left.chips, attribute))
        rows[name] = {
            "measured": measured,
            "predicted": predicted,
            "null": drawn[NAMES][attribute],
        }
    return rows


def quantiles_without(
    spec: ChipSpec, config: LlamaConfig, mix: Mix, facts: Published, chips: int, seed: int,
    without: tuple[str, ...],
) -> dict[str, list[float]]:  # fmt: skip
    """p5, p50, p95 of what is published, from all facts but `without`."""
    left = infer(spec, config, mix, facts, chips, seed, without)
    names = ("rate", "die", "transistors", "power")
    return {name: left.quantiles(getattr(left.chips, name)) for name in names}


def record(report: dict[str, Any]) -> None:
    """Keep a report for `cycles` and `validate` to quote."""
    rounded = json.loads(json.dumps(report), parse_float=lambda text: float(f"{float(text):.5g}"))
    temporary = RECORDED.with_suffix(".tmp")
    temporary.write_text(json.dumps(rounded, indent=1) + "\n", "utf-8")
    temporary.replace(RECORDED)


def recorded() -> dict[str, Any]:
    """The report that was kept."""
    found: dict[str, Any] = json.loads(RECORDED.read_text("utf-8"))
    return found
