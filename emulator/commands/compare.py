"""`compare`: other machines' published figures beside what the model says of this chip."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from emulator.commands.chip_options import (
    add_chip_options,
    add_shape_options,
    grades,
    likely,
    model_of,
    spec_of,
)
from emulator.terminal.table import table

CONTEXT = 1536  # the middle of 1k in, 1k out
CAVEAT = (
    "J per token puts all of a device's power on one user. Machines that batch serve many users "
    "at once, so their real figure is far lower; HC1 runs one token at a time."
)


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("compare", help="other machines' published figures beside ours")
    add_shape_options(parser)
    add_chip_options(parser)
    parser.set_defaults(command=_compare)


def _compare(args: argparse.Namespace) -> int:
    from emulator.timing.peers import peers
    from emulator.timing.report import report

    spec = spec_of(args)
    _, _, stages = model_of(args)
    ours = report(stages, spec, CONTEXT)
    power, energy = ours.power_w.totals, ours.energy_j.totals
    published = peers()
    if args.json:
        model = {
            "name": f"{spec.name}, this model",
            "estimate": True,
            "tokens_per_second": 1 / ours.seconds,
            "power_w": dict(zip(("low", "mid", "high"), power, strict=True)),
            "joule_per_token": dict(zip(("low", "mid", "high"), energy, strict=True)),
            "context": CONTEXT,
        }
        rows = [asdict(peer) | {"joule_per_token": peer.joule_per_token} for peer in published]
        print(json.dumps({"schema": 1, "model": model, "peers": rows, "caveat": CAVEAT}))
        return 0

    def cell(value: float | None, digits: int = 0) -> str:
        return "-" if value is None else f"{value:,.{digits}f}"

    lines = [
        [
            peer.name,
            cell(peer.tokens_per_second),
            cell(peer.power_w),
            cell(peer.joule_per_token, 4),
            "-" if peer.price_in is None else f"{peer.price_in} / {peer.price_out}",
            peer.date,
            peer.rests_on,
        ]
        for peer in published
    ]
    low, mid, high = energy
    lines.append(
        [
            f"{spec.name}, this model (estimate)",
            cell(1 / ours.seconds) + likely(args, CONTEXT),
            f"{power[1]:,.0f} ({power[0]:,.0f} to {power[2]:,.0f})",
            f"{mid:.4f} ({low:.4f} to {high:.4f})",
            "-",
            "",
            f"{args.model} at {CONTEXT:,}",
        ]
    )
    head = ["one user", "tok/s", "W", "J per token", "$ per M in / out", "date", "rests on"]
    print(table(head, lines))
    sources = [
        f"{p.name}: {p.source}" + (f"; power: {p.power_source}" if p.power_source else "")
        for p in published
    ]
    print("\n" + "\n".join(sources) + f"\n\n{CAVEAT}\n{grades(spec)}")
    return 0
