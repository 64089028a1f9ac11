"""`plan`: a server of N cards under traffic, simulated."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.commands.chip_options import (
    add_chip_options,
    add_shape_options,
    grades,
    model_of,
    spec_of,
)
from emulator.commands.plan_modes import cards_of, find, latency_table, mlperf, over_seeds
from emulator.commands.plan_text import measured_text, report_text
from emulator.commands.worker_options import add_workers_option
from emulator.errors import UsageError
from emulator.terminal.plot import add_plot_option, save_plot

if TYPE_CHECKING:
    from emulator.chip import Stage
    from emulator.silicon.spec import ChipSpec
    from emulator.traffic.limits import Limits
    from emulator.traffic.server import Served
    from emulator.traffic.service_times import ServiceTimes
    from emulator.traffic.source import ClosedLoop, OpenLoad, Trace

LOADS = ("azure-conv", "azure-code", "mooncake-conversation", "sharegpt-300", "mlperf-8b")
EXAMPLES = """examples:
  python -m emulator plan --load azure-conv
  python -m emulator plan --load azure-code --cards 1 --prefill serial --slo ttft=2000,tpot=100
  python -m emulator plan --load 1000/200 --rate 50 --arrivals gamma --burstiness 0.5
  python -m emulator plan --load sharegpt-300 --users 30 --think 2 --requests 3000
  python -m emulator plan --load sharegpt-300 --requests 3000 --find rate --slo ttft=500
  python -m emulator plan --load azure-conv --rate 100 --find cards --slo ttft=500
  python -m emulator plan --mlperf
"""
SEARCH_REQUESTS = 20_000  # of a search, where the load has fewer
NO_LIMITS = "--find needs limits: --slo ttft=2000,tpot=100"


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "plan",
        help="a server of ten cards under traffic",
        description="Simulate a server of N cards, one request a card at a time, and report what "
        "its users would measure. Both hypotheses about prefill, unless one is named.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_shape_options(parser)
    add_chip_options(parser)
    add = parser.add_argument
    add("--cards", type=int, default=10, help="in the server; 10")
    add("--prefill", choices=("serial", "pipelined"), help="one hypothesis; both without")
    add("--deployment", metavar="NAME", help="whose overheads; the chip's first, the laboratory")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--load", help=f"{', '.join(LOADS)}, or tokens in and out as 1000/200")
    what.add_argument("--trace", type=Path, metavar="FILE", help="replay it: Mooncake, Azure, "
                      "BurstGPT, LLMServingSim or vLLM, plain or gzip")  # fmt: skip
    what.add_argument("--mlperf", action="store_true", help="MLPerf's llama3.1-8b, beside v5.1")
    add("--speed", type=float, default=1.0, help="replay a trace so many times as fast")
    add("--limit", type=int, default=2_000_000, help="requests of a trace that are read at most")
    add("--rate", type=float, help="requests a second; as the load was recorded")
    add("--arrivals", choices=("recorded", "constant", "poisson", "gamma"))
    add("--burstiness", type=float, help="shape of gamma arrivals: 1 is Poisson, less is bursts")
    add("--duration", type=float, metavar="S", help="seconds of arrivals")
    add("--requests", type=int, metavar="N", help="how many, instead of a duration")
    add("--users", type=int, help="closed loop: so many users, each waits for the answer")
    add("--think", type=float, default=0.0, metavar="S", help="and thinks so long on average")
    add(
        "--policy",
        choices=("one-queue", "round-robin", "least-work", "sticky"),
        default="one-queue",
        help="sticky: a session stays on its card, which keeps its KV",
    )
    add("--slo", metavar="METRIC=MS,...", help="limits: ttft, tpot, itl, e2el")
    add("--find", choices=("rate", "cards"), help="the highest rate, or the fewest cards, whose "
        "99th percentiles meet the limits")  # fmt: skip
    add("--seed", type=int, default=0)
    add_workers_option(parser)
    add("--seeds", type=int, metavar="N", help="instead: so many seeds from --seed on, and the "
        "spread of the main figures over them")  # fmt: skip
    add("--out", type=Path, metavar="FILE", help="one record a request, as vLLM writes them")
    add("--perfetto", type=Path, metavar="FILE", help="a timeline of the cards")
    add("--latency-table", type=Path, metavar="FOLDER", help="the chip as LLMServingSim reads it")
    add_plot_option(parser)
    parser.set_defaults(command=_plan)


def _plan(args: argparse.Namespace) -> int:
    from emulator.traffic.limits import Limits
    from emulator.traffic.service_times import service_times

    limits = Limits.parse(args.slo) if args.slo else None
    if not 1 <= args.cards <= 100_000:
        raise UsageError(f"--cards must be 1 to 100,000, not {args.cards}")
    if not 0 <= args.seed < 1 << 64:
        raise UsageError(f"--seed must be 0 to 2^64 - 1, not {args.seed}")
    spec = spec_of(args)
    _, _, stages = model_of(args)
    hypotheses = (args.prefill,) if args.prefill else ("serial", "pipelined")
    if args.latency_table:
        return latency_table(args, spec, stages, hypotheses)
    times = service_times(stages, spec, hypotheses, args.deployment)
    if args.mlperf:
        return mlperf(args, spec, times)
    if args.find and limits is None:
        raise UsageError(NO_LIMITS)
    if len(hypotheses) > 1 and (args.out or args.perfetto):
        raise UsageError("--out and --perfetto hold one simulation: name a --prefill hypothesis")
    if args.workers and not args.find and args.seeds is None:
        raise UsageError("--workers shares many simulations: it needs --seeds or --find")
    source = _source(args)
    if args.find:
        assert limits is not None
        return find(args, spec, times, source, limits)
    if args.seeds is not None:
        return over_seeds(args, spec, times, source, limits)
    return _simulate(args, spec, stages, times, source, limits)


def _source(args: argparse.Namespace) -> OpenLoad | ClosedLoop | Trace:
    from emulator.traffic import source

    shaped = [
        f"--{name}"
        for name in ("rate", "arrivals", "burstiness", "duration")
        if getattr(args, name) is not None
    ]
    if args.trace:
        if shaped or args.users is not None or args.requests is not None:
            raise UsageError("--trace has arrivals of its own: change them by --speed and --limit")
        return source.trace(args.trace, args.speed, args.limit)
    load = source.load_of(args.load or "azure-conv")
    if args.users is not None:
        if shaped:
            raise UsageError(
                f"{shaped[0]} belongs to requests that come by themselves, not --users"
            )
        return source.closed_load(load, args.seed, args.users, args.think, args.requests)
    count = args.requests
    if args.find and count is None and args.duration is None:
        count = max(load.requests, SEARCH_REQUESTS)
    if args.find == "rate" and args.rate is None and load.rate is None:
        args.rate = 1.0
    return source.open_load(
        load, args.seed, args.rate, args.arrivals, args.burstiness, args.duration, count
    )


def _simulate(
    args: argparse.Namespace,
    spec: ChipSpec,
    stages: list[Stage],
    times: dict[str, ServiceTimes],
    source: OpenLoad | ClosedLoop | Trace,
    limits: Limits | None,
) -> int:
    from emulator.traffic.energy import server_energy
    from emulator.traffic.metrics import report, session_report
    from emulator.traffic.outputs import write_records, write_timeline
    from emulator.traffic.server import simulate
    from emulator.traffic.source import OpenLoad, Trace
    from emulator.traffic.workloads import host_power_w

    requests = source.requests()
    runs = {h: simulate(requests, t, args.cards, args.policy) for h, t in times.items()}
    reports = {}
    for hypothesis, served in runs.items():
        reports[hypothesis] = report(served, limits)
        if isinstance(source, Trace):
            reports[hypothesis] |= session_report(served)
        if served.done.any():
            energy = server_energy(served, stages, spec, host_power_w())
            reports[hypothesis]["energy"] = energy
        if args.out:
            write_records(args.out, served)
        if args.perfetto:
            write_timeline(args.perfetto, served)
    if args.plot:
        _plot(args, times, source, runs, reports)
    deployment = next(iter(times.values())).deployment
    if args.json:
        head = {"schema": 1, "model": args.model, "chip": spec.name, "deployment": deployment}
        head |= {"traffic": source.name, "seed": args.seed, "trace_cut": requests.cut}
        print(json.dumps(head | {"estimate": True, "hypotheses": reports}))
        return 0
    cut = f" (the first {len(requests):,} requests; --limit reads more)" if requests.cut else ""
    print(
        f"{args.model} on {cards_of(args.cards)} of {spec.name}, {deployment}: {source.name}{cut}\n"
    )
    print(report_text(reports, limits))
    if isinstance(source, OpenLoad) and source.as_recorded and source.load.measured:
        print(f"\n{measured_text(reports, source.load.measured)}")
    print(f"\n{grades(spec)}")
    return 0


def _plot(
    args: argparse.Namespace,
    times: dict[str, ServiceTimes],
    source: OpenLoad | ClosedLoop | Trace,
    runs: dict[str, Served],
    reports: dict[str, Any],
) -> None:
    from emulator.traffic import pictures
    from emulator.traffic.search import curve
    from emulator.traffic.source import ClosedLoop

    if isinstance(source, ClosedLoop):
        raise UsageError("--plot draws percentiles over load, which a closed loop has not")
    curves = {h: curve(source, t, args.cards, args.policy) for h, t in times.items()}
    save_plot(args.plot, lambda path: pictures.load_and_timeline(path, curves, runs, reports))
