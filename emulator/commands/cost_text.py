"""What `cost` prints: offers beside each other, a card's parts, and the five workloads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from emulator.terminal.table import table

if TYPE_CHECKING:
    from emulator.economics.constants import Constant
    from emulator.economics.demand import Demand
    from emulator.economics.tornado import Swing
    from emulator.economics.workloads import SessionTime, Verdict
    from emulator.traffic.randomness import Reals

NEVER = "never"


def load_text(
    name: str, demand: Demand, rate: float, rows: list[dict[str, Any]], ours: list[str]
) -> str:
    """Costs at this load, then from which load ours are cheaper than each other offer."""
    out_rate = rate * demand.tokens_out
    left = f"; {demand.left_out:.1%} do not fit the chip and are left out" * (demand.left_out > 0)
    head = (
        f"{name}: {rate:,.2f} requests/s of {demand.tokens_in:,.0f} tokens in and "
        f"{demand.tokens_out:,.0f} out, {out_rate:,.0f} output tokens/s{left}\n"
    )
    costs = [
        [
            row["name"],
            "-" if row["machines"] is None else f"{row['machines']:,.2f}",
            _spread(row["dollars_an_hour"], 2),
            _spread(row["per_million_in"], 4),
            _spread(row["per_million_out"], 4),
            _spread(row["per_million_out_with_prompts"], 3),
        ]
        for row in rows
    ]
    columns = ["median (5 to 95 %)", "machines", "$/h", "$/M in", "$/M out", "$/M out, all in"]
    parts = [head, table(columns, costs)]
    for mine in ours:
        even = [
            [
                row["name"],
                f"{row[mine]['cheaper_in']:.0%}",
                _rates(row[mine]["cheaper_from"]),
                _upper(row[mine]["cheaper_up_to"]),
                f"{row[mine]['cheaper_in_a_full_fleet']:.0%}",
            ]
            for row in rows
            if mine in row
        ]
        columns = [f"{mine}: cheaper than", "draws, here", "from requests/s", "up to",
                   "draws, full fleet"]  # fmt: skip
        parts += ["", table(columns, even)]
    return "\n".join(parts)


def card_text(parts: dict[str, list[float]]) -> str:
    """$ of one card."""
    rows = [
        [name.replace("_nre", " NRE"), *(f"{v:,.0f}" for v in of)] for name, of in parts.items()
    ]
    return table(["$ a card", "5 %", "median", "95 %"], rows)


def swings_text(swings: list[Swing]) -> str:
    """The tornado as numbers."""
    rows = [
        [
            swing.key,
            f"{swing.constant.value:,.12g}",
            f"{low:,.12g} to {high:,.12g} {swing.constant.unit}",
            swing.constant.grade,
            f"{swing.at_low:,.4f}",
            f"{swing.at_high:,.4f}",
        ]
        for swing in swings
        for low, high in [swing.constant.range]
    ]
    return table(["constant", "value", "range", "grade", "$/M at low", "at high"], rows)


def verdict_text(
    verdicts: list[Verdict],
    sessions: dict[str, list[SessionTime]],
    volume: float,
    stale_cost: float,
    life: Reals,
    life_constant: Constant,
) -> str:
    """Limits, costs and months for each workload and hypothesis."""
    from emulator.economics.workloads import percentiles

    limits, costs, months = [], [], []
    for v in verdicts:
        w, label = v.workload, f"{v.workload.name}, {v.hypothesis}"
        ours_ms = ", ".join(f"{name} {ms:,.1f}" for name, ms in v.p99_ms.items())
        theirs = ", ".join(f"{name} {ms:,.0f}" for name, ms in v.peer_ms.items())
        limits.append([label, f"{v.rate:,.3g}", w.limits or "none", ours_ms,
                       "yes" if v.meets else "NO", theirs])  # fmt: skip
        costs.append([label, _spread(percentiles(v.ours_per_million), 3), w.peer,
                      _spread(percentiles(v.peer_per_million), 3), f"{v.cheaper:.0%}"])  # fmt: skip
        months.append([
            label,
            _months(percentiles(v.paid.months(True, stale_cost))),
            _months(percentiles(v.paid.months(False, stale_cost))),
            _money(percentiles(v.paid.stale_cost(True, life), (50,))[0]),
            _money(percentiles(v.paid.stale_cost(False, life), (50,))[0]),
        ])  # fmt: skip
    stale = f", a stale model costs {stale_cost:,.0f} $ a month and server" * (stale_cost > 0)
    bounds = life_constant.range
    lived = f"{bounds[0]:g} to {bounds[1]:g} months" if bounds[0] < bounds[1] else f"{bounds[0]:g}"
    parts = [
        table(["workload, prefill", "requests/s a server", "limits, ms", "p99, ms, simulated",
               "kept", "loaded GPU, p50, ms"], limits),
        table(["$/M answer tokens, all in", "cards", "peer", "its cost", "cheaper in"], costs),
        f"Months from the weights' release until {volume:,.0f} cards have paid{stale};\n"
        f"what a stale model may cost at most, $ a month and server, if it lives {lived}:\n\n"
        + table(["workload, prefill", "first model", "next on its die", "stale, first", "next"],
                months),
    ]  # fmt: skip
    for name, rows in sessions.items():
        parts.append(_sessions(name, rows))
    return "\n\n".join(parts)


def _sessions(name: str, rows: list[SessionTime]) -> str:
    hypotheses = list(rows[0].cards)
    lines = [
        [str(row.calls), *(f"{row.cards[h]:,.1f}" for h in hypotheses), f"{row.gpu_alone:,.1f}",
         f"{row.gpu_loaded:,.1f}", f"{row.tools:,.1f}"]
        for row in rows
    ]  # fmt: skip
    head = [f"{name}: calls", *(f"card, {h}" for h in hypotheses), "GPU alone", "GPU loaded",
            "of which tools"]  # fmt: skip
    return "Seconds of a whole session\n\n" + table(head, lines)


def _spread(of: list[float], digits: int) -> str:
    low, median, high = (f"{value:,.{digits}f}" for value in of)
    return median if low == high else f"{median} ({low} to {high})"


def _rates(of: list[float]) -> str:
    low, median, high = (NEVER if math.isinf(v) else f"{v:,.1f}" for v in of)
    return median if low == high else f"{median} ({low} to {high})"


def _upper(value: float) -> str:
    if math.isinf(value):
        return "any"
    return f"{value:,.1f}" if value else "-"


def _months(of: list[float]) -> str:
    low, median, high = (NEVER if math.isinf(v) else f"{v:,.1f}" for v in of)
    return median if low == high else f"{median} ({low} to {high})"


def _money(value: float) -> str:
    return f"{value:,.0f}" if value > 0 else "-"
