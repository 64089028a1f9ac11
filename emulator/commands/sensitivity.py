"""`sensitivity`: which assumption about the chip moves its rate most."""

from __future__ import annotations

import argparse
import json
from typing import Any

from emulator.commands.chip_options import (
    add_chip_options,
    add_shape_options,
    contexts_of,
    grades,
    likely,
    model_of,
    spec_of,
)
from emulator.commands.worker_options import add_workers_option, chosen_workers
from emulator.errors import UsageError
from emulator.terminal.plot import add_plot_option, save_plot
from emulator.terminal.table import table

MARKS = "D, T, P: die, transistors, power over the published (middle estimate)"


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("sensitivity", help="which constant moves the rate most")
    add_shape_options(parser)
    add_chip_options(parser)
    parser.add_argument("--context", default="1536", help="positions a token attends to")
    parser.add_argument(
        "--rate", type=float, help="the tok/s to meet; the published ones by default"
    )
    add_plot_option(parser)
    add_workers_option(parser)
    parser.set_defaults(command=_sensitivity)


def _sensitivity(args: argparse.Namespace) -> int:
    from emulator.timing import pictures
    from emulator.timing.sensitivity import decode_rate, tornado

    spec = spec_of(args)
    _, _, stages = model_of(args)
    contexts = contexts_of(args.context, spec)
    if len(contexts) != 1:
        raise UsageError("--context: one number here")
    wanted = spec.published.rate.value if args.rate is None else args.rate
    if not 0 < wanted < 1e12:
        raise UsageError(f"--rate {wanted}: must be positive")
    rate = decode_rate(stages, spec, contexts[0])
    with chosen_workers(args) as workers:
        swings = tornado(stages, spec, contexts[0], wanted, workers)
    if args.plot:
        save_plot(args.plot, lambda path: pictures.tornado(path, swings, rate, wanted))
    if args.json:
        report = {"schema": 1, "model": args.model, "chip": spec.name, "context": contexts[0]}
        report |= {"tokens_per_second": rate, "wanted": wanted}
        print(json.dumps(report | {"swings": [swing.to_json() for swing in swings]}))
        return 0
    print(
        f"{args.model} on {spec.name} at {contexts[0]:,} positions: {rate:,.0f} tok/s"
        f"{likely(args, contexts[0])}, one user\n"
    )
    rows = [
        [
            s.key,
            f"{s.constant.value:,.12g}",
            f"{s.constant.range[0]:,.12g} to {s.constant.range[1]:,.12g} {s.constant.unit}",
            s.constant.grade,
            f"{s.rate_low:,.0f}{_marks(s.too_much_low)}",
            f"{s.rate_high:,.0f}{_marks(s.too_much_high)}",
            f"{s.nearest:,.6g}" if s.reached else f"{s.nearest:,.6g} gives {s.nearest_rate:,.0f}",
        ]
        for s in swings
    ]
    head = [
        "constant",
        "value",
        "range",
        "grade",
        "tok/s at low",
        "at high",
        f"alone for {wanted:,.0f}",
    ]
    print(f"{table(head, rows)}\n{MARKS}\n\n{grades(spec)}")
    return 0


def _marks(too_much: list[str]) -> str:
    """ " DTP" for a die, transistors and power that are all over the published."""
    return "".join([" ", *(one[0].upper() for one in too_much)]) if too_much else ""
