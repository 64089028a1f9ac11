"""Public telemetry of the real chip: read, and checked for being what a program measured.

A record is one reply's statistics as the demo sent them. `decode_rate` is N tokens over the time
of the N - 1 steps after the first token, which `ttft` pays for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.errors import UsageError
from emulator.fields import read_object

RECORDS = Path(__file__).with_name("records.json")
MAX_BYTES = 64 << 20

RATE_TOLERANCE = 1e-3  # prefill_rate is prefill_tokens / ttft, but a publisher may have rounded
RESIDUE_S = (-1e-6, 64e-6)  # total_time less ttft and decode: 8 to 32 us in all known records
ROUND_RATE = 100  # a quotient of a count and a time is no whole multiple of this


@dataclass(frozen=True, slots=True)
class Record:
    """One reply; `reasons` says why it is not believed, and is empty if it is."""

    id: str
    deployment: str | None
    date: str | None
    prefill_tokens: int
    ttft_s: float
    decode_tokens: int
    decode_rate: float  # tokens/s, as reported
    total_s: float
    reasons: tuple[str, ...]

    @property
    def decode_step_s(self) -> float:
        """Time of one step: the reported rate counts N tokens in the time of N - 1."""
        return self.decode_tokens / self.decode_rate / (self.decode_tokens - 1)


def read_records(path: Path | str = RECORDS) -> tuple[list[Record], list[dict[str, Any]]]:
    """Records, believed or not, and headline figures of a file in the schema of records.json.

    Raises UsageError, naming the file, when it is no such file at all.
    """
    path = Path(path)
    data = read_object(path, MAX_BYTES, UsageError).values
    if "records" not in data:
        raise UsageError(f"{path}: must hold an object with a list of records")
    records, rejected, headline = (data.get(k, []) for k in ("records", "rejected", "headline"))
    for rows in (records, rejected, headline):
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UsageError(f"{path}: records, rejected and headline must be lists of objects")
    rows = [*records, *rejected]
    return [_record(row, f"row {i + 1}") for i, row in enumerate(rows)], headline


def _record(row: dict[str, Any], place: str) -> Record:
    counts = {key: count(row.get(key)) for key in ("prefill_tokens", "decode_tokens")}
    keys = ("ttft", "prefill_rate", "decode_rate", "total_time")
    reals = {key: positive(row.get(key)) for key in keys}
    values = {**counts, **reals}
    absent = [f"{key} is missing or no positive number" for key, v in values.items() if not v]
    return Record(
        id=str(row.get("id", place)),
        deployment=_text(row.get("deployment")),
        date=_text(row.get("date")),
        prefill_tokens=counts["prefill_tokens"],
        ttft_s=reals["ttft"],
        decode_tokens=counts["decode_tokens"],
        decode_rate=reals["decode_rate"],
        total_s=reals["total_time"],
        reasons=tuple(absent or _contradictions(values)),
    )


def _contradictions(row: dict[str, float]) -> list[str]:
    """What the numbers of one record say against each other."""
    reasons = []
    if row["decode_tokens"] < 2:
        reasons.append("a reply of one token has no decode step")
    rate = row["prefill_tokens"] / row["ttft"]
    if abs(rate / row["prefill_rate"] - 1) > RATE_TOLERANCE:
        reasons.append(f"prefill_tokens / ttft is {rate:,.1f}, not {row['prefill_rate']:,.1f}")
    residue = row["total_time"] - row["ttft"] - row["decode_tokens"] / row["decode_rate"]
    low, high = RESIDUE_S
    if not low <= residue <= high:
        reasons.append(
            f"total_time less ttft and decode time is {residue * 1e6:,.0f} us, "
            f"not 0 to {high * 1e6:.0f} us"
        )
    if any(row[key] % ROUND_RATE == 0 for key in ("prefill_rate", "decode_rate")):
        reasons.append(f"a rate is a multiple of {ROUND_RATE}: made by hand")
    return reasons


def count(value: Any) -> int:
    """A whole number of tokens, or 0 for anything else."""
    return value if type(value) is int and 0 < value < 1 << 24 else 0


def positive(value: Any) -> float:
    """A time or rate, or 0 for anything that is none."""
    real = type(value) in (int, float) and 0 < value < 1e12 and math.isfinite(value)
    return float(value) if real else 0.0


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
