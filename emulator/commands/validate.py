"""`validate`: the time model against public telemetry of the real chip, row by row."""

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
    recorded_odds,
    spec_of,
)
from emulator.commands.infer import left_out_table
from emulator.terminal.plot import add_plot_option, save_plot
from emulator.terminal.table import table

if TYPE_CHECKING:
    from emulator.timing.left_out import LeftOut
    from emulator.timing.telemetry import Record
    from emulator.timing.validate import Compared, Row

LEFT_OUT = (
    "left out: one constant a deployment, fitted to its other records; alone (null model) and with "
    "the chip's structure. A serial prefill has nothing to fit."
)
WHY_N_MINUS_1 = (
    "A reported rate is N tokens over the time of N - 1 steps, since the first token belongs to "
    "ttft; the decode step here is that time over N - 1, and the predicted rate is N / (N - 1) "
    "over the predicted step."
)


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("validate", help="the time model against real telemetry")
    add_shape_options(parser)
    add_chip_options(parser)
    parser.add_argument("--records", type=Path, metavar="FILE", help="telemetry like records.json")
    add_plot_option(parser)
    parser.set_defaults(command=_validate)


def _validate(args: argparse.Namespace) -> int:
    from emulator.timing.left_out import leave_one_out, mean_errors
    from emulator.timing.pictures import predicted_against_measured
    from emulator.timing.telemetry import RECORDS, read_records
    from emulator.timing.validate import compare, headline, reasons_against, summary

    spec = spec_of(args)
    _, _, stages = model_of(args)
    records, figures = read_records(args.records or RECORDS)
    reasons = [reasons_against(record, spec) for record in records]
    believed = [r for r, why in zip(records, reasons, strict=True) if not why]
    rows = {id(record): compare(record, stages, spec) for record in believed}
    published = headline(figures, stages, spec)
    left = leave_one_out(list(rows.values()), spec)
    if args.plot:
        save_plot(args.plot, lambda path: predicted_against_measured(path, list(rows.values())))
    if args.json:
        report = {
            "schema": 1,
            "model": args.model,
            "chip": spec.name,
            "rows": [
                _row_json(record, why, rows.get(id(record)))
                for record, why in zip(records, reasons, strict=True)
            ],
            "headline": {name: compared.to_json() for name, compared in published.items()},
            "summary": summary(list(rows.values())),
            "leave_one_out": {
                "rows": [one.to_json() for one in left],
                "mean_absolute_error": mean_errors(left),
            },
            "infer": recorded_odds(args),
            "reported_rate_means": WHY_N_MINUS_1,
        }
        print(json.dumps(report))
        return 0
    print(_text(list(rows.values()), published, summary(list(rows.values()))))
    if left:
        print(f"\n{_left_out(left, mean_errors(left))}")
    odds = recorded_odds(args)
    if odds:
        p5, _, p95 = odds["rates"]["1536"]
        print(f"\n{left_out_table(odds['left_out'])}")
        print(f"infer: at 1k in, 1k out {p5:,.0f} to {p95:,.0f} tok/s (p5 to p95)")
    refused = [(r.id, "; ".join(why)) for r, why in zip(records, reasons, strict=True) if why]
    if refused:
        print(f"\n{table(['not believed', 'why'], refused)}")
    print(f"\n{WHY_N_MINUS_1}\n{grades(spec)}")
    return 0


def _row_json(record: Record, reasons: list[str], row: Row | None) -> dict[str, Any]:
    def by_hypothesis(pairs: dict[str, Compared]) -> dict[str, Any]:
        return {name: compared.to_json() for name, compared in pairs.items()}

    return {
        "id": record.id,
        "accepted": row is not None,
        "reasons": reasons,
        "deployment": row and row.deployment,
        "prefill_tokens": record.prefill_tokens,
        "decode_tokens": record.decode_tokens,
        "decode_step_us": row and row.decode_step_us.to_json(),
        "reported_rate": row and row.reported_rate.to_json(),
        "ttft_us": row and by_hypothesis(row.ttft_us),
        "total_time_us": row and by_hypothesis(row.total_time_us),
    }


def _text(rows: list[Row], published: dict[str, Compared], errors: dict[str, Any]) -> str:
    def cells(compared: Compared, digits: int = 1) -> list[str]:
        numbers = (compared.measured, compared.predicted)
        return [*(f"{n:,.{digits}f}" for n in numbers), f"{compared.error:+.1%}"]

    def section(name: str, pairs: list[tuple[str, Compared]], digits: int = 1) -> str:
        head = [name, "measured", "predicted", "error"]
        return table(head, [[row_id, *cells(compared, digits)] for row_id, compared in pairs])

    parts = []
    if rows:
        parts = [
            section("decode step, us", [(r.id, r.decode_step_us) for r in rows], 2),
            section("reported rate, tok/s", [(r.id, r.reported_rate) for r in rows], 0),
        ]
        for hypothesis in rows[0].ttft_us:
            ttft = [(r.id, r.ttft_us[hypothesis]) for r in rows]
            total = [(r.id, r.total_time_us[hypothesis]) for r in rows]
            parts += [section(f"TTFT, us, {hypothesis} prefill", ttft, 0)]
            parts += [section(f"total time, us, {hypothesis} prefill", total, 0)]
    if published:
        parts.append(section("vendor's figures, tok/s", list(published.items()), 0))
    return "\n\n".join([*parts, _errors(errors)])


def _errors(errors: dict[str, Any]) -> str:
    if not errors:
        return "No record can be believed."
    named = {"decode step": errors["decode_step"]}
    named |= {f"TTFT, {name} prefill": error for name, error in errors["ttft"].items()}
    rows = [[name, f"{e['mean']:.1%}", f"{e['max']:.1%}"] for name, e in named.items()]
    return table(["absolute error", "mean", "largest"], rows)


def _left_out(left: list[LeftOut], means: dict[str, dict[str, float]]) -> str:
    rows = [
        [
            f"{one.id}, {one.quantity}",
            f"{one.model.measured:,.1f}",
            f"{one.model.predicted:,.1f}",
            f"{one.model.error:+.1%}",
            f"{one.null.predicted:,.1f}",
            f"{one.null.error:+.1%}",
        ]
        for one in left
    ]
    mean = [
        [f"mean, {quantity}", "", "", f"{e['model']:.1%}", "", f"{e['null']:.1%}"]
        for quantity, e in means.items()
    ]
    head = ["left out, us", "measured", "structure", "error", "null", "error"]
    return f"{table(head, [*rows, *mean])}\n{LEFT_OUT}"
