"""`compile`: a checkpoint to a ROM image."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.commands.images import home, is_image
from emulator.errors import UsageError

if TYPE_CHECKING:
    from weights.checkpoint import Provenance


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("compile", help="a checkpoint to a ROM image, the mask set")
    parser.add_argument("checkpoint", type=Path, help="GGUF file or folder with safetensors")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: in the cache folder")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--mix", help='bits by tensor class, layer or tensor: "3,v=6,0=6,29.down=4"')
    which.add_argument(
        "--bits", type=float, metavar="B", help="bits a weight, scales included; finds the mix"
    )
    parser.add_argument(
        "--family", default="hc1", metavar="F", help="for --bits: hc1 (3, 6) or free (3, 4, 6)"
    )
    parser.add_argument(
        "--quantiser",
        default="best",
        metavar="RUNG",
        help="fast (no calibration), calibrated (error feedback), best (and descent); best",
    )
    parser.add_argument(
        "--calibration", type=Path, metavar="FILE", help="UTF-8 text; default: one that ships"
    )
    parser.add_argument("--context", type=int, metavar="N", help="positions of the KV SRAM")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(command=_compile)


def _compile(args: argparse.Namespace) -> int:
    from emulator.commands.progress import progress
    from emulator.quality.calibrate import calibrator_of
    from weights.allocate import allocate, default_mix
    from weights.compile import (
        DEFAULT_CONTEXT,
        CompileOptions,
        compile_image,
        recipe_tag,
    )
    from weights.mix import Mix
    from weights.rom import open_image
    from weights.sources import open_checkpoint

    source = open_checkpoint(args.checkpoint)
    if args.mix:
        mix = Mix.parse(args.mix)
    elif args.bits is not None:
        mix = allocate(source.config, args.bits, args.family)
    else:
        mix = default_mix(source.config)
    context = min(source.config.context, DEFAULT_CONTEXT) if args.context is None else args.context
    begin = time.perf_counter()
    provenance = source.provenance()
    digest = checkpoint_hash(provenance)
    options = CompileOptions(mix, context, args.quantiser)
    calibrator = None if args.quantiser == "fast" else calibrator_of(source, args.calibration)
    text = f"-{calibrator.digest[:8]}" if calibrator and args.calibration else ""
    name = f"{provenance.name}-{digest[:8]}-{recipe_tag(options)}{text}-c{context}"
    folder = args.out or home() / name
    reused = not args.out and is_image(folder)
    if args.out and folder.exists():
        raise UsageError(f"--out {folder}: exists already; choose another name or remove it")
    if not reused:
        with progress("compiling the masks", "matrices") as show:
            compile_image(source, folder, options, show, calibrator)
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
        "checkpoint": {"name": provenance.name, "sha256": digest},
    }
    print(json.dumps(report) if args.json else _lines(report))
    return 0


def checkpoint_hash(provenance: Provenance) -> str:
    """One SHA-256 for all files of a checkpoint: of the lines "SHA-256  NAME", sorted by name."""
    lines = sorted((name, digest) for name, _, digest in provenance.files)
    text = "".join(f"{digest}  {name}\n" for name, digest in lines)
    return hashlib.sha256(text.encode()).hexdigest()


def peak_rss_bytes() -> int | None:
    """Largest resident memory of this process so far; None where the host does not tell."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _lines(report: dict[str, Any]) -> str:
    done = "already compiled" if report["reused"] else f"compiled in {report['seconds']:.1f} s"
    peak = report["peak_rss_bytes"]
    memory = f", peak memory {peak / 2**20:,.0f} MiB" if peak else ""
    return (
        f"{report['image']}: {done}{memory}\n"
        f"{report['tensors']} matrices, {report['bits_per_weight']:.3f} bits a weight, "
        f"{report['image_bytes'] / 2**20:,.1f} MiB, mix {report['mix']}, "
        f"{report['context']:,} positions\n"
        f"checkpoint {report['checkpoint']['name']}, SHA-256 {report['checkpoint']['sha256']}"
    )
