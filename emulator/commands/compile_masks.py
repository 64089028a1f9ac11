"""`compile`: a checkpoint to a ROM image."""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.commands.learned_options import Learning, add_learned_options
from emulator.commands.models import short_mix
from emulator.commands.worker_options import add_workers_option, chosen_workers
from emulator.errors import UsageError
from emulator.host import peak_rss_bytes
from emulator.images.folder import is_image
from kernels.rom.widths import CODE_BITS

if TYPE_CHECKING:
    from emulator.config import LlamaConfig
    from weights.checkpoint import Checkpoint
    from weights.compile import CompileOptions

NEAR_PRICE = 0.0003


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
        help="fast (no calibration), calibrated (error feedback), best (and descent), learned (by "
        "the original's answers; needs torch); default: best, above 10^9 parameters fast",
    )
    add_learned_options(parser, which)
    parser.add_argument(
        "--calibration", type=Path, metavar="FILE", help="UTF-8 text; default: one that ships"
    )
    parser.add_argument(
        "--lora", type=Path, metavar="DIR", help="merge this adapter into the masks; see `respin`"
    )
    parser.add_argument(
        "--near",
        metavar="IMAGE",
        help="keep this image's scales, alphabets and bit mix, and its codes but where a change "
        "pays; see `respin`",
    )
    parser.add_argument(
        "--near-price",
        type=float,
        metavar="X",
        help="what a changed cell has to save, in mean squared weights of its matrix; "
        f"default {NEAR_PRICE:g}; 0 changes all that helps",
    )
    parser.add_argument("--context", type=int, metavar="N", help="positions of the KV SRAM")
    add_workers_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(command=_compile)


def _compile(args: argparse.Namespace) -> int:
    from emulator.images.make import calibrator_for, checkpoint_of, make_image
    from emulator.images.recipe import folder_of
    from weights.merged import Merged
    from weights.peft_adapter import open_adapter
    from weights.rom import open_image

    learning = Learning.of(args)

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
    options = _near(args) if args.near else _options(args, source.config)
    if learning:
        options = learning.options(source, options)
    calibrator = calibrator_for(source, options.quantiser, args.calibration)
    text = calibrator.digest[:8] if calibrator and args.calibration else ""
    named = folder_of(source, where, options, text)
    folder = named if learning else args.out or named
    reused = is_image(folder) and folder == named
    if not reused:
        with chosen_workers(args) as workers:
            make_image(source, folder, options, calibrator, workers)
    image = open_image(folder)
    if learning:
        folder, reused = learning.masks(source, image, args.out)
        image = open_image(folder)
    report = {
        "schema": 1,
        "image": str(folder),
        "reused": reused,
        "mix": options.mix.text,
        "context": image.context,
        "tensors": len(image.matrices),
        "bits_per_weight": image.bits_per_weight,
        "image_bytes": image.size_bytes,
        "seconds": time.perf_counter() - begin,
        "peak_rss_bytes": peak_rss_bytes(),
        "checkpoint": {"name": source.name, "sha256": source.digest},
        "checkpoint_sha256": source.digest,
    }
    if learning:
        report["learned"] = {"file": str(learning.file), **image.manifest["learned"]}
    print(json.dumps(report) if args.json else _lines(report))
    return 0


def _options(args: argparse.Namespace, config: LlamaConfig) -> CompileOptions:
    from emulator.images.recipe import default_context, default_quantiser
    from weights.allocate import allocate, default_mix
    from weights.compile import CompileOptions
    from weights.mix import Mix

    if args.near_price is not None:
        raise UsageError("--near-price goes with --near IMAGE")
    quantiser = args.quantiser or default_quantiser(config)
    if args.mix:
        mix = Mix.parse(args.mix)
    elif args.bits is not None:
        mix = allocate(config, args.bits, args.family)
    else:
        mix = default_mix(config, calibrated=quantiser != "fast")
    context = default_context(config) if args.context is None else args.context
    return CompileOptions(mix, context, quantiser)


def _near(args: argparse.Namespace) -> CompileOptions:
    """Those of the image to stay near to; it is made if need be."""
    from emulator.images.make import open_folder_or_named
    from emulator.silicon.spec import load_spec
    from weights.compile import QUANTISERS, CompileOptions
    from weights.mix import Mix
    from weights.near import Near

    if args.mix or args.bits is not None:
        raise UsageError("--near keeps the image's bit mix: leave --mix and --bits out")
    if args.workers:
        raise UsageError("--near is made in one process: leave --workers out")
    price = NEAR_PRICE if args.near_price is None else args.near_price
    if not 0 <= price < math.inf:
        raise UsageError(f"--near-price {price:g}: 0 or more")
    image = open_folder_or_named(args.near)
    quantiser = str(image.manifest.get("quantiser"))
    quantiser = args.quantiser or (quantiser if quantiser in QUANTISERS else "best")
    near = Near(image, price, int(load_spec().fabric.cell_bits))
    mix = Mix.parse(str(image.manifest["mix"]))
    return CompileOptions(mix, args.context or image.context, quantiser, near)


def _lines(report: dict[str, Any]) -> str:
    done = "already compiled" if report["reused"] else f"compiled in {report['seconds']:.1f} s"
    peak = report["peak_rss_bytes"]
    memory = f", peak memory {peak / 2**20:,.0f} MiB" if peak else ""
    learned = f"\nlearned masks, by {report['learned']['file']}" if "learned" in report else ""
    return (
        f"{report['image']}: {done}{memory}\n"
        f"{report['tensors']} matrices, {report['bits_per_weight']:.3f} bits a weight, "
        f"{report['image_bytes'] / 2**20:,.1f} MiB, mix {short_mix(report['mix'])}, "
        f"{report['context']:,} positions\n"
        f"checkpoint {report['checkpoint']['name']}, "
        f"SHA-256 {report['checkpoint']['sha256']}{learned}"
    )
