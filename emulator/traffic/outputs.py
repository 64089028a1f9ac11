"""A simulation as files: one record a request in vLLM's shape, and a timeline for Perfetto."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from emulator.errors import UsageError
from emulator.traffic.requests import NS
from emulator.traffic.server import Served

MOST_SLICES = 500_000  # requests of a timeline that a viewer still opens


def write_records(path: Path, served: Served) -> int:
    """One JSON object a line for each answered request; how many. Times in seconds.

    Raises UsageError where the file cannot be written.
    """
    rows = np.flatnonzero(served.done)
    _write(path, "--out", (json.dumps(_record(served, int(row))) + "\n" for row in rows))
    return rows.size


def _record(served: Served, row: int) -> dict[str, Any]:
    arrival = int(served.arrival_ns[row])
    return {
        "request_id": f"request-{row}",
        "input_toks": int(served.requests.prompt[row]),
        "output_toks": int(served.requests.output[row]),
        "arrival_time": arrival / NS,
        "queued_ts": arrival / NS,
        "scheduled_ts": int(served.start_ns[row]) / NS,
        "first_token_ts": int(served.first_ns[row]) / NS,
        "last_token_ts": int(served.last_ns[row]) / NS,
    }


def write_timeline(path: Path, served: Served) -> None:
    """A track a card with prefill and decode of each request, and the queue as a counter.

    Raises UsageError for more requests than a viewer opens, or where it cannot be written.
    """
    if served.done.sum() > MOST_SLICES:
        raise UsageError(f"--perfetto: more than {MOST_SLICES:,} requests; simulate fewer")
    events = _events(served)
    first = json.dumps(next(events))
    rest = (",\n" + json.dumps(event) for event in events)
    head, tail = '{"traceEvents": [\n', '\n], "displayTimeUnit": "ms"}\n'
    _write(path, "--perfetto", (part for parts in ([head, first], rest, [tail]) for part in parts))


def _events(served: Served) -> Iterator[dict[str, Any]]:
    yield _named("process_name", 0, f"{served.cards} cards, {served.times.hypothesis} prefill")
    for card in range(served.cards):
        yield _named("thread_name", card, f"card {card}")
    rows = np.flatnonzero(served.done)
    for row in rows:
        card, start = int(served.card[row]), int(served.start_ns[row])
        first, last = int(served.first_ns[row]), int(served.last_ns[row])
        sizes = {
            "request": int(row),
            "input_toks": int(served.requests.prompt[row]),
            "output_toks": int(served.requests.output[row]),
            "waited_ms": (start - int(served.arrival_ns[row])) / 1e6,
        }
        yield _slice("prefill", card, start, first, sizes)
        if last > first:
            yield _slice("decode", card, first, last, sizes)
    changes = [(int(t), 1) for t in served.arrival_ns[rows]]
    changes += [(int(t), -1) for t in served.start_ns[rows]]
    waiting = 0
    for ns, change in sorted(changes):
        waiting += change
        counter = {"name": "waiting", "ph": "C", "pid": 1, "ts": ns / 1000}
        yield counter | {"args": {"requests": max(waiting, 0)}}


def _slice(name: str, card: int, begin: int, end: int, args: dict[str, Any]) -> dict[str, Any]:
    times = {"ts": begin / 1000, "dur": (end - begin) / 1000}
    return {"name": name, "cat": "card", "ph": "X", "pid": 1, "tid": card, **times, "args": args}


def _named(what: str, tid: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": 1, "tid": tid, "args": {"name": name}}


def _write(path: Path, option: str, parts: Iterable[str]) -> None:
    """Under a temporary name, then renamed, so that no half of it is taken for the whole."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(parts)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UsageError(f"{option} {path}: {error.strerror}") from None
