"""A trace file as requests: streamed, checked row by row, and cut after so many."""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np

from emulator.errors import UsageError
from emulator.fields import shown
from emulator.traffic.requests import LATER, Ints, Requests
from emulator.traffic.trace_formats import Arrival, Format, format_of
from emulator.traffic.trace_lines import MOST_NS, lines_of

LIMIT = 2_000_000  # requests that are kept, 48 bytes each


def read_trace(path: Path | str, limit: int = LIMIT) -> tuple[Requests, str]:
    """The first `limit` requests of a file, from its own zero on, and the format's name.

    Memory is bounded by `limit`, however long the file is. Raises UsageError, naming file, line
    and field, for anything that the format does not allow.
    """
    path = Path(path)
    columns = _Columns(path)
    shape: Format | None = None
    cut = False
    for number, text in lines_of(path):
        if shape is None:
            shape = format_of(path, number, text)
            if shape.has_header:
                continue
        if len(columns.prompt) >= limit:
            cut = True
            break
        columns.add(number, shape.read(number, text), shape)
    if shape is None:
        raise UsageError(f"{path}: is empty")
    if not columns.prompt:
        failures = f"; {columns.failed} answers of no tokens" if columns.failed else ""
        raise UsageError(f"{path}: holds no request that was answered{failures}")
    return columns.requests(cut, shape.from_zero), shape.name


class _Columns:
    """What was read so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._arrival, self.prompt, self._output = array("q"), array("q"), array("q")
        self._session, self._next, self._tool = array("q"), array("q"), array("q")
        self._sessions: dict[str, int] = {}
        self._latest = 0
        self.failed = 0

    def add(self, number: int, arrival: Arrival, shape: Format) -> None:
        where = f"{self._path}, line {number}, "
        if shape.sorted and arrival.arrival_ns < self._latest:
            raise UsageError(f"{where}{arrival.field}: comes before the row above; sort the file")
        self._latest = arrival.arrival_ns
        if arrival.arrival_ns + sum(call.tool_ns for call in arrival.calls) >= MOST_NS:
            raise UsageError(f"{where}tool_duration_ns: the session would not end in 146 years")
        session = self._number(arrival, where)
        calls = [call for call in arrival.calls if call.output > 0]
        self.failed += len(arrival.calls) - len(calls)
        for index, call in enumerate(calls):
            row = len(self.prompt)
            self._arrival.append(arrival.arrival_ns if index == 0 else LATER)
            self.prompt.append(call.prompt)
            self._output.append(call.output)
            self._session.append(session)
            self._next.append(row + 1 if index + 1 < len(calls) else LATER)
            self._tool.append(call.tool_ns)

    def _number(self, arrival: Arrival, where: str) -> int:
        """Of the session; one whose calls stand in one line must not come again."""
        if arrival.session is None:
            return LATER
        known = arrival.session in self._sessions
        if known and arrival.field == "arrival_time_ns":
            raise UsageError(f"{where}session_id: {shown(arrival.session)} is there twice")
        return self._sessions.setdefault(arrival.session, len(self._sessions))

    def requests(self, cut: bool, from_zero: bool) -> Requests:
        arrival = _ints(self._arrival)
        if not from_zero:
            arrival = np.where(arrival == LATER, LATER, arrival - arrival[arrival != LATER].min())
        columns = (self.prompt, self._output, self._session, self._next, self._tool)
        prompt, output, session, following, tool_ns = map(_ints, columns)
        return Requests(arrival, prompt, output, session, following, tool_ns, self.failed, cut)


def _ints(column: array[int]) -> Ints:
    return np.frombuffer(column, np.int64)
