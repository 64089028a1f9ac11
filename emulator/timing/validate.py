"""The time model against public telemetry, row by row. Nothing here is fitted to a row."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from emulator.chip import Stage
from emulator.silicon.spec import ChipSpec
from emulator.timing.prefill import HYPOTHESES, decode_seconds, prefill_cycles
from emulator.timing.telemetry import Record, count, positive

HEADLINE_TOKENS = (1024, 1024)  # prompt and reply of the launch deck


@dataclass(frozen=True, slots=True)
class Compared:
    """A measured quantity beside the model's; the error is a fraction of the measured one."""

    measured: float
    predicted: float

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1

    def to_json(self) -> dict[str, float]:
        return {"measured": self.measured, "predicted": self.predicted, "error": self.error}


@dataclass(frozen=True, slots=True)
class Row:
    """One believed record and what the model says of the same request; times in us."""

    id: str
    deployment: str
    decode_step_us: Compared
    reported_rate: Compared  # N tokens over N - 1 steps
    ttft_us: dict[str, Compared]  # by hypothesis
    total_time_us: dict[str, Compared]


def deployment_of(record: Record, spec: ChipSpec) -> str | None:
    """The record's own, or the newest that had begun by its date; None for an unknown one."""
    if record.deployment is not None:
        return record.deployment if record.deployment in spec.deployment else None
    month = record.date[:7] if record.date else "9999"
    begun = [name for name in spec.deployment if name[:7] <= month]
    return begun[-1] if begun else None


def reasons_against(record: Record, spec: ChipSpec) -> list[str]:
    """Why a record is left out: it contradicts itself, or the chip that it claims to be from."""
    reasons = list(record.reasons)
    tokens, positions = record.prefill_tokens + record.decode_tokens, int(spec.kv_sram.positions)
    if tokens > positions:
        reasons.append(f"{tokens} tokens do not fit {positions} positions")
    if deployment_of(record, spec) is None:
        reasons.append(f"no deployment {record.deployment or record.date} is described")
    return reasons


def compare(record: Record, stages: list[Stage], spec: ChipSpec) -> Row:
    """The model's prediction for a record that nothing speaks against."""
    name = deployment_of(record, spec)
    assert name is not None
    costs = spec.deployment[name]
    prompt, output = record.prefill_tokens, record.decode_tokens
    step = 1e6 * decode_seconds(stages, spec, prompt, output) + costs.decode_step.value
    request = {"serial": costs.request_serial, "pipelined": costs.request_pipelined}
    cycles = prefill_cycles(stages, spec, prompt)
    ttft = {h: 1e6 * cycles[h] / spec.clock_hz + request[h].value for h in HYPOTHESES}
    return Row(
        record.id,
        name,
        Compared(1e6 * record.decode_step_s, step),
        Compared(record.decode_rate, 1e6 * output / (output - 1) / step),
        {h: Compared(1e6 * record.ttft_s, ttft[h]) for h in HYPOTHESES},
        {h: Compared(1e6 * record.total_s, ttft[h] + (output - 1) * step) for h in HYPOTHESES},
    )


def headline(
    figures: list[dict[str, Any]], stages: list[Stage], spec: ChipSpec
) -> dict[str, Compared]:
    """The vendor's own figures, in tokens/s, by id, in the oldest deployment: its own laboratory.

    Sightings of the press, which name no prompt and reply, are left out.
    """
    lab = next(iter(spec.deployment.values()))
    rows = {}
    for figure in figures:
        seconds, rate = (
            positive(figure.get(k)) for k in ("seconds_per_token", "tokens_per_second")
        )
        prompt, output = (count(figure.get(k)) for k in ("prompt_tokens", "output_tokens"))
        rate = 1 / seconds if seconds else rate
        if rate and (seconds or (prompt and output > 1)):
            tokens = (prompt, output) if prompt and output > 1 else HEADLINE_TOKENS
            step = decode_seconds(stages, spec, *tokens) + 1e-6 * lab.decode_step.value
            rows[str(figure.get("id"))] = Compared(rate, 1 / step)
    return rows


def summary(rows: list[Row]) -> dict[str, Any]:
    """Mean and largest absolute error over the rows, and the hypothesis with the smaller mean."""
    if not rows:
        return {}

    def spread(errors: list[float]) -> dict[str, float]:
        sizes = [abs(e) for e in errors]
        return {"mean": statistics.fmean(sizes), "max": max(sizes)}

    ttft = {h: spread([row.ttft_us[h].error for row in rows]) for h in HYPOTHESES}
    return {
        "decode_step": spread([row.decode_step_us.error for row in rows]),
        "ttft": ttft,
        "better_hypothesis": min(HYPOTHESES, key=lambda h: ttft[h]["mean"]),
    }
