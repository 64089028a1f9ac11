"""`area`: what the chip takes by part, and which lanes fit the die under two readings."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from emulator.commands.chip_options import (
    add_chip_options,
    add_shape_options,
    contexts_of,
    grades,
    model_of,
    spec_of,
)
from emulator.errors import UsageError
from emulator.terminal.table import table

if TYPE_CHECKING:
    from emulator.chip import Stage
    from emulator.silicon.spec import ChipSpec
    from emulator.timing.die import Die
    from emulator.timing.energy import Bracket


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("area", help="transistors, die and watts of an architecture")
    add_shape_options(parser)
    add_chip_options(parser)
    parser.add_argument("--context", default="1536", help="positions the one user attends to")
    parser.set_defaults(command=_area)


def _area(args: argparse.Namespace) -> int:
    from emulator.timing.die import die_of, readings
    from emulator.timing.netlist import counts, fits

    spec = spec_of(args)
    _, mix, stages = model_of(args)
    contexts = contexts_of(args.context, spec)
    if len(contexts) != 1:
        raise UsageError("--context: one number here")
    die, others = die_of(stages, spec, contexts[0]), readings(stages, spec, contexts[0])
    if args.json:
        rows = [
            {"sharing": sharing, "lanes": lanes} | other.to_json()
            for (sharing, lanes), other in others.items()
        ]
        head = {"schema": 1, "model": args.model, "mix": mix.text, "chip": spec.name}
        head |= {"context": contexts[0], "published": _published(spec)}
        head |= {
            "netlist": [asdict(fit) | {"fits": fit.fits} for fit in fits(stages, spec, counts())]
        }
        print(json.dumps(head | die.to_json() | {"readings": rows}))
        return 0
    print(f"{args.model}, mix {mix.text}, on {spec.name}: one user at {contexts[0]:,} positions\n")
    for name, bracket, figure in (
        ("transistors, billion", die.transistors, spec.published.transistors.value),
        ("die, mm2", die.area, spec.published.die.value),
        ("card, W", die.power, spec.published.power.value),
    ):
        print(f"{_parts(name, bracket, figure)}\n")
    for one in die.too_much:
        print(f"over the published: {one}")
    print(f"\n{_readings(others, spec)}\n\n{_netlist(stages, spec)}\n\n{grades(spec)}")
    return 0


def _published(spec: ChipSpec) -> dict[str, float]:
    p = spec.published
    return {"die": p.die.value, "transistors": p.transistors.value, "power": p.power.value}


def _parts(name: str, bracket: Bracket, published: float) -> str:
    rows = [
        [part, *(f"{end[part]:,.1f}" for end in (bracket.low, bracket.mid, bracket.high)), "-"]
        for part in bracket.mid
    ]
    sums = ["all", *(f"{x:,.1f}" for x in bracket.totals), f"{published:,.0f}"]
    return table([name, "low", "mid", "high", "published"], [*rows, sums])


def _readings(dies: dict[tuple[str, int], Die], spec: ChipSpec) -> str:
    """Middle estimates, with the range where it decides; a chip that cannot be is called so."""
    rows = [
        [
            f"{sharing}, {lanes} lanes",
            f"{die.tokens_per_second:,.0f}",
            *(
                f"{mid:,.0f} ({low:,.0f} to {high:,.0f})"
                for low, mid, high in (die.transistors.totals, die.area.totals, die.power.totals)
            ),
            _verdict(die),
        ]
        for (sharing, lanes), die in dies.items()
    ]
    p = spec.published
    head = [
        "adders",
        "tok/s",
        f"billion, of {p.transistors.value:,.0f}",
        f"mm2, of {p.die.value:,.0f}",
        f"W, of {p.power.value:,.0f}",
        "verdict",
    ]
    return table(head, rows)


def _netlist(stages: list[Stage], spec: ChipSpec) -> str:
    """What Yosys counts in the RTL, beside the constants, and the chips that come of it."""
    from emulator.timing.netlist import counts, fits

    counted = counts()
    rows = [
        [
            f"{fit.sharing}, {fit.lanes} lanes",
            f"{fit.row:,}",
            f"{fit.described:,.0f}",
            f"{100 * (fit.described / fit.row - 1):+.1f} %",
            f"{fit.billions:,.1f}",
            "fits" if fit.fits else "does not fit",
        ]
        for fit in fits(stages, spec, counted)
    ]
    limit = f"billion, of {spec.published.transistors.value:,.0f}"
    head = ["rows by the netlist", "transistors a row", "described", "", limit, "verdict"]
    parts = ", ".join(f"{name} {count:,}" for name, count in counted.parts.items())
    text = f"{table(head, rows)}\n{counted.grade}: {counted.source}"
    return f"{text}\nother parts, transistors: {parts}" if parts else text


def _verdict(die: Die) -> str:
    if any("low end" in one for one in die.too_much):
        return "too large"
    return "over, within its range" if die.too_much else "fits"
