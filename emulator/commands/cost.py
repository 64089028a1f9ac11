"""`cost`: dollars a million tokens on hardwired cards, on GPUs, and at list prices."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.commands.chip_options import add_chip_options, add_shape_options, model_of, spec_of
from emulator.commands.cost_text import card_text, load_text, swings_text, verdict_text
from emulator.errors import UsageError
from emulator.terminal.plot import add_plot_option, save_plot

if TYPE_CHECKING:
    from emulator.economics.constants import Economics
    from emulator.economics.demand import Demand
    from emulator.economics.draws import Known
    from emulator.traffic.service_times import ServiceTimes

EXAMPLES = """examples:
  python -m emulator cost
  python -m emulator cost --load 1000/1000 --rate 40 --let nre.model_life=24
  python -m emulator cost --load sharegpt-300 --prefill serial --tornado
  python -m emulator cost --workloads
  python -m emulator cost --workloads --let nre.volume=50000 --stale-cost 200
"""
DRAWS = 10_000
SWINGS = 12  # of a tornado that are shown


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "cost",
        help="what a token costs beside GPUs and list prices",
        description="Dollars a million tokens at your load, with every range carried through: "
        "low, median and high are 5, 50 and 95 % of the draws.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_shape_options(parser)
    add_chip_options(parser)
    add = parser.add_argument
    add("--cards", type=int, default=10, help="in a server; 10")
    add("--prefill", choices=("serial", "pipelined"), help="one hypothesis; both without")
    add("--load", default="azure-conv", help="a load of `plan`, or tokens in and out as 1000/200")
    add("--rate", type=float, help="requests a second; as the load was recorded")
    add("--workloads", action="store_true", help="instead: five workloads, and how many months a "
        "model must live for each")  # fmt: skip
    add("--stale-cost", type=float, default=0.0, metavar="$", help="what an outdated model loses "
        "you, a month and server")  # fmt: skip
    add("--tornado", action="store_true", help="instead: which constant decides")
    add("--costs", type=Path, metavar="FILE", help="a file like economics.toml")
    add("--let", action="append", default=[], metavar="KEY=VALUE", help="one constant of it that "
        "you know")  # fmt: skip
    add("--draws", type=int, default=DRAWS, help="over the ranges; 10,000")
    add("--seed", type=int, default=0)
    add_plot_option(parser)
    add("--picture", choices=("load", "ratio", "months", "tornado"), default="load",
        help="what --plot draws: cost over load, break-even over prompt/answer ratio, months over "
        "volume, or the tornado")  # fmt: skip
    parser.set_defaults(command=_cost)


def _cost(args: argparse.Namespace) -> int:
    from emulator.economics.draws import drawn
    from emulator.traffic.service_times import service_times

    _check(args)
    economics = _economics(args)
    spec = spec_of(args)
    _, _, stages = model_of(args)
    hypotheses = (args.prefill,) if args.prefill else ("serial", "pipelined")
    # The first deployment is the laboratory; what others add is among the economics' own ranges.
    times = service_times(stages, spec, hypotheses)
    known = drawn(economics, args.draws, args.seed)
    if args.workloads:
        return _workloads(args, economics, times, known)
    return _load(args, economics, times, known)


def _check(args: argparse.Namespace) -> None:
    if not 1 <= args.cards <= 1000:
        raise UsageError(f"--cards must be 1 to 1,000, not {args.cards}")
    if not 100 <= args.draws <= 1_000_000:
        raise UsageError(f"--draws must be 100 to 1,000,000, not {args.draws}")
    if not 0 <= args.seed < 1 << 64:
        raise UsageError(f"--seed must be 0 to 2^64 - 1, not {args.seed}")
    if not 0 <= args.stale_cost <= 1e9:
        raise UsageError(f"--stale-cost must be 0 to 1e9 $, not {args.stale_cost:g}")
    if args.workloads and args.tornado:
        raise UsageError("--tornado belongs to one load, not to --workloads")


def _economics(args: argparse.Namespace) -> Economics:
    from emulator.economics.constants import ECONOMICS, load_economics

    economics = load_economics(args.costs or ECONOMICS)
    for text in args.let:
        key, equals, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            equals = ""
        if not equals:
            raise UsageError(f"--let {text}: write section.key=value, such as nre.volume=50000")
        economics = economics.let(key, value)
    return economics


def _load(
    args: argparse.Namespace, economics: Economics, times: dict[str, ServiceTimes], known: Known
) -> int:
    from emulator.economics.compare import appliance, peers, wins_from, wins_up_to
    from emulator.economics.demand import Demand
    from emulator.economics.ownership import card_cost
    from emulator.economics.workloads import percentiles
    from emulator.traffic.source import load_of

    load = load_of(args.load)
    rate = load.rate if args.rate is None else args.rate
    if rate is None:
        raise UsageError(f"--load {load.name} has no rate of its own: give --rate, in requests/s")
    if not 0 < rate <= 1e9:
        raise UsageError(f"--rate must be above 0 and at most 1e9, not {rate:g}")
    demand = Demand.of(load, next(iter(times.values())).positions)
    if args.tornado or (args.plot and args.picture == "tornado"):
        return _tornado(args, economics, times, demand, rate)
    rows, ours = [], [appliance(demand, table, known, args.cards) for table in times.values()]
    others = peers(demand, economics, known)
    for offer in [*ours, *others]:
        into, out = offer.per_million(rate, demand)
        row: dict[str, Any] = {
            "name": offer.name,
            "machines": _middle(rate / offer.unit_rate) if offer.unit_hourly.any() else None,
            "dollars_an_hour": percentiles(offer.hourly(rate)),
            "per_million_in": percentiles(into),
            "per_million_out": percentiles(out),
            "per_million_out_with_prompts": percentiles(offer.per_million_out(rate, demand)),
        }
        if offer not in ours:
            for mine in ours:
                cheaper = mine.hourly(rate) <= offer.hourly(rate)
                row[mine.name] = {
                    "cheaper_in": float(cheaper.mean()),
                    "cheaper_from": percentiles(wins_from(mine, offer)),
                    "cheaper_up_to": _middle(wins_up_to(mine, offer)),
                    "cheaper_in_a_full_fleet": float(
                        (mine.cheapest_request <= offer.cheapest_request).mean()
                    ),
                }
        rows.append(row)
    card = card_cost(known)
    parts = {name: percentiles(getattr(card, name)) for name in
             ("die", "package", "board", "margin", "base_nre", "model_nre", "total")}  # fmt: skip
    if args.plot:
        _plot(args, economics, times, known, demand, rate)
    if args.json:
        head = {"schema": 1, "load": load.name, "rate": rate, "tokens_in": demand.tokens_in}
        head |= {"tokens_out": demand.tokens_out, "left_out": demand.left_out, "estimate": True}
        head |= {"draws": args.draws, "seed": args.seed, "offers": rows, "card": parts}
        assumed = {key: asdict(c) for key, c in economics.constants.items()}
        print(json.dumps(_finite(head | {"assumptions": assumed})))
        return 0
    print(load_text(load.name, demand, rate, rows, [offer.name for offer in ours]))
    print(f"\n{card_text(parts)}\n\n{_grades(economics)}")
    return 0


def _tornado(
    args: argparse.Namespace,
    economics: Economics,
    times: dict[str, ServiceTimes],
    demand: Demand,
    rate: float,
) -> int:
    from emulator.economics import pictures
    from emulator.economics.compare import appliance
    from emulator.economics.draws import at_values
    from emulator.economics.tornado import tornado

    table = next(iter(times.values()))

    def cost(known: Known) -> float:
        return float(appliance(demand, table, known, args.cards).per_million_out(rate, demand)[0])

    middle, swings = cost(at_values(economics)), tornado(economics, cost)
    title = f"{demand.name} at {rate:,.2f} requests/s on {args.cards} cards, {table.hypothesis}"
    if args.plot:
        save_plot(args.plot, lambda path: pictures.tornado(path, swings[:SWINGS], middle, title))
    if args.json:
        rows = [asdict(swing) for swing in swings]
        print(json.dumps({"schema": 1, "load": demand.name, "rate": rate, "at_values": middle,
                          "swings": rows}))  # fmt: skip
        return 0
    print(f"{title}: {middle:,.4f} $ a million answer tokens\n")
    print(f"{swings_text(swings[:SWINGS])}\n\n{_grades(economics)}")
    return 0


def _workloads(
    args: argparse.Namespace, economics: Economics, times: dict[str, ServiceTimes], known: Known
) -> int:
    from emulator.economics.workloads import judge, named_workloads, percentiles, session_times

    named = named_workloads(economics)
    volume = economics.value("nre.volume")
    verdicts = [
        judge(workload, economics, table, known, volume)
        for workload in named
        for table in times.values()
    ]
    sessions = {w.name: session_times(w, economics, times) for w in named if w.calls}
    if args.plot:
        _plot(args, economics, times, known, None, 0.0)
    if args.json:
        rows = [
            {
                "workload": v.workload.name,
                "prefill": v.hypothesis,
                "peer": v.workload.peer,
                "rate_a_server": v.rate,
                "p99_ms": v.p99_ms,
                "meets": v.meets,
                "peer_ms": v.peer_ms,
                "per_million_out": percentiles(v.ours_per_million),
                "peer_per_million_out": percentiles(v.peer_per_million),
                "cheaper_in": v.cheaper,
                "months_first": percentiles(v.paid.months(True, args.stale_cost)),
                "months_next": percentiles(v.paid.months(False, args.stale_cost)),
                "stale_cost_first": percentiles(v.paid.stale_cost(True, known["nre.model_life"])),
                "stale_cost_next": percentiles(v.paid.stale_cost(False, known["nre.model_life"])),
            }
            for v in verdicts
        ]
        times_of = {name: [asdict(s) for s in rows_] for name, rows_ in sessions.items()}
        head = {"schema": 1, "estimate": True, "volume": volume, "stale_cost": args.stale_cost}
        print(json.dumps(_finite(head | {"workloads": rows, "sessions": times_of})))
        return 0
    life = economics.constants["nre.model_life"]
    print(verdict_text(verdicts, sessions, volume, args.stale_cost, known["nre.model_life"], life))
    print(f"\n{_grades(economics)}")
    return 0


def _plot(
    args: argparse.Namespace,
    economics: Economics,
    times: dict[str, ServiceTimes],
    known: Known,
    demand: Demand | None,
    rate: float,
) -> None:
    from emulator.economics import pictures

    def draw(path: Path) -> None:
        if args.picture == "ratio":
            pictures.over_ratio(path, economics, times, known, args.cards)
        elif args.picture == "months" or demand is None:
            pictures.months_over_volume(path, economics, times, known)
        else:
            pictures.over_load(path, demand, economics, times, known, args.cards, rate)

    save_plot(args.plot, draw)


def _middle(values: Any) -> float:
    from emulator.economics.workloads import percentiles

    return percentiles(values, (50,))[0]


def _finite(value: Any) -> Any:
    """JSON has no infinity: never is null."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and value in (float("inf"), float("-inf")) else value


def _grades(economics: Economics) -> str:
    from collections import Counter

    counts = Counter(constant.grade for constant in economics.constants.values())
    known = ", ".join(f"{count} {grade}" for grade, count in counts.most_common())
    return f"Estimates: the constants behind prices are {known}; see docs/economics.md."
