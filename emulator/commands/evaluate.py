"""`eval`: how far the chip is from the model it was made from."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.commands.attribution import attribute
from emulator.commands.image_options import add_image_options, chosen_image
from emulator.commands.lora_options import add_lora_option
from emulator.commands.task_accuracy import task_accuracy
from emulator.commands.worker_options import add_workers_option, chosen_workers
from emulator.errors import CheckpointError, UsageError
from emulator.host import installed_bytes, share_cores
from emulator.terminal.plot import add_plot_option, save_plot
from emulator.terminal.table import table

if TYPE_CHECKING:
    from emulator.chip import Chip
    from emulator.config import LlamaConfig
    from emulator.quality.float_model import FloatModel
    from weights.checkpoint import Checkpoint
    from weights.rom import RomImage

DISTANCES = ("quantiser", "datapath", "total")


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "eval",
        help="perplexity, KL and agreement of the best tokens on a text",
        description="Windows of a text, each scored on its second half. quantiser: the masks' "
        "weights against the original ones; datapath: the chip against the masks' weights in "
        "float32; total: the chip against the original. KL by position shows the first half too. "
        "With --lora all three have the adapter.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--text", type=Path, metavar="FILE", help="UTF-8 text")
    what.add_argument(
        "--tasks",
        action="store_true",
        help="instead: 88 questions that ship, of facts, common sense, numbers and code",
    )
    parser.add_argument("--window", type=int, default=512, metavar="N", help="tokens; 512")
    parser.add_argument(
        "--limit", type=int, default=6144, metavar="N", help="tokens of the text used; 6144"
    )
    parser.add_argument(
        "--checkpoint", type=Path, help="what the image was made from, if it is not embedded"
    )
    parser.add_argument(
        "--attribute",
        action="store_true",
        help="instead: KL by class of matrices and by place in the datapath, each by depth",
    )
    parser.add_argument(
        "--depths", type=int, default=6, metavar="N", help="runs of layers of --attribute; 6"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_lora_option(parser, checkpoint=False)
    add_plot_option(parser)
    add_workers_option(parser)
    add_image_options(parser)
    parser.set_defaults(command=_eval)


def _eval(args: argparse.Namespace) -> int:
    share_cores(2)
    from emulator.chat.template import chat_of
    from emulator.chip import Chip
    from emulator.quality.elsewhere import evaluate_on
    from emulator.quality.evaluate import evaluate
    from emulator.quality.float_model import FloatModel
    from emulator.terminal.progress import progress
    from emulator.text import read_text, windows_of

    _check_options(args)
    text = "" if args.tasks else read_text(args.text)
    image = chosen_image(args)
    source = _checkpoint(image, args.checkpoint)
    _check_memory(image.config)
    if args.tasks:
        return task_accuracy(args, image, source)
    chat = chat_of(image)
    tokens = chat.encode(text)[: args.limit]  # no BOS: the windows are cut from one stream
    windows = windows_of(tokens, args.window, args.text)
    if args.attribute:
        return attribute(args, image, source, windows)
    with chosen_workers(args) as workers, progress("scoring windows", "windows") as show:
        show(0, len(windows))
        if workers is None:
            masks, chip = FloatModel.of_image(image), Chip(image)
            if args.lora:
                source, masks = _with_adapter(args.lora, masks, chip, source)
            report = evaluate(FloatModel.of_checkpoint(source), masks, chip, windows, show)
        else:
            report = evaluate_on(workers, image, source, windows, show)
    if args.plot:
        from emulator.quality.pictures import kl_by_position

        save_plot(args.plot, lambda path: kl_by_position(path, report, DISTANCES))
    print(json.dumps({"schema": 1, **report}) if args.json else _distances(report))
    return 0


def _check_options(args: argparse.Namespace) -> None:
    """Refuse numbers that are too small, and options that do not go together."""
    for name in ("window", "limit"):
        if getattr(args, name) < 3:  # the second half of two tokens predicts nothing
            raise UsageError(f"--{name} must be at least 3, not {getattr(args, name)}")
    if args.depths < 1:
        raise UsageError(f"--depths must be at least 1, not {args.depths}")
    if args.tasks and (args.attribute or args.workers or args.lora or args.plot):
        raise UsageError("--tasks goes without --attribute, --workers, --lora and --plot")
    if args.attribute and args.workers:
        raise UsageError("--attribute runs in one process: leave --workers out")
    if args.attribute and args.lora:
        raise UsageError("--attribute knows no adapters; leave --lora out")
    if args.workers and args.lora:
        raise UsageError("--lora is scored in one process: leave --workers out")


def _with_adapter(
    where: str, masks: FloatModel, chip: Chip, source: Checkpoint
) -> tuple[Checkpoint, FloatModel]:
    """Put an adapter into the chip's SRAM, and its own numbers into checkpoint and float model."""
    from emulator.images.adapters import read_adapter
    from weights.lora import adapter_for, rotation_seed, turned
    from weights.merged import Merged

    adapter = read_adapter(chip.image, where)
    chip.load(adapter_for(chip.image, source, adapter))
    chip.use(adapter.name)
    inside = turned(adapter, source, rotation_seed(chip.image))
    return Merged(source, adapter), masks.with_low_rank(inside)


def _checkpoint(image: RomImage, path: Path | None) -> Checkpoint:
    """The checkpoint whose hashes the image bears: the given one, or the embedded one."""
    from emulator.images.embedded import small_checkpoint
    from weights.sources import open_checkpoint

    source = open_checkpoint(path or small_checkpoint())
    have = sorted(digest for _, _, digest in source.provenance().files)
    made_from = image.manifest["checkpoint"]
    if have != sorted(file[2] for file in made_from["files"]):
        name, other = made_from["name"], path or "the embedded checkpoint"
        raise CheckpointError(f"the image was made from {name}, not {other}; give --checkpoint")
    return source


def _check_memory(config: LlamaConfig) -> None:
    """Refuse two float32 models that this computer cannot hold."""
    needed = 2 * 4 * config.parameters
    installed = installed_bytes()
    if installed is not None and needed > installed:
        raise UsageError(
            f"two float32 models of {config.parameters:,} weights need "
            f"{needed / 2**30:.0f} GiB; this computer has {installed / 2**30:.0f}"
        )


def _distances(report: dict[str, Any]) -> str:
    rows = []
    for name in DISTANCES:
        row = report[name]
        shares = (f"{100 * row[key]:.2f}" for key in ("top1_agreement", "top5_agreement"))
        rows.append([name, f"{row['kl_mean']:.5f}", f"{row['kl_p99']:.5f}", *shares])
    places = [
        [f"{start}-{end - 1}", *(f"{report[name]['kl_by_position'][i]:.5f}" for name in DISTANCES)]
        for i, (start, end) in enumerate(report["bins"])
    ]
    head = ["distance", "KL mean, nats", "KL 99 %", "top-1 agreement, %", "top-5 agreement, %"]
    return (
        f"{report['windows']} windows of {report['window']} tokens, {report['positions']:,} "
        f"positions scored; {report['bits_per_weight']:.3f} bits a weight\n"
        f"perplexity {report['ppl_reference']:.3f} (reference), {report['ppl_chip']:.3f} (chip)\n\n"
        f"{table(head, rows)}\n\nKL mean by position in the window:\n"
        + table(["positions", *DISTANCES], places)
    )
