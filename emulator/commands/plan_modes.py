"""What else `plan` does with a load than one simulation: seeds, searches, MLPerf, a table."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from emulator.commands.chip_options import grades
from emulator.commands.plan_text import found_text, mlperf_text, seeds_text
from emulator.commands.worker_options import chosen_workers
from emulator.errors import UsageError
from emulator.terminal.plot import save_plot

if TYPE_CHECKING:
    from emulator.chip import Stage
    from emulator.silicon.spec import ChipSpec
    from emulator.traffic.limits import Limits
    from emulator.traffic.search import Point
    from emulator.traffic.service_times import ServiceTimes
    from emulator.traffic.source import ClosedLoop, OpenLoad, Trace


def over_seeds(
    args: argparse.Namespace,
    spec: ChipSpec,
    times: dict[str, ServiceTimes],
    source: OpenLoad | ClosedLoop | Trace,
    limits: Limits | None,
) -> int:
    """--seeds: the spread of the main figures."""
    from emulator.traffic.seeds import spread
    from emulator.traffic.source import Trace

    if isinstance(source, Trace):
        raise UsageError("--seeds: a trace has no seed")
    if not 2 <= args.seeds <= 10_000:
        raise UsageError(f"--seeds must be 2 to 10,000, not {args.seeds}")
    with chosen_workers(args) as workers:
        found = {
            h: spread(source, t, args.cards, args.policy, limits, args.seeds, workers)
            for h, t in times.items()
        }
    if args.json:
        head = {"schema": 1, "model": args.model, "chip": spec.name, "traffic": source.name}
        print(json.dumps(head | {"seeds": args.seeds, "estimate": True, "hypotheses": found}))
        return 0
    print(f"{args.model} on {cards_of(args.cards)} of {spec.name}: {source.name}\n")
    print(f"{seeds_text(found, args.seeds)}\n\n{grades(spec)}")
    return 0


def find(
    args: argparse.Namespace,
    spec: ChipSpec,
    times: dict[str, ServiceTimes],
    source: OpenLoad | ClosedLoop | Trace,
    limits: Limits,
) -> int:
    """--find: the highest rate or the fewest cards, and the curve up to saturation."""
    from emulator.traffic import pictures, search
    from emulator.traffic.metrics import report
    from emulator.traffic.source import ClosedLoop

    if isinstance(source, ClosedLoop):
        raise UsageError("--find changes the rate, which a closed loop has not: leave --users out")
    found, curves = {}, {}
    with chosen_workers(args) as workers:
        for hypothesis, table in times.items():
            if args.find == "rate":
                best = search.highest_rate(source, table, args.cards, args.policy, limits)
            else:
                best = search.fewest_cards(source, table, args.policy, limits)
            found[hypothesis] = {
                "best": best.best,
                "p99_ms": best.at_ms,
                "report": report(best.served, limits),
            }
            if best.best is not None or args.find == "rate":
                cards = best.served.cards
                curves[hypothesis] = search.curve(source, table, cards, args.policy, workers)
    if args.plot:
        save_plot(args.plot, lambda path: pictures.curve(path, curves, limits.most_ms.get("ttft")))
    if args.json:
        head = {"schema": 1, "model": args.model, "chip": spec.name, "traffic": source.name}
        head |= {"find": args.find, "limits_ms": limits.most_ms}
        print(json.dumps(head | {"estimate": True, "hypotheses": found, "curve": _rows(curves)}))
        return 0
    where = cards_of(args.cards) if args.find == "rate" else "any number of cards"
    print(f"{args.model} on {where} of {spec.name}: {source.name}\n")
    print(f"{found_text(args.find, found, curves, limits)}\n\n{grades(spec)}")
    return 0


def _rows(curves: dict[str, list[Point]]) -> dict[str, list[dict[str, float]]]:
    from dataclasses import asdict

    return {
        hypothesis: [asdict(point) for point in points] for hypothesis, points in curves.items()
    }


def mlperf(args: argparse.Namespace, spec: ChipSpec, times: dict[str, ServiceTimes]) -> int:
    """--mlperf: three scenarios beside the official rows."""
    from dataclasses import asdict

    from emulator.traffic.mlperf import official, run

    ours = [run(table, args.cards, args.policy, args.seed) for table in times.values()]
    if args.json:
        rows = {"ours": [asdict(row) for row in ours], "official": [asdict(r) for r in official()]}
        head = {"schema": 1, "model": args.model, "chip": spec.name, "estimate": True}
        print(json.dumps(head | rows))
        return 0
    print(f"{mlperf_text(ours, official(), spec.name)}\n\n{grades(spec)}")
    return 0


def latency_table(
    args: argparse.Namespace, spec: ChipSpec, stages: list[Stage], hypotheses: tuple[str, ...]
) -> int:
    """--latency-table: a bundle for LLMServingSim, one a hypothesis."""
    from emulator.traffic.latency_table import write_bundle

    folders = [
        write_bundle(args.latency_table, args.model, stages, spec, hypothesis, args.deployment)
        for hypothesis in hypotheses
    ]
    if args.json:
        print(json.dumps({"schema": 1, "folders": [str(folder) for folder in folders]}))
        return 0
    print("\n".join(map(str, folders)))
    return 0


def cards_of(count: int) -> str:
    """So many cards, in words."""
    return f"{count:,} card{'s' * (count > 1)}"
