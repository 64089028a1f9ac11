"""`compile`: a checkpoint to a ROM image."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.commands.models import short_mix
from emulator.commands.worker_options import add_workers_option, chosen_workers
from emulator.errors import UsageError
from emulator.host import peak_rss_bytes
from emulator.images.folder import is_image
from kernels.rom.widths import CODE_BITS

if TYPE_CHECKING:
    from weights.checkpoint import Checkpoint


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("compile", help="a checkpoint to a ROM image, the mask set")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "checkpoint",
        nargs="?",
        help="a name that `models` lists, GGUF file, folder with safetensors, or hub repository "
        "(owner/repo)",
    )
    what.add_argument("--model", help="the same")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: in the cache folder")
    which = parser.add_mutually_exclusive_group()
    free = ", ".join(map(str, CODE_BITS))
    which.add_argument("--mix", help='bits by tensor class, layer or tensor: "3,v=6,0=6,29.down=4"')
    which.add_argument(
        "--bits", type=float, metavar="B", help="bits a weight, scales included; finds the mix"
    )
    parser.add_argument(
        "--family", default="hc1", metavar="F", help=f"for --bits: hc1 (3, 6) or free ({free})"
    )
    parser.add_argument(
        "--quantiser",
        metavar="LEVEL",
        help="fast (no calibration), calibrated (error feedback), best (and descent); "
        "default: best, above 10^9 parameters fast",
    )
    parser.add_argument(
        "--calibration", type=Path, metavar="FILE", help="UTF-8 text; default: one that ships"
    )
    parser.add_argument(
        "--lora", type=Path, metavar="DIR", help="merge this adapter into the masks; see `respin`"
    )
    parser.add_argument("--context", type=int, metavar="N", help="positions of the KV SRAM")
    add_workers_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(command=_compile)


def _compile(args: argparse.Namespace) -> int:
    from emulator.images.make import calibrator_for, checkpoint_of, make_image
    from emulator.images.recipe import default_context, default_quantiser, folder_of
    from weights.allocate import allocate, default_mix
    from weights.compile import CompileOptions
    from weights.merged import Merged
    from weights.mix import Mix
    from weights.peft_adapter import open_adapter
    from weights.rom import open_image

    if (where := args.checkpoint or args.model) is None:
        raise UsageError("compile what? name a checkpoint, or a model with --model")
    if args.out and args.out.exists():
        raise UsageError(f"--out {args.out}: exists already; choose another name or remove it")
    begin = time.perf_counter()
    source: Checkpoint = checkpoint_of(where)
    if args.lora:
        if args.workers:
            raise UsageError("--lora is merged in one process: leave --workers out")
        source = Merged(source, open_adapter(args.lora, source.config))
    config = source.config
    quantiser = args.quantiser or default_quantiser(config)
    if args.mix:
        mix = Mix.parse(args.mix)
    elif args.bits is not None:
        mix = allocate(config, args.bits, args.family)
    else:
        mix = default_mix(config, calibrated=quantiser != "fast")
    context = default_context(config) if args.context is None else args.context
    options = CompileOptions(mix, context, quantiser)
    calibrator = calibrator_for(source, quantiser, args.calibration)
    text = calibrator.digest[:8] if calibrator and args.calibration else ""
    folder = args.out or folder_of(source, where, options, text)
    reused = not args.out and is_image(folder)
    if not reused:
        with chosen_workers(args) as workers:
            make_image(source, folder, options, calibrator, workers)
    image = open_image(folder)
    report = {
        "schema": 1,
        "image": str(folder),
        "reused": reused,
        "mix": mix.text,
        "context": image.context,
        "tensors": len(image.matrices),
        "bits_per_weight": image.bits_per_weight,
        "image_bytes": image.size_bytes,
        "seconds": time.perf_counter() - begin,
        "peak_rss_bytes": peak_rss_bytes(),
        "checkpoint": {"name": source.name, "sha256": source.digest},
        "checkpoint_sha256": source.digest,
    }
    print(json.dumps(report) if args.json else _lines(report))
    return 0


def _lines(report: dict[str, Any]) -> str:
    done = "already compiled" if report["reused"] else f"compiled in {report['seconds']:.1f} s"
    peak = report["peak_rss_bytes"]
    memory = f", peak memory {peak / 2**20:,.0f} MiB" if peak else ""
    return (
        f"{report['image']}: {done}{memory}\n"
        f"{report['tensors']} matrices, {report['bits_per_weight']:.3f} bits a weight, "
        f"{report['image_bytes'] / 2**20:,.1f} MiB, mix {short_mix(report['mix'])}, "
        f"{report['context']:,} positions\n"
        f"checkpoint {report['checkpoint']['name']}, SHA-256 {report['checkpoint']['sha256']}"
    )
