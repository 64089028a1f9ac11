"""`cycles`: the time of a token, by block, layer and context, without running it."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from emulator.commands.chip_options import (
    add_chip_options,
    add_shape_options,
    assumptions,
    contexts_of,
    grades,
    model_of,
    recorded_odds,
    spec_of,
)
from emulator.commands.rack import many_chips
from emulator.errors import UsageError
from emulator.terminal.plot import add_plot_option, save_plot
from emulator.terminal.table import table

if TYPE_CHECKING:
    from emulator.chip import Stage
    from emulator.silicon.spec import ChipSpec
    from emulator.timing.energy import Bracket
    from emulator.timing.lora import AdapterBudget
    from emulator.timing.report import Report

MOST_USERS = 64


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("cycles", help="a token's time by block, layer and context")
    add_shape_options(parser)
    add_chip_options(parser)
    parser.add_argument(
        "--context", default="1,1536,6144", help="positions a token attends to, itself included"
    )
    parser.add_argument(
        "--sweep",
        metavar="KEY=LOW:HIGH:COUNT",
        help="instead: the rate over values of one constant, at the first context",
    )
    parser.add_argument("--users", type=int, metavar="N", help="instead: N users side by side")
    parser.add_argument(
        "--chips", metavar="N", help="instead: layers cut over N chips, or as few as fit (auto)"
    )
    parser.add_argument(
        "--lora-rank", type=int, metavar="N", help="with an adapter of this rank in the SRAM"
    )
    parser.add_argument(
        "--lora-targets", default="all", metavar="q,v", help="the matrices that it changes; all"
    )
    add_plot_option(parser)
    parser.set_defaults(command=_cycles)


def _cycles(args: argparse.Namespace) -> int:
    from emulator.timing.lora import adapter_budget, ranks_of
    from emulator.timing.models import blank_stages
    from emulator.timing.pictures import cycles_by_context
    from emulator.timing.report import describe, report

    spec = spec_of(args)
    config, mix, stages = model_of(args)
    without, ranks = stages, {}
    if args.lora_rank is not None:
        ranks = ranks_of(args.lora_rank, args.lora_targets)
        stages = blank_stages(config, mix, ranks)
    if args.sweep:
        return _sweep(args, spec, stages)
    if args.chips is not None:
        return many_chips(args, spec, config.hidden, stages)
    if args.users is not None:
        return _users(args, spec, stages)
    reports = [report(stages, spec, context) for context in contexts_of(args.context, spec)]
    whole = describe(config, mix, stages, spec, reports[-1].power_w)
    budget = None
    if ranks:
        budget = adapter_budget(config, ranks, stages, without, spec, reports[-1].context)
    odds = {} if ranks else (recorded_odds(args) or {}).get("rates", {})
    if args.plot:
        save_plot(args.plot, lambda path: cycles_by_context(path, reports, args.model))
    if args.json:
        head = {"schema": 1, "model": args.model, "mix": mix.text, "chip": spec.name}
        print(
            json.dumps(
                {
                    **head,
                    "clock_hz": spec.clock_hz,
                    **reports[0].to_json(),
                    "contexts": [r.to_json() for r in reports],
                    **whole,
                    **({"adapter": budget.to_json()} if budget else {}),
                    "infer": odds or None,
                    "assumptions": assumptions(spec),
                }
            )
        )
        return 0
    clock = f"{spec.clock_hz / 1e9:.3g} GHz"
    print(f"{args.model}, mix {mix.text}, on {spec.name} at {clock}: one decode step\n")
    print(_times(reports, config.layers, odds))
    print(f"\n{_whole_chip(whole, reports[-1])}")
    if budget:
        print(f"\n{_adapter(args, budget, reports[-1].context)}")
    print(f"\n{grades(spec)}")
    return 0


def _sweep(args: argparse.Namespace, spec: ChipSpec, stages: list[Stage]) -> int:
    from emulator.timing.sensitivity import sweep, values_of

    context = contexts_of(args.context, spec)[0]
    key, values = values_of(args.sweep, spec)
    pairs = sweep(stages, spec, key, values, context)
    if args.json:
        rows = [{"value": value, "tokens_per_second": rate} for value, rate in pairs]
        head = {"schema": 1, "model": args.model, "chip": spec.name, "context": context}
        print(json.dumps(head | {"key": key, "rows": rows}))
        return 0
    lines = [[f"{value:,.12g}", f"{rate:,.0f}"] for value, rate in pairs]
    print(f"{table([key, 'tok/s, one user'], lines)}\n\n{grades(spec)}")
    return 0


def _users(args: argparse.Namespace, spec: ChipSpec, stages: list[Stage]) -> int:
    from emulator.timing.users import many_users

    if not 1 <= args.users <= MOST_USERS:
        raise UsageError(f"--users {args.users}: 1 to {MOST_USERS}")
    found = [many_users(stages, spec, c, args.users) for c in contexts_of(args.context, spec)]
    if args.json:
        head = {"schema": 1, "model": args.model, "chip": spec.name}
        sharing = "owned" if spec.fabric.owned.value else "shared"
        print(json.dumps(head | {"adders": sharing, "rows": [one.to_json() for one in found]}))
        return 0
    rows = [
        [
            f"{one.context:,}",
            f"{one.served}",
            f"{one.tokens_per_second:,.0f}",
            f"{one.tokens_per_second / one.served:,.0f}",
            f"{one.power_w:,.0f}",
            f"{one.within_power:,.0f}",
        ]
        for one in found
    ]
    limit = f"tok/s, all, at {spec.published.power.value:,.0f} W"
    columns = ["context", "users that fit", "tok/s, all", "each", "W", limit]
    print(f"{args.users} users side by side on {spec.name}, by the schedule of events\n")
    print(f"{table(columns, rows)}\n\n{grades(spec)}")
    return 0


def _alike(reports: list[Report], layers: int) -> list[tuple[str, tuple[int, ...]]]:
    """Layers that take the same cycles at every context, how many they are, and the cycles."""
    each = [tuple(r.by_layer[f"layer {i}"] for r in reports) for i in range(layers)]
    return [(f"each of {count} layers", cycles) for cycles, count in Counter(each).items()]


def _times(reports: list[Report], layers: int, odds: dict[str, list[float]]) -> str:
    from emulator.timing.report import ONE_USER, PIPELINED

    def row(name: str, *cells: str) -> list[str]:
        return [name, *cells]

    def likely(report: Report) -> str:
        p5, _, p95 = odds.get(str(report.context), (0, 0, 0))
        return f"{p5:,.0f} to {p95:,.0f}" if p95 else "-"

    first = reports[0]
    blocks = [row(name, *(f"{r.by_block[name]:,}" for r in reports)) for name in first.by_block]
    stages = [
        row("embedding", *(f"{r.by_layer['embedding']:,}" for r in reports)),
        *(row(name, *(f"{n:,}" for n in cycles)) for name, cycles in _alike(reports, layers)),
        row("head", *(f"{r.by_layer['head']:,}" for r in reports)),
    ]
    totals = [
        row("cycles per token", *(f"{r.cycles:,}" for r in reports)),
        row("us per token", *(f"{r.seconds * 1e6:,.2f}" for r in reports)),
        row("tok/s, one user [1]", *(f"{1 / r.seconds:,.0f}" for r in reports)),
        *([row("  p5 to p95 (infer)", *map(likely, reports))] if odds else []),
        row("tok/s, pipelined [2]", *(f"{r.aggregate.tokens_per_second:,.0f}" for r in reports)),
        row("  of so many users", *(f"{r.aggregate.users}" for r in reports)),
        row("  on so many mm2", *(f"{r.aggregate_mm2:,.0f}" for r in reports)),
        row("  with so many W", *(f"{r.aggregate_w:,.0f}" for r in reports)),
        *(
            row(
                f"TTFT ms, {name}", *(f"{1e3 * r.prefill[name] / r.clock_hz:,.2f}" for r in reports)
            )
            for name in first.prefill
        ),
    ]
    contexts = [f"{r.context:,}" for r in reports]
    return "\n\n".join(
        [
            table(["cycles by block, at context", *contexts], blocks),
            table(["cycles by layer", *contexts], stages),
            table(["sums; prompt of the same length", *contexts], totals),
            f"[1] {ONE_USER}\n[2] {PIPELINED}",
        ]
    )


def _adapter(args: argparse.Namespace, budget: AdapterBudget, context: int) -> str:
    b = budget
    rows = [
        ["parameters, million", f"{b.parameters / 1e6:,.2f}"],
        ["SRAM, MB", f"{b.sram_bits / 8e6:,.1f}"],
        ["positions left", f"{b.positions_left:,} of {b.positions:,}"],
        ["SRAM, mm2; multipliers, mm2", f"{b.sram_mm2:,.1f}; {b.unit_mm2:,.1f}"],
        ["load over the host link, ms", f"{b.load_ms:,.2f}"],
        [f"cycles more, at {context:,}", f"{b.cycles:,}"],
        ["tok/s, one user", f"{b.tokens_per_second:,.0f}"],
        ["  without the adapter", f"{b.tokens_per_second_without:,.0f}"],
        ["mJ more per token", f"{b.energy_mj:,.2f}"],
    ]
    return table([f"adapter: rank {args.lora_rank} of {args.lora_targets}", "estimate"], rows)


def _whole_chip(whole: dict[str, Any], last: Report) -> str:
    def bracket(name: str, b: Bracket, scale: float, published: float) -> list[str]:
        return [name, *(f"{scale * x:,.1f}" for x in (*b.totals, published))]

    def total(name: str, b: dict[str, Any]) -> list[str]:
        return [name, *(f"{b[k]:,.0f}" for k in ("low", "mid", "high")), f"{b['published']:,.0f}"]

    rows = [
        bracket(f"mJ per token at {last.context:,}", last.energy_j, 1e3, last.published_j),
        bracket("W per card", last.power_w, 1, last.published_w),
        total("die, mm2", whole["die_area"]),
        total("transistors, billion", whole["transistors"]),
    ]
    bits = f"ROM {whole['rom_bits'] / 1e9:.2f} Gbit, KV SRAM {whole['kv_sram_bits'] / 1e9:.2f} Gbit"
    head = ["estimate", "low", "mid", "high", "published"]
    return "\n".join(
        [table(head, rows), bits, *(f"over the published: {one}" for one in whole["too_much"])]
    )
