"""The formats of public traces: one reader a format, told apart by the file's first line.

Each reader turns one line into calls. They check everything and repair nothing.

    Mooncake       JSONL  timestamp (ms), input_length, output_length, hash_ids
    LLMServingSim  JSONL  arrival_time_ns, input_toks, output_toks; or sessions of sub_requests
    vLLM           JSONL  request_id, input_toks, output_toks, arrival_time (s), four later stamps
    Azure          CSV    TIMESTAMP (date and time), ContextTokens, GeneratedTokens
    BurstGPT       CSV    Timestamp (s), Model, Request tokens, Response tokens, Total tokens, ...
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from emulator.errors import UsageError
from emulator.fields import parse_json, shown
from emulator.traffic.requests import NS
from emulator.traffic.trace_lines import Row, shown_field

MS, S = NS // 1000, NS
HASH_BLOCK = 512  # tokens of a prefix block of Mooncake

AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
BURSTGPT = ("Timestamp", "Model", "Request tokens", "Response tokens", "Total tokens", "Log Type")
BURSTGPT_SESSION = ("Session ID", "Elapsed time")
VLLM = ("request_id", "input_toks", "output_toks", "arrival_time")
VLLM_LATER = ("queued_ts", "scheduled_ts", "first_token_ts", "last_token_ts")
FLAT = ("arrival_time_ns", "input_toks", "output_toks")
SESSION = ("session_id", "arrival_time_ns", "sub_requests")
CALL = ("input_toks", "output_toks", "tool_duration_ns")
TOKEN_IDS = ("input_tok_ids", "output_tok_ids")

DATE_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)?", re.ASCII
)


WHOLE = re.compile(r"-?\d{1,18}", re.ASCII)
REAL = re.compile(r"-?\d{1,18}\.\d{0,18}(?:[eE][+-]?\d{1,3})?", re.ASCII)


class Call(NamedTuple):
    """One request of a line; times in ns."""

    prompt: int
    output: int
    tool_ns: int = 0


class Arrival(NamedTuple):
    """What a line says: calls that follow each other, the first at `arrival_ns`."""

    arrival_ns: int
    calls: tuple[Call, ...]
    session: str | None = None
    field: str = ""  # the one that holds the arrival, for messages


Read = Callable[[int, str], Arrival]


class Format(NamedTuple):
    """How a file is read: its name for people, and the reader of a line."""

    name: str
    read: Read
    has_header: bool
    sorted: bool  # whether arrivals must not go back
    from_zero: bool  # whether its clock begins at 0, or with the first row


def format_of(path: Path, number: int, first: str) -> Format:
    """The format that the first line shows. Raises UsageError where it shows none."""
    if first.lstrip().startswith("{"):
        row = _json_row(path, number, first)
        if row.has("arrival_time_ns") or row.has("sub_requests"):
            return Format("LLMServingSim", lambda n, t: _llmservingsim(_json_row(path, n, t)),
                          False, False, True)  # fmt: skip
        if row.has("request_id") or row.has("arrival_time"):
            return Format("vLLM", lambda n, t: _vllm(_json_row(path, n, t)), False, True, False)
        if any(row.has(f) for f in ("timestamp", "delay", "input_length", "input_tokens")):
            return Format("Mooncake", _mooncake(path), False, True, True)
        raise UsageError(
            f"{path}, line {number}: holds no field of a known trace, such as timestamp"
        )
    header = tuple(_cells(path, number, first))
    if "TIMESTAMP" in header:
        _header(path, number, header, AZURE, ())
        return Format("Azure", lambda n, t: _azure(_csv_row(path, n, t, header)), True, True, False)
    if "Timestamp" in header:
        _header(path, number, header, BURSTGPT, BURSTGPT_SESSION)
        return Format("BurstGPT", lambda n, t: _burstgpt(_csv_row(path, n, t, header)),
                      True, True, True)  # fmt: skip
    raise UsageError(
        f"{path}, line {number}: {shown(first)} begins none of the known traces: Mooncake, Azure, "
        "BurstGPT, LLMServingSim, vLLM"
    )


def _mooncake(path: Path) -> Read:
    clock = 0  # of the row above, for those that state a delay

    def read(number: int, text: str) -> Arrival:
        nonlocal clock
        row = _json_row(path, number, text)
        when = "delay" if row.has("delay") and not row.has("timestamp") else "timestamp"
        into = "input_tokens" if row.has("input_tokens") else "input_length"
        out = "output_tokens" if row.has("output_tokens") else "output_length"
        row.only((when, into, out), ("hash_ids",))
        prompt = row.tokens(into)
        if row.has("hash_ids"):
            blocks = row.list_of("hash_ids", "block numbers")
            if any(type(block) is not int for block in blocks):
                row.refuse("hash_ids", "must be whole numbers")
            if len(blocks) != -(-prompt // HASH_BLOCK):
                row.refuse("hash_ids", f"{len(blocks)} blocks of {HASH_BLOCK} for {prompt} tokens")
        at = row.time_ns(when, MS)
        clock = clock + at if when == "delay" else at
        return Arrival(clock, (Call(prompt, row.tokens(out, 0)),), None, when)

    return read


def _llmservingsim(row: Row) -> Arrival:
    when = "arrival_time_ns"
    if not row.has("sub_requests"):
        row.only(FLAT, TOKEN_IDS)
        return Arrival(row.time_ns(when, 1), (_sized(row),), None, when)
    row.only(SESSION)
    calls = []
    for index, values in enumerate(row.list_of("sub_requests", "calls")):
        place = f"sub_requests[{index}]"
        if not isinstance(values, dict):
            row.refuse(place, "must be an object")
        call = row.inside(place, values)
        call.only(CALL, TOKEN_IDS)
        calls.append(_sized(call)._replace(tool_ns=call.time_ns("tool_duration_ns", 1)))
    if not calls:
        row.refuse("sub_requests", "must hold at least one call")
    return Arrival(row.time_ns(when, 1), tuple(calls), row.text("session_id"), when)


def _sized(row: Row) -> Call:
    """Input and output, and that a list of their tokens, where there is one, is as long."""
    counts = {"input": row.tokens("input_toks"), "output": row.tokens("output_toks", 0)}
    for side, count in counts.items():
        ids = f"{side}_tok_ids"
        if row.has(ids) and len(row.list_of(ids, "token ids")) != count:
            row.refuse(ids, f"must hold as many as {side}_toks says: {count}")
    return Call(counts["input"], counts["output"])


def _vllm(row: Row) -> Arrival:
    row.only(VLLM, VLLM_LATER)
    row.text("request_id")
    for field in VLLM_LATER:
        if row.has(field):
            row.time_ns(field, S)
    call = Call(row.tokens("input_toks"), row.tokens("output_toks", 0))
    return Arrival(row.time_ns("arrival_time", S), (call,), None, "arrival_time")


def _azure(row: Row) -> Arrival:
    call = Call(row.tokens("ContextTokens"), row.tokens("GeneratedTokens", 0))
    return Arrival(_date_time_ns(row, "TIMESTAMP"), (call,), None, "TIMESTAMP")


def _burstgpt(row: Row) -> Arrival:
    """A session's rows have times of their own, so they do not wait for each other."""
    output = row.tokens("Response tokens", 0)
    prompt = row.tokens("Request tokens", 1 if output else 0)
    if row.tokens("Total tokens", 0) != prompt + output:
        row.refuse("Total tokens", f"must be {prompt} + {output}")
    session = row.cell("Session ID") if row.has("Session ID") else None
    at = row.time_ns("Timestamp", S)
    return Arrival(at, (Call(prompt, output),), session or None, "Timestamp")


def _date_time_ns(row: Row, field: str) -> int:
    """Nanoseconds since 1970 of a date and time of up to 9 decimals, in UTC."""
    found = DATE_TIME.fullmatch(row.text(field))
    if not found:
        row.refuse(field, f"must be a date and time, not {shown(row.text(field))}")
    *parts, fraction = found.groups()
    try:
        moment = datetime(*map(int, parts), tzinfo=timezone.utc)  # type: ignore[arg-type,misc]
    except ValueError as error:
        row.refuse(field, f"{error}: {shown(found[0])}")
    return int(moment.timestamp()) * NS + int((fraction or "0").ljust(9, "0"))


def _json_row(path: Path, number: int, text: str) -> Row:
    try:
        values = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}, line {number}: not JSON: {error}") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path}, line {number}: not an object, but {shown(values)}")
    return Row(path, number, values)


def _csv_row(path: Path, number: int, text: str, header: tuple[str, ...]) -> Row:
    cells = _cells(path, number, text)
    if len(cells) < len(header):
        raise UsageError(f"{path}, line {number}, {header[len(cells)]}: is missing")
    if len(cells) > len(header):
        raise UsageError(f"{path}, line {number}: {len(cells)} cells, not {len(header)}")
    return Row(path, number, dict(zip(header, map(_cell, cells), strict=True)))


def _cells(path: Path, number: int, text: str) -> list[str]:
    if '"' not in text:  # the usual case, without a parser made for each line
        return [cell.strip() for cell in text.split(",")]
    try:
        return [cell.strip() for cell in next(csv.reader([text], strict=True))]
    except (csv.Error, StopIteration) as error:
        raise UsageError(f"{path}, line {number}: not CSV: {error}") from None


def _cell(text: str) -> object:
    """A number where it is written as one, else text."""
    if WHOLE.fullmatch(text):
        return int(text)
    return float(text) if REAL.fullmatch(text) else text


def _header(
    path: Path,
    number: int,
    header: tuple[str, ...],
    required: tuple[str, ...],
    optional: Iterable[str],
) -> None:
    for field in required:
        if field not in header:
            raise UsageError(f"{path}, line {number}, {field}: is missing")
    for index, field in enumerate(header):
        name = shown_field(field)
        if field not in (*required, *optional):
            raise UsageError(f"{path}, line {number}, {name}: is unknown")
        if field in header[:index]:
            raise UsageError(f"{path}, line {number}, {name}: is there twice")
