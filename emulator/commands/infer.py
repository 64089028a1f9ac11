"""`infer`: which chips agree with what is published, and what they would show else."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from emulator.commands.chip_options import (
    add_chip_options,
    add_mix_option,
    grades,
    spec_of,
)
from emulator.commands.worker_options import add_workers_option, chosen_workers
from emulator.errors import UsageError
from emulator.terminal.plot import add_plot_option, save_plot
from emulator.terminal.table import table

if TYPE_CHECKING:
    from emulator.config import LlamaConfig
    from emulator.silicon.spec import ChipSpec
    from emulator.timing.infer import Published
    from weights.mix import Mix

MODEL = "llama-3.1-8b"  # the facts are about this one
LIMITS = (1000, 1_000_000)
SHOWN = 12  # constants whose range the facts narrow most


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("infer", help="which chips agree with what is published")
    add_mix_option(parser)
    add_chip_options(parser)
    parser.add_argument("--chips", type=int, default=200_000, help="how many are drawn; 200,000")
    parser.add_argument("--seed", type=int, default=7, help="of the draws; 7")
    parser.add_argument(
        "--record", action="store_true", help="keep the result for cycles and validate to quote"
    )
    add_plot_option(parser)
    add_workers_option(parser)
    parser.set_defaults(command=_infer)


def _infer(args: argparse.Namespace) -> int:
    from emulator.timing.pictures import surviving_chips
    from emulator.timing.posterior import record, summarise

    if not LIMITS[0] <= args.chips <= LIMITS[1] or args.seed < 0:
        raise UsageError(f"--chips is {LIMITS[0]:,} to {LIMITS[1]:,}, --seed 0 or more")
    if args.record and (args.chip or args.set or args.mix):
        raise UsageError(
            "--record keeps the result for the preset chip: leave --chip, --set, --mix"
        )
    spec = spec_of(args)
    config, mix, facts = what_is_known(spec, args.mix)
    with chosen_workers(args) as workers:
        report, found = summarise(spec, config, mix, facts, args.chips, args.seed, workers)
    if args.plot:
        save_plot(args.plot, lambda path: surviving_chips(path, found))
    if args.record:
        record(report)
    if args.json:
        print(json.dumps({"schema": 1, "model": MODEL, "chip": spec.name} | report))
        return 0
    print(_text(report))
    print(f"\n{grades(spec)}")
    return 0


def what_is_known(spec: ChipSpec, mix: str | None) -> tuple[LlamaConfig, Mix, Published]:
    """The model, its mix, and the facts that its chips are weighed by."""
    from emulator.timing.infer import published_facts
    from emulator.timing.models import HC1_MIX, known_model
    from emulator.timing.telemetry import read_records
    from emulator.timing.validate import reasons_against
    from weights.mix import Mix

    records, figures = read_records()
    believed = [record for record in records if not reasons_against(record, spec)]
    facts = published_facts(spec, believed, figures)
    return known_model(MODEL), Mix.parse(mix or HC1_MIX), facts


def _text(report: dict[str, Any]) -> str:
    head = (
        f"{report['chips']:,} chips drawn over the ranges, seed {report['seed']}; weighed by the "
        f"published facts they say as much as {report['effective_chips']:,.0f}"
    )
    spreads = ", ".join(
        f"{share:.0%} at {us} us" for us, share in report["pipelined_by_spread_us"].items()
    )
    odds = [
        ["adders", _odds(report["sharing"])],
        ["prefill", _odds(report["prefill"])],
        ["lanes", _odds(report["lanes"])],
        ["pipelined, by scatter of first tokens", spreads],
    ]
    return "\n\n".join(
        [
            head,
            table(["what survives", "odds"], odds),
            _constants(report["constants"]),
            table(
                ["constants that go together", "correlation"],
                [
                    [" and ".join(c["of"]), f"{c['correlation']:+.2f}"]
                    for c in report["correlations"]
                ],
            ),
            table(
                ["these chips show", "p5", "p50", "p95"],
                [[name, *map(_number, q)] for name, q in report["shows"].items()],
            ),
            left_out_table(report["left_out"]),
        ]
    )


def _odds(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.1%}" for name, share in shares.items())


def _constants(constants: dict[str, Any]) -> str:
    """Those whose p5 to p95 is the smallest part of their range come first."""

    def narrowed(entry: dict[str, Any]) -> float:
        (low, high), (p5, _, p95) = entry["range"], entry["p5_p50_p95"]
        return float((p95 - p5) / (high - low))

    first = sorted(constants.items(), key=lambda pair: narrowed(pair[1]))[:SHOWN]
    rows = [[key, *map(_number, (*entry["range"], *entry["p5_p50_p95"]))] for key, entry in first]
    return table(["constants, most narrowed first", "from", "to", "p5", "p50", "p95"], rows)


def left_out_table(left_out: dict[str, Any]) -> str:
    """Each fact beside what the others say, and what the ranges alone do."""
    rows = []
    for name, one in left_out.items():
        low, middle, high = one["predicted"]
        inside = "yes" if low <= one["measured"] <= high else "NO"
        texts = [f"{_number(m)} ({_number(a)} to {_number(b)})" for a, m, b in
                 ((low, middle, high), one["null"])]  # fmt: skip
        rows.append([name, _number(one["measured"]), *texts, inside])
    head = ["fact left out", "published", "from the others (p5 to p95)", "ranges alone", "inside"]
    return table(head, rows)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
