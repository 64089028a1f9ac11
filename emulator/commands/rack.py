"""`cycles --chips`: a model cut over several chips."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from emulator.commands.chip_options import contexts_of, grades
from emulator.errors import UsageError
from emulator.terminal.table import table

if TYPE_CHECKING:
    from emulator.chip import Stage
    from emulator.silicon.spec import ChipSpec
    from emulator.timing.many_chips import Rack


def many_chips(
    args: argparse.Namespace, spec: ChipSpec, hidden: int, stages: list[Stage]
) -> int:  # fmt: skip
    """Print the cut and what it does at every context."""
    from emulator.timing.many_chips import cut, rack

    if args.users is not None:
        raise UsageError("--chips and --users: one of them; --chips serves as many users as fit")
    if args.chips != "auto" and not args.chips.isdecimal():
        raise UsageError(f"--chips {args.chips}: write a number, or auto")
    number = None if args.chips == "auto" else int(args.chips)
    found = cut(stages, spec, hidden, number)
    racks = [rack(found, spec, context) for context in contexts_of(args.context, spec)]
    if args.json:
        head = {"schema": 1, "model": args.model, "chip": spec.name, "chips": len(found.chips)}
        print(json.dumps(head | {"rows": [one.to_json() for one in racks]}))
        return 0
    print(f"{args.model} over {len(found.chips)} chips like {spec.name}; middle estimates\n")
    print(f"{_chips(racks[0], spec)}\n\n{_rates(racks)}\n\n{grades(spec)}")
    return 0


def _chips(one: Rack, spec: ChipSpec) -> str:
    p = spec.published
    rows = [
        [f"{number}", f"{layers}", f"{mm2:,.0f}", f"{billions:,.1f}"]
        for number, (layers, mm2, billions) in enumerate(
            zip(one.layers, one.mm2, one.billions, strict=True), 1
        )
    ]
    rows.append(["all", f"{sum(one.layers)}", f"{sum(one.mm2):,.0f}", f"{sum(one.billions):,.1f}"])
    head = [f"mm2, of {p.die.value:,.0f}", f"billion transistors, of {p.transistors.value:,.0f}"]
    return table(["chip", "layers", *head], rows)


def _rates(racks: list[Rack]) -> str:
    def row(name: str, *cells: str) -> list[str]:
        return [name, *cells]

    rows = [
        row("tok/s, one user", *(f"{r.tokens_per_second:,.0f}" for r in racks)),
        row("  of its time on links, %", *(f"{100 * r.link_share:.1f}" for r in racks)),
        row("W, all cards, one user", *(f"{r.power_w:,.0f}" for r in racks)),
        *(
            row(f"TTFT ms, {name}", *(f"{1e3 * r.first_token_s[name]:,.2f}" for r in racks))
            for name in racks[0].first_token_s
        ),
        row("users that fit, at most 64", *(f"{r.users:,}" for r in racks)),
        row("tok/s, all of them", *(f"{r.users_tokens_per_second:,.0f}" for r in racks)),
        row("W, all cards, all of them", *(f"{r.users_power_w:,.0f}" for r in racks)),
    ]
    return table(["at context", *(f"{r.context:,}" for r in racks)], rows)
