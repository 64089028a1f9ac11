"""`chips`: other hardwired chips, published beside predicted."""

from __future__ import annotations

import argparse
import json
from typing import Any

from emulator.terminal.table import table


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("chips", help="other hardwired chips, published and predicted")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(command=_chips)


def _chips(args: argparse.Namespace) -> int:
    from emulator.timing.others import figures

    found = figures()
    if args.json:
        print(json.dumps({"schema": 1, "figures": [one.to_json() for one in found]}))
        return 0
    rows = [
        [
            one.chip,
            f"{one.kind.replace('_', ' ')}{f' at {one.at:,}' if one.at else ''}, {one.unit}",
            f"{one.published:,.6g}",
            "-" if one.predicted is None else f"{one.predicted:,.6g}",
            "-" if one.error is None else f"{one.error:+.1%}",
            one.grade,
        ]
        for one in found
    ]
    print(table(["chip", "figure", "published", "predicted", "error", "grade"], rows))
    print("Sources: emulator/timing/others.toml; what the misses say: docs/chips.md")
    return 0
