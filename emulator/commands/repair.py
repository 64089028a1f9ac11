"""`repair`: what a patch in the adapter SRAM makes good of broken masks, and what that is worth."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.commands.chip_options import add_chip_options, spec_of
from emulator.commands.image_options import add_image_options, chosen_image
from emulator.commands.worker_options import add_workers_option, chosen_workers
from emulator.errors import UsageError
from emulator.terminal.plot import add_plot_option, save_plot
from emulator.terminal.table import table

if TYPE_CHECKING:
    from emulator.economics.repair_yield import Yield
    from emulator.silicon.spec import ChipSpec
    from emulator.verification.repair_sweep import Repaired
    from weights.rom import RomImage

RATES = {  # by kind: a few units broken, and many
    "flip": [1e-5, 1e-4, 1e-3],
    "stuck": [1e-5, 1e-4, 1e-3],
    "row": [1e-4, 1e-3, 1e-2],
    "bank": [1e-3, 1e-2, 3e-2],
    "column": [1e-4, 1e-3, 1e-2],
    "lane": [1e-3, 1e-2, 3e-2],
}
DENSITIES = (0.07, 0.09, 0.11, 0.15)  # defects a cm2


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "repair",
        help="patch broken masks from the adapter SRAM",
        description="Break the matrices of the layers, fit a patch that lives in the adapter SRAM, "
        "and compare with the masks' weights in float32: KL before and after, and the SRAM it "
        "takes. Then the share of dies that can be sold. The image stays as it is. docs/faults.md "
        "says what the kinds are.",
    )
    parser.add_argument("--kind", action="append", help="one of them; repeatable; all but kv")
    parser.add_argument("--rates", metavar="R,R", help="probabilities; by default three a kind")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="says which break; 0")
    parser.add_argument("--rank", type=int, default=64, metavar="N", help="most, 1 to 64; 64")
    parser.add_argument(
        "--budget", type=float, default=16.0, metavar="MB", help="of SRAM for the patch; 16"
    )
    parser.add_argument("--text", type=Path, metavar="FILE", help="UTF-8; default: one that ships")
    parser.add_argument("--window", type=int, default=256, metavar="N", help="tokens; 256")
    parser.add_argument("--limit", type=int, default=512, metavar="N", help="tokens scored; 512")
    add_chip_options(parser)
    add_plot_option(parser)
    add_workers_option(parser)
    add_image_options(parser)
    parser.set_defaults(command=_repair)


def _repair(args: argparse.Namespace) -> int:
    from emulator.terminal.progress import progress
    from emulator.verification.repair_sweep import KINDS, repair_sweep
    from kernels.sram_matrix import MOST_RANK

    kinds = tuple(args.kind or KINDS)
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"--kind {kind}: choose one of {', '.join(KINDS)}")
    if not 1 <= args.rank <= MOST_RANK:
        raise UsageError(f"--rank must be from 1 to {MOST_RANK}, not {args.rank}")
    if not 0 < args.budget <= 1 << 20:
        raise UsageError(f"--budget must be above 0 and at most {1 << 20} MB, not {args.budget}")
    if args.window < 2 or args.limit < 2 or args.seed < 0:
        raise UsageError("--window and --limit must be at least 2, --seed at least 0")
    rates = {kind: _rates(args.rates) if args.rates else RATES[kind] for kind in kinds}
    spec, image = spec_of(args), chosen_image(args)
    if args.window > image.context:
        raise UsageError(f"--window {args.window}: the image has {image.context} positions")
    scored, calibration = _windows(image, args)
    budget_bits = int(8e6 * args.budget)
    with chosen_workers(args) as workers, progress("breaking and repairing", "points") as show:
        points = list(
            repair_sweep(
                *(image, kinds, rates, scored, calibration, spec, budget_bits),
                *(args.rank, args.seed, show, workers),
            )
        )
    yields = _yields(spec)
    if args.plot:
        save_plot(args.plot, lambda path: _draw(path, points))
    if args.json:
        head = {"schema": 1, "image": str(image.folder), "seed": args.seed, "rank": args.rank}
        rows = {"points": [p.to_json() for p in points], "yield": [y.to_json() for y in yields]}
        print(json.dumps(head | rows))
        return 0
    count = len(scored) * (args.window - args.window // 2)
    print(f"{_points(points)}\n\n{count} positions, seed {args.seed}, rank at most {args.rank}, ")
    print(f"at most {args.budget:g} MB; sound chip: KL {points[0].sound_kl:.6f}\n\n{_sold(yields)}")
    return 0


def _rates(text: str) -> list[float]:
    try:
        rates = [float(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"--rates {text}: write numbers with commas, such as 1e-4,1e-3") from None
    if not all(0 < rate <= 1 for rate in rates):
        raise UsageError(f"--rates {text}: above 0 and at most 1")
    return rates


def _windows(image: RomImage, args: argparse.Namespace) -> tuple[list[list[int]], list[list[int]]]:
    """Windows to score from the text's end, and as many before them to calibrate with."""
    from emulator.chat.template import chat_format
    from emulator.text import read_text, windows_of
    from weights.calibrate import DEFAULT_TEXT

    path = args.text or DEFAULT_TEXT
    text = read_text(path)[-16 * args.limit :]  # letters; a token has about four
    tokens = chat_format(image.tokenizer_json, image.manifest["chat_style"]).encode(text)
    scored = windows_of(tokens[-args.limit :], args.window, path)
    return scored, windows_of(tokens[: -args.limit][: args.limit], args.window, path)


def _yields(spec: ChipSpec) -> list[Yield]:
    from emulator.economics.constants import load_economics
    from emulator.economics.repair_yield import repair_yields
    from emulator.timing.models import HC1_MIX, MODELS, blank_stages
    from weights.mix import Mix

    stages = blank_stages(MODELS["llama-3.1-8b"], Mix.parse(HC1_MIX))
    return repair_yields(stages, spec, load_economics(), DENSITIES)


def _points(points: list[Repaired]) -> str:
    rows = [
        [
            p.kind,
            f"{p.rate:g}",
            f"{p.hits:,}",
            f"{p.broken_excess:+.6f}",
            f"{p.repaired_excess:+.6f}",
            "-" if p.recovered is None else f"{100 * p.recovered:.1f}",
            f"{100 * p.broken_top1:.1f} -> {100 * p.repaired_top1:.1f}",
            f"{p.sram_bits / 8e6:,.3f}",
            f"{p.positions:,}",
        ]
        for p in points
    ]
    head = ["kind", "rate", "hits", "excess KL, broken", "repaired", "recovered, %"]
    return table([*head, "top-1, %", "SRAM, MB", "positions"], rows)


def _sold(yields: list[Yield]) -> str:
    rows = [
        [
            f"{y.defects_per_cm2:g}",
            y.reading,
            f"{y.critical_mm2:,.0f}",
            f"{100 * y.sellable:.0f}",
            f"{y.die_dollars:,.0f}",
        ]
        for y in yields
    ]
    head = ["defects a cm2", "reading (estimate, 8B die)", "critical mm2", "sellable, %", "$ a die"]
    return table(head, rows)


def _draw(path: Path, points: list[Repaired]) -> None:
    """Excess KL over the broken share, before (dotted) and after, a panel a kind."""
    from matplotlib.figure import Figure

    from emulator.verification.fault_sweep import BUDGET_KL

    kinds = list(dict.fromkeys(point.kind for point in points))
    columns = min(3, len(kinds))
    rows = -(-len(kinds) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.8 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for axes, kind in zip(panels, kinds, strict=False):
        own = [point for point in points if point.kind == kind]
        x = [point.rate for point in own]
        axes.plot(x, [p.broken_excess for p in own], "o:", color="tab:red", label="broken")
        axes.plot(x, [p.repaired_excess for p in own], "o-", color="tab:green", label="repaired")
        axes.axhline(BUDGET_KL, color="grey", linestyle=":", linewidth=1, label="budget")
        axes.set(xscale="log", title=kind, xlabel="broken share", ylabel="excess KL, nats")
        axes.set_yscale("symlog", linthresh=1e-3)
    for axes in panels[len(kinds) :]:
        axes.set_visible(False)
    panels[0].legend(frameon=False, fontsize=8)
    figure.savefig(path)
