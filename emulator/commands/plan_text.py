"""What `plan` prints: the reports of its simulations as tables, a column a hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from emulator.terminal.table import table

if TYPE_CHECKING:
    from emulator.traffic.limits import Limits
    from emulator.traffic.mlperf import Entry, Result
    from emulator.traffic.search import Point

Cell = Callable[[dict[str, Any]], str]


def report_text(reports: dict[str, dict[str, Any]], limits: Limits | None) -> str:
    """Counts, rates, latencies, load and energy."""
    names = list(reports)
    parts = [_section("requests", names, reports, [
        ("completed", lambda r: f"{r['completed']:,}"),
        ("refused: longer than the chip's context", lambda r: f"{r['refused']:,}"),
        ("not reached, after a refused call", lambda r: f"{r['unreached']:,}"),
        ("failed in the trace, left out", lambda r: f"{r['failed_in_trace']:,}"),
    ])]  # fmt: skip
    if not all(r["completed"] for r in reports.values()):
        return f"{parts[0]}\n\nNothing was answered."
    rates: list[tuple[str, Cell]] = [
        ("requests/s", lambda r: f"{r['request_throughput']:,.2f}"),
        ("output tokens/s", lambda r: f"{r['output_throughput']:,.0f}"),
        ("all tokens/s", lambda r: f"{r['total_token_throughput']:,.0f}"),
        ("seconds", lambda r: f"{r['duration']:,.1f}"),
    ]
    if limits is not None:
        rates += [
            ("goodput, requests/s", lambda r: f"{r['request_goodput']:,.2f}"),
            (f"within {limits}", lambda r: f"{r['share_within_limits']:.1%}"),
        ]
    parts.append(_section("rates", names, reports, rates))
    parts.append(_latencies(reports))
    if all("mean_session_s" in report for report in reports.values()):
        names_s = ("mean", "p50", "p95", "p99")
        parts.append(_section("whole sessions, s", names, reports, [
            ("sessions", lambda r: f"{r['sessions']:,}"),
            ("cut by a refused call, left out", lambda r: f"{r['sessions_cut']:,}"),
            *((name, _session(name)) for name in names_s),
        ]))  # fmt: skip
    parts.append(_section("load and energy (estimate)", names, reports, [
        ("busy cards", lambda r: f"{r['utilisation']:.1%}"),
        ("least and most busy card",
         lambda r: f"{min(r['utilisation_by_card']):.1%} {max(r['utilisation_by_card']):.1%}"),
        ("waiting: mean", lambda r: f"{r['queue']['mean']:,.2f}"),
        ("waiting: most", lambda r: f"{r['queue']['most']:,}"),
        ("prompt tokens whose KV was kept", lambda r: f"{r['cached_input_tokens']:,}"),
        ("W, server", lambda r: f"{r['energy']['watts']:,.0f}"),
        *((f"  {part}", _watts(part)) for part in reports[names[0]]["energy"]["watts_by_part"]),
        ("J an output token", lambda r: f"{r['energy']['joule_per_output_token']:,.3f}"),
    ]))  # fmt: skip
    return "\n\n".join(parts)


def measured_text(reports: dict[str, dict[str, Any]], measured: Sequence[Mapping[str, Any]]) -> str:
    """What others measured with the same requests, beside ours."""
    rows = [
        [
            f"cards: {report['cards']}, {hypothesis} (simulated)",
            *_measured(report["duration"], report),
        ]
        for hypothesis, report in reports.items()
    ]
    rows += [[f"{row['system']} (measured)", *_measured(row["seconds"], row)] for row in measured]
    return table(["the same requests", "seconds", "output tokens/s", "mean ttft", "e2el, ms"], rows)


def _measured(seconds: float, row: Mapping[str, Any]) -> list[str]:
    figures = (row["output_throughput"], row["mean_ttft_ms"], row["mean_e2el_ms"])
    return [f"{seconds:,.1f}", *(f"{figure:,.0f}" for figure in figures)]


def _session(name: str) -> Cell:
    return lambda r: f"{r[f'{name}_session_s']:,.3f}"


def _watts(part: str) -> Cell:
    return lambda r: f"{r['energy']['watts_by_part'][part]:,.1f}"


def _latencies(reports: dict[str, dict[str, Any]]) -> str:
    columns = ("mean", "p50", "p90", "p95", "p99")
    rows = []
    for hypothesis, report in reports.items():
        for metric, digits in (("ttft", 2), ("tpot", 4), ("itl", 4), ("e2el", 2)):
            cells = [f"{report[f'{column}_{metric}_ms']:,.{digits}f}" for column in columns]
            rows.append([f"{metric}, {hypothesis}", *cells])
    return table(["latency, ms", *columns], rows)


def _section(
    title: str, names: list[str], reports: dict[str, dict[str, Any]], rows: list[tuple[str, Cell]]
) -> str:
    lines = [[label, *(cell(reports[name]) for name in names)] for label, cell in rows]
    return table([title, *names], lines)


def seeds_text(found: dict[str, dict[str, list[float]]], seeds: int) -> str:
    """The spread of the main figures over the seeds."""
    rows = [
        [f"{name}, {hypothesis}", *(f"{value:,.3f}" for value in values)]
        for hypothesis, figures in found.items()
        for name, values in figures.items()
    ]
    if not rows:
        return "Nothing was answered."
    return table([f"over {seeds} seeds", "5 %", "median", "95 %"], rows)


def found_text(
    find: str, found: dict[str, Any], curves: dict[str, list[Point]], limits: Limits
) -> str:
    """The best for each hypothesis, then the curve of it."""
    lines = []
    for hypothesis, result in found.items():
        there = ", ".join(f"p99 of {name} {ms:,.2f} ms" for name, ms in result["p99_ms"].items())
        if result["best"] is None:
            lines.append(f"{hypothesis}: {limits} cannot be met; the best that can be had: {there}")
            continue
        best = f"{result['best']:,.2f} requests/s" if find == "rate" else f"{result['best']} cards"
        tokens = result["report"]["output_throughput"]
        busy = result["report"]["utilisation"]
        lines.append(
            f"{hypothesis}: {best}, {tokens:,.0f} output tokens/s, cards {busy:.0%} busy; {there}"
        )
    for hypothesis, points in curves.items():
        rows = [
            [f"{p.load:.0%}", f"{p.rate:,.2f}", *(f"{ms:,.1f}" for ms in _points(p))]
            for p in points
        ]
        head = ["load", "requests/s", "TTFT p50", "p95", "p99 ms", "whole answer p99"]
        lines.append(f"\n{hypothesis}\n{table(head, rows)}")
    return "\n".join(lines)


def _points(p: Point) -> tuple[float, float, float, float]:
    return p.p50_ms, p.p95_ms, p.p99_ms, p.e2e_p99_ms


def mlperf_text(ours: list[Result], official: list[Entry], chip: str) -> str:
    """Output tokens a second of whole systems."""

    def cell(value: float | None) -> str:
        return "-" if value is None else f"{value:,.0f}"

    def line(name: str, entry: str, n: int, *values: float | None, tpot: float) -> list[str]:
        return [name, entry, str(n), *map(cell, values), f"{tpot:,.2f}"]

    rows = [
        line(f"{chip}, {r.hypothesis} (simulated)", "-", r.cards, r.offline, r.server,
             r.interactive, r.server_ttft_p99_ms, tpot=r.server_tpot_p99_ms)
        for r in ours
    ]  # fmt: skip
    rows += [
        line(e.system, e.entry, e.devices, e.offline, e.server, e.interactive,
             e.server_ttft_p99_ms, tpot=e.server_tpot_p99_ms)
        for e in official
    ]  # fmt: skip
    head = ["output tokens/s", "entry", "n", "Offline", "Server", "Interactive",
            "Server TTFT p99 ms", "TPOT p99 ms"]  # fmt: skip
    return (
        f"{table(head, rows)}\n\nOfficial rows: MLPerf Inference v5.1, llama3.1-8b, closed, "
        "datacenter. Ours is a simulation with 778 tokens in and 128 out, and no submission;\n"
        "accuracy is not tested, and 3 and 6 bits would have to meet MLPerf's 99 %."
    )
