"""`faults`: what broken cells, rows, lanes or SRAM bits cost."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.commands.chip_options import add_chip_options, spec_of
from emulator.commands.image_options import add_image_options, chosen_image
from emulator.commands.worker_options import add_workers_option, chosen_workers
from emulator.errors import UsageError
from emulator.terminal.plot import save_plot
from emulator.terminal.table import table

if TYPE_CHECKING:
    from emulator.silicon.spec import ChipSpec
    from emulator.verification.fault_sweep import Point
    from weights.rom import RomImage

MAX_RUNS = 10_000
DIE_MODEL = "llama-3.1-8b"  # what the published die holds


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "faults",
        help="KL and top-1 loss of broken ROM cells, rows, lanes, SRAM bits",
        description="Runs a text on the image with faults put in and without; the image on disk "
        "stays as it is. Kinds: flip, stuck (ROM cells); row, bank (64 rows), column, lane (the "
        "columns of one input lane) of a matrix; kv (bits of the KV SRAM). See docs/faults.md.",
    )
    parser.add_argument("--kind", default="flip", help="what breaks; flip")
    parser.add_argument(
        "--rates", default="1e-6,1e-5,1e-4,1e-3,1e-2", metavar="R,R", help="probabilities, rising"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="says which break; 0")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="runs of each rate; 1")
    parser.add_argument(
        "--by", default="none", choices=("none", "class", "layer"), help="where, beside everywhere"
    )
    parser.add_argument(
        "--float", action="store_true", help="also against the weights in float32, in memory"
    )
    parser.add_argument("--text", type=Path, metavar="FILE", help="UTF-8; default: one that ships")
    parser.add_argument("--window", type=int, default=256, metavar="N", help="tokens; 256")
    parser.add_argument("--limit", type=int, default=1024, metavar="N", help="tokens used; 1024")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="a picture, SVG or PNG")
    add_chip_options(parser)
    add_workers_option(parser)
    add_image_options(parser)
    parser.set_defaults(command=_faults)


def _faults(args: argparse.Namespace) -> int:
    from emulator.terminal.progress import progress
    from emulator.verification.fault_sweep import matrices_of, sweep
    from emulator.verification.faults import KINDS, meaning

    if args.kind not in KINDS:
        raise UsageError(f"--kind {args.kind}: choose one of {', '.join(KINDS)}")
    rates = _rates(args.rates)
    for name, least in (("seed", 0), ("seeds", 1), ("window", 2), ("limit", 2)):
        if getattr(args, name) < least:
            raise UsageError(f"--{name} must be at least {least}, not {getattr(args, name)}")
    spec = spec_of(args)
    image = chosen_image(args)
    if args.window > image.context:
        raise UsageError(f"--window {args.window}: the image has {image.context} positions")
    groups = matrices_of(image, args.by)
    if len(groups) * len(rates) * args.seeds > MAX_RUNS:
        raise UsageError(f"more than {MAX_RUNS} runs: take fewer rates or seeds")
    windows = _windows(image, args.text, args.limit, args.window)
    seeds = list(range(args.seed, args.seed + args.seeds))
    with chosen_workers(args) as workers, progress("running with faults", "runs") as show:
        runs = sweep(
            image, args.kind, rates, seeds, groups, windows, spec, args.float, show, workers
        )
        points = list(runs)
    if args.plot:
        save_plot(args.plot, lambda path: _draw(path, args.kind, points))
    scored = len(windows) * (args.window - args.window // 2)
    if args.json:
        head = {"schema": 1, "image": str(image.folder), "kind": args.kind}
        head |= {"meaning": meaning(args.kind, spec), "seeds": seeds, "positions": scored}
        rows = [point.to_json() for point in points]
        print(json.dumps(head | {"points": rows, "die": _die(args.kind, points, spec)}))
    else:
        print(_table(args.kind, points, scored, len(seeds), spec))
    return 0


def _rates(text: str) -> list[float]:
    try:
        rates = [float(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"--rates {text}: write numbers with commas, such as 1e-6,1e-4") from None
    if not all(0 < rate <= 1 for rate in rates) or rates != sorted(set(rates)):
        raise UsageError(f"--rates {text}: must rise, above 0 and at most 1")
    return rates


def _windows(image: RomImage, path: Path | None, limit: int, window: int) -> list[list[int]]:
    """Of the first tokens of a text; by default of the end of the one that ships."""
    from emulator.chat.template import chat_of
    from emulator.text import read_text, windows_of
    from weights.calibrate import DEFAULT_TEXT

    text = read_text(path or DEFAULT_TEXT)
    if path is None:
        text = text[-8 * limit :]  # letters; a token has about four
    chat = chat_of(image)
    return windows_of(chat.encode(text)[:limit], window, path or DEFAULT_TEXT)


def _die(kind: str, points: list[Point], spec: ChipSpec) -> dict[str, Any] | None:
    """Bad cells of the published die at which the sweep meets the budget, if it does."""
    from emulator.timing.models import MODELS
    from emulator.verification.fault_sweep import BUDGET_KL, rate_within

    if kind not in ("flip", "stuck"):
        return None
    rate = rate_within([point for point in points if point.place == "all"], BUDGET_KL)
    cells, area = MODELS[DIE_MODEL].parameters, spec.published.die.value
    return {
        "model": DIE_MODEL,
        "area_mm2": area,
        "cells": cells,
        "budget_kl": BUDGET_KL,
        "rate": rate,
        "bad_cells": None if rate is None else round(rate * cells),
    }


def _table(kind: str, points: list[Point], scored: int, seeds: int, spec: ChipSpec) -> str:
    from emulator.verification.faults import meaning

    rows = [
        [
            point.place,
            f"{point.rate:g}",
            f"{point.hits:,}" if kind != "kv" else "-",
            f"{point.kl_mean:.6f}",
            f"{point.kl_p99:.6f}",
            "-" if point.excess_kl is None else f"{point.excess_kl:+.6f}",
            f"{100 * point.top1_loss:.2f}",
        ]
        for point in points
    ]
    head = ["place", "rate", "hits", "KL mean, nats", "KL 99 %", "excess KL", "top-1 loss, %"]
    lines = [
        f"{kind}: {meaning(kind, spec)}; {scored} positions, seeds: {seeds}",
        "",
        table(head, rows),
    ]
    die = _die(kind, points, spec)
    if die is not None and die["rate"] is not None:
        lines += [
            "",
            f"The excess reaches {die['budget_kl']} nats at a rate of {die['rate']:.2g}. "
            f"{die['model']} has {die['cells']:,} weights",
            f"on {die['area_mm2']:g} mm2: {die['bad_cells']:,} cells, if it bears faults as this "
            "model does. See docs/faults.md.",
        ]
    return "\n".join(lines)


def _draw(path: Path, kind: str, points: list[Point]) -> None:
    """What faults add to the KL, and top-1 loss, over the rate: a line a place."""
    from matplotlib.figure import Figure

    from emulator.verification.fault_sweep import BUDGET_KL

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for place in dict.fromkeys(point.place for point in points):
        own = [point for point in points if point.place == place]
        rates = [point.rate for point in own]
        kl = [p.kl_mean if p.excess_kl is None else p.excess_kl for p in own]
        width = 2.0 if place == "all" else 0.9
        left.plot(rates, kl, ".-", linewidth=width, label=place)
        right.plot(rates, [100 * p.top1_loss for p in own], ".-", linewidth=width)
    what = "KL mean, nats"
    if points[0].excess_kl is not None:
        what = "excess KL, nats"
        left.axhline(BUDGET_KL, color="grey", linestyle=":", linewidth=1, label="budget")
    left.set(xscale="log", xlabel=f"rate of {kind} faults", ylabel=what)
    left.set_yscale("log", nonpositive="mask")  # a few faults may also bring it nearer
    right.set(xscale="log", xlabel=f"rate of {kind} faults", ylabel="top-1 loss, %")
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.savefig(path)
