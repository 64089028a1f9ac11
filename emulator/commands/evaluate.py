"""`eval`: how far the chip is from the model it was made from."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.commands.images import add_image_options, chosen_image
from emulator.commands.table import table
from emulator.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from emulator.model import LlamaConfig
    from weights.checkpoint import Checkpoint
    from weights.rom import RomImage

DISTANCES = ("quantiser", "datapath", "total")


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "eval",
        help="perplexity, KL divergence and top-1 agreement on a text",
        description="Windows of a text, each scored on its second half. quantiser: the masks' "
        "weights against the original ones; datapath: the chip against the masks' weights in "
        "float32; total: the chip against the original.",
    )
    parser.add_argument("--text", type=Path, required=True, metavar="FILE", help="UTF-8 text")
    parser.add_argument("--window", type=int, default=512, metavar="N", help="tokens; 512")
    parser.add_argument(
        "--limit", type=int, default=6144, metavar="N", help="tokens of the text used; 6144"
    )
    parser.add_argument(
        "--checkpoint", type=Path, help="what the image was made from, if it is not embedded"
    )
    parser.add_argument(
        "--attribute", action="store_true", help="instead: KL by class of matrices and depth"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_image_options(parser)
    parser.set_defaults(command=_eval)


def _eval(args: argparse.Namespace) -> int:
    from emulator.chat.template import ChatFormat
    from emulator.chip import Chip
    from emulator.commands.progress import progress
    from emulator.quality.evaluate import evaluate
    from emulator.quality.reference import FloatModel
    from emulator.quality.text import read_text, windows_of

    for name in ("window", "limit"):
        if getattr(args, name) < 2:
            raise UsageError(f"--{name} must be at least 2, not {getattr(args, name)}")
    text = read_text(args.text)
    image = chosen_image(args)
    source = _checkpoint(image, args.checkpoint)
    chat = ChatFormat(image.tokenizer_json, image.manifest["chat_style"])
    tokens = chat.encode(text)[: args.limit]  # no BOS: the windows are cut from one stream
    windows = windows_of(tokens, args.window, args.text)
    _check_memory(image.config)
    if args.attribute:
        return _attribute(args, image, source, windows)
    with progress("scoring windows", "windows") as show:
        show(0, len(windows))
        reference, masks = FloatModel.of_checkpoint(source), FloatModel.of_image(image)
        report = evaluate(reference, masks, Chip(image), windows, show)
    print(json.dumps({"schema": 1, **report}) if args.json else _distances(report))
    return 0


def _attribute(
    args: argparse.Namespace, image: RomImage, source: Checkpoint, windows: list[list[int]]
) -> int:
    from emulator.commands.progress import progress
    from emulator.quality.attribution import kl_by_group
    from emulator.quality.reference import FloatModel

    exact = FloatModel.folded(source, image.manifest["rotation"]["seed"])
    with progress("exchanging matrices", "groups") as show:
        costs = kl_by_group(exact, FloatModel.of_image(image), windows, progress=show)
    report = {"schema": 1, "mix": image.manifest["mix"], "kl_mean": costs}
    print(json.dumps(report) if args.json else _costs(costs))
    return 0


def _costs(costs: dict[str, list[float]]) -> str:
    depths = max(len(values) for values in costs.values())
    rows = []
    for name, values in costs.items():
        cells = [f"{v:.5f}" for v in values] if len(values) > 1 else ["-"] * depths
        rows.append([name, f"{sum(values):.5f}", *cells])
    head = ["KL mean", "all", *(f"{i + 1}/{depths}" for i in range(depths))]
    return f"{table(head, rows)}\n\nBy depth, first layers first."


def _checkpoint(image: RomImage, path: Path | None) -> Checkpoint:
    """The checkpoint whose hashes the image bears: the given one, or the embedded one."""
    from weights.gguf_source import embedded_checkpoint
    from weights.sources import open_checkpoint

    source = open_checkpoint(path or embedded_checkpoint())
    have = sorted(digest for _, _, digest in source.provenance().files)
    made_from = image.manifest["checkpoint"]
    if have != sorted(file[2] for file in made_from["files"]):
        name, other = made_from["name"], path or "the embedded checkpoint"
        raise CheckpointError(f"the image was made from {name}, not {other}; give --checkpoint")
    return source


def _check_memory(config: LlamaConfig) -> None:
    """Refuse two float32 models that this computer cannot hold."""
    needed = 2 * 4 * config.parameters
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if needed > installed:
            raise UsageError(
                f"two float32 models of {config.parameters:,} weights need "
                f"{needed / 2**30:.0f} GiB; this computer has {installed / 2**30:.0f}"
            )


def _distances(report: dict[str, Any]) -> str:
    rows = []
    for name in DISTANCES:
        row = report[name]
        agreement = f"{100 * row['top1_agreement']:.2f}"
        rows.append([name, f"{row['kl_mean']:.5f}", f"{row['kl_p99']:.5f}", agreement])
    return (
        f"{report['windows']} windows of {report['window']} tokens, {report['positions']:,} "
        f"positions scored; {report['bits_per_weight']:.3f} bits a weight\n"
        f"perplexity {report['ppl_reference']:.3f} (reference), {report['ppl_chip']:.3f} (chip)\n\n"
        + table(["distance", "KL mean, nats", "KL 99 %", "top-1 agreement, %"], rows)
    )
