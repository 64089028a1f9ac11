"""The pictures of `cost`. matplotlib is imported where it draws, so nothing else needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from emulator.economics.compare import appliance, gpu, list_price, peers, wins_from
from emulator.economics.constants import Economics
from emulator.economics.demand import GPUS, Demand
from emulator.economics.draws import Known, at_values
from emulator.economics.payback import payback
from emulator.economics.tornado import Swing
from emulator.economics.workloads import named_workloads, offers, percentiles
from emulator.traffic.randomness import Reals
from emulator.traffic.service_times import ServiceTimes
from emulator.traffic.source import load_of

REQUEST_TOKENS = 2000  # of a request in the map of ratios, in and out together
RATIOS = tuple(2.0**k for k in np.arange(-4, 5.01, 0.5))
RATIO_PEERS = ("H100", "B200", "DeepInfra")
VOLUMES = tuple(float(v) for v in np.geomspace(100, 100_000, 25))
SHOWN_MONTHS = (2, 60)
CURVE_PEERS = ("H100", "H200", "B200", "L40S", "DeepInfra", "Groq", "Azure")


def over_load(
    path: Path, demand: Demand, economics: Economics, times: dict[str, ServiceTimes], known: Known,
    cards: int, rate: float,
) -> None:  # fmt: skip
    """$ a million answer tokens over the load, ours with a band of 5 to 95 % of the draws."""
    figure, (axes,) = _figure(8.5, 4.6, 1)
    rates = np.geomspace(0.1, 1000, 60)
    middle = at_values(economics)
    for index, (hypothesis, table) in enumerate(times.items()):
        ours = appliance(demand, table, known, cards)
        band = np.array([percentiles(ours.per_million_out(r, demand)) for r in rates])
        axes.fill_between(rates, band[:, 0], band[:, 2], color=f"C{index}", alpha=0.2, linewidth=0)
        label = f"{cards} cards, {hypothesis}"
        axes.plot(rates, band[:, 1], color=f"C{index}", linewidth=2.2, label=label)
    shown = [offer for offer in peers(demand, economics, middle) if offer.name in CURVE_PEERS]
    for index, offer in enumerate(shown):
        costs = [float(offer.per_million_out(r, demand)[0]) for r in rates]
        style = "--" if offer.unit_hourly.any() else ":"
        axes.plot(rates, costs, style, color=f"C{index + 2}", linewidth=1.2, label=offer.name)
    axes.axvline(rate, color="grey", linewidth=0.8)
    axes.set(
        xscale="log", yscale="log", xlabel=f"requests a second ({demand.name}; line: this load)",
        ylabel="$ a million answer tokens",
    )  # fmt: skip
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)
    figure.savefig(path)


def over_ratio(
    path: Path, economics: Economics, times: dict[str, ServiceTimes], known: Known, cards: int
) -> None:
    """The load from which ours is cheaper, over tokens in by tokens out; one panel a hypothesis."""
    figure, panels = _figure(5.2 * len(times), 4.4, len(times))
    for axes, (hypothesis, table) in zip(panels, times.items(), strict=True):
        most: list[float] = []
        lines: dict[str, list[list[float]]] = {name: [] for name in RATIO_PEERS}
        for ratio in RATIOS:
            demand = _of_ratio(ratio)
            ours = appliance(demand, table, known, cards)
            most.append(_tokens_a_second(percentiles(ours.unit_rate)[1]))
            for name in RATIO_PEERS:
                other = _peer(demand, economics, known, name)
                lines[name].append(percentiles(_tokens(wins_from(ours, other))))
        for index, (name, rows) in enumerate(lines.items()):
            low, median, high = np.array(rows).T
            top = 1e7  # stands for never, outside of what is shown
            axes.fill_between(
                RATIOS, np.minimum(low, top), np.minimum(high, top), color=f"C{index}", alpha=0.15,
                linewidth=0,
            )  # fmt: skip
            axes.plot(RATIOS, np.minimum(median, top), color=f"C{index}", label=f"against {name}")
        axes.plot(RATIOS, most, "k--", linewidth=1, label=f"what {cards} cards serve")
        axes.set(
            xscale="log", yscale="log", ylim=(100, 1e6), title=f"{hypothesis} prefill",
            xlabel="tokens in a token out", ylabel="tokens a second from which cards are cheaper",
        )  # fmt: skip
        axes.set_xticks([1 / 16, 1 / 4, 1, 4, 16], ["1/16", "1/4", "1", "4", "16"])
    panels[-1].legend(loc="upper left", frameon=False, fontsize=8)
    figure.savefig(path)


def months_over_volume(
    path: Path, economics: Economics, times: dict[str, ServiceTimes], known: Known
) -> None:
    """How long the first model must live, over the cards made of it; a line a workload."""
    figure, panels = _figure(5.2 * len(times), 4.4, len(times))
    for axes, table in zip(panels, times.values(), strict=True):
        never = []
        for index, workload in enumerate(named_workloads(economics)):
            demand = Demand.of(load_of(workload.load), table.positions)
            ours, other = offers(workload, economics, table, known, demand)
            rows = []
            for volume in VOLUMES:
                paid = payback(ours, other, known, volume, workload.cards, workload.host,
                               workload.rate, workload.busy)  # fmt: skip
                rows.append(percentiles(paid.months(True), (25, 50, 75)))
            low, median, high = np.minimum(np.array(rows).T, 1e4)
            if median.min() > SHOWN_MONTHS[1]:
                never.append(workload.name)
                continue
            axes.fill_between(VOLUMES, low, high, color=f"C{index}", alpha=0.12, linewidth=0)
            axes.plot(VOLUMES, median, color=f"C{index}", label=workload.name)
        for name in never:
            axes.plot([], [], " ", label=f"{name}: not within {SHOWN_MONTHS[1]} months")
        axes.axhline(12, color="grey", linewidth=0.8)
        axes.set(
            xscale="log", yscale="log", ylim=SHOWN_MONTHS, title=f"{table.hypothesis} prefill",
            xlabel="cards made of the model", ylabel="months the model must live",
        )  # fmt: skip
        axes.set_yticks([2, 3, 6, 12, 24, 60], ["2", "3", "6", "12", "24", "60"])
        axes.minorticks_off()
        axes.legend(loc="upper right", frameon=False, fontsize=8)
    figure.savefig(path)


def tornado(path: Path, swings: list[Swing], cost: float, title: str) -> None:
    """One bar a constant, from the cost at the low end of its range to that at the high end."""
    figure, (axes,) = _figure(8, 1.2 + 0.32 * len(swings), 1)
    for index, swing in enumerate(reversed(swings)):
        for end, colour in ((swing.at_low, "C0"), (swing.at_high, "C1")):
            axes.barh(index, end - cost, left=cost, color=colour, height=0.6)
    labels = [
        f"{s.key}, {s.constant.range[0]:,g} to {s.constant.range[1]:,g} {s.constant.unit}"
        for s in reversed(swings)
    ]
    axes.set_yticks(range(len(swings)), labels, fontsize=8)
    axes.axvline(cost, color="grey", linewidth=0.8)
    axes.set_xlabel("$ a million answer tokens (blue: low end of the range, orange: high end)")
    axes.set_title(title, fontsize=10)
    figure.savefig(path)


def _of_ratio(ratio: float) -> Demand:
    into = round(REQUEST_TOKENS * ratio / (1 + ratio))
    one = np.array([into], np.int64)
    return Demand(f"{ratio:g}", one, REQUEST_TOKENS - one, 0.0)


def _peer(demand: Demand, economics: Economics, known: Known, name: str) -> Any:
    if name in GPUS:
        return gpu(demand, economics, known, name)
    return list_price(demand, economics, name)


def _tokens(rate: Reals) -> Reals:
    return rate * REQUEST_TOKENS


def _tokens_a_second(rate: float) -> float:
    return rate * REQUEST_TOKENS


def _figure(width: float, height: float, columns: int) -> tuple[Any, list[Any]]:
    """A figure that belongs to no window, and its panels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, [figure.add_subplot(1, columns, i + 1) for i in range(columns)]
