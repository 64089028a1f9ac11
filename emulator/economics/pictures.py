"""The pictures of `cost`. matplotlib is imported where it draws, so nothing else needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from emulator.economics.compare import appliance, peers, wins_from
from emulator.economics.constants import Economics
from emulator.economics.demand import Demand
from emulator.economics.draws import Known, at_values
from emulator.economics.payback import payback
from emulator.economics.tornado import Swing
from emulator.economics.workloads import named_workloads, offers, percentiles
from emulator.traffic.service_times import ServiceTimes
from emulator.traffic.source import load_of

REQUEST_TOKENS = 2000  # of a request in the map of ratios, in and out together
RATIOS = tuple(2.0**k for k in np.arange(-4, 5.01, 0.5))
RATIO_PEERS = ("H100", "DeepInfra", "Groq")
TOKEN_RATES = tuple(float(v) for v in np.geomspace(1000, 1_000_000, 31))
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
        width = 4 - 2 * index  # where both cost the same, both can be seen
        axes.plot(rates, band[:, 1], color=f"C{index}", linewidth=width, label=label)
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
    """In how many draws cards are the cheapest of all offers, by ratio and load.

    Lines: the median load from which they are cheaper than some of the others.
    """
    figure, panels = _figure(5.4 * len(times), 4.6, len(times))
    for axes, (hypothesis, table) in zip(panels, times.items(), strict=True):
        tokens = min(REQUEST_TOKENS, table.positions)
        share = np.zeros((len(TOKEN_RATES), len(RATIOS)))
        lines: dict[str, list[float]] = {name: [] for name in RATIO_PEERS}
        for column, ratio in enumerate(RATIOS):
            demand = _of_ratio(ratio, tokens)
            ours = appliance(demand, table, known, cards)
            others = peers(demand, economics, known)
            for row, token_rate in enumerate(TOKEN_RATES):
                rate = token_rate / tokens
                best = np.min(np.broadcast_arrays(*(o.hourly(rate) for o in others)), axis=0)
                share[row, column] = (ours.hourly(rate) <= best).mean()
            for other in others:
                if other.name in lines:
                    from_rate = percentiles(wins_from(ours, other), (50,))[0]
                    lines[other.name].append(from_rate * tokens)
        shown = axes.pcolormesh(
            RATIOS,
            TOKEN_RATES,
            100 * share,
            cmap="Greens",
            vmin=0,
            vmax=100,
            shading="gouraud",
            rasterized=True,
        )
        for index, (name, loads) in enumerate(lines.items()):
            style = ("-", "--", ":")[index]
            axes.plot(RATIOS, loads, style, color="black", linewidth=1.2, label=f"from {name} on")
        axes.set(
            xscale="log", yscale="log", ylim=(TOKEN_RATES[0], TOKEN_RATES[-1]),
            title=f"{hypothesis} prefill", xlabel="tokens in a token out",
            ylabel="tokens a second, in and out",
        )  # fmt: skip
        axes.set_xticks([1 / 16, 1 / 4, 1, 4, 16], ["1/16", "1/4", "1", "4", "16"])
        axes.legend(loc="lower left", frameon=False, fontsize=8)
    figure.colorbar(shown, ax=panels, label="cards are the cheapest offer, % of draws")
    figure.savefig(path, dpi=150)


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
        f"{s.key}, {s.constant.range[0]:,.12g} to {s.constant.range[1]:,.12g} {s.constant.unit}"
        for s in reversed(swings)
    ]
    axes.set_yticks(range(len(swings)), labels, fontsize=8)
    axes.axvline(cost, color="grey", linewidth=0.8)
    axes.set_xlabel("$ a million answer tokens (blue: low end of the range, orange: high end)")
    axes.set_title(title, fontsize=10)
    figure.savefig(path)


def _of_ratio(ratio: float, tokens: int) -> Demand:
    into = min(max(round(tokens * ratio / (1 + ratio)), 1), tokens - 1)
    one = np.array([into], np.int64)
    return Demand(f"{ratio:g}", one, tokens - one, 0.0)


def _figure(width: float, height: float, columns: int) -> tuple[Any, list[Any]]:
    """A figure that belongs to no window, and its panels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, [figure.add_subplot(1, columns, i + 1) for i in range(columns)]
