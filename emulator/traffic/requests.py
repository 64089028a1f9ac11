"""Requests to a server, as columns: when they come, how long they are, what follows them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

NS = 1_000_000_000  # a second; all times of the simulation are whole nanoseconds, so sums are exact
LATER = -1  # arrival of a call that waits for the answer before it; also "no session", "no next"


@dataclass(frozen=True, slots=True)
class Requests:
    """One row a request, every column int64[count]."""

    arrival_ns: Ints  # since the start; LATER if it follows another call of its session
    prompt: Ints  # tokens
    output: Ints  # tokens
    session: Ints  # number of its session, LATER for none
    next: Ints  # row of the call that follows this one's answer, LATER for none
    tool_ns: Ints  # between this answer and that call
    failed: int = 0  # rows of a trace with an answer of no tokens: counted, not simulated
    cut: bool = False  # whether the trace went on

    def __len__(self) -> int:
        return self.arrival_ns.size

    def faster(self, speed: float) -> Requests:
        """The same requests with arrivals `speed` times closer together; tools take as long."""
        ns = np.rint(self.arrival_ns / speed).astype(np.int64)
        return replace(self, arrival_ns=np.where(self.arrival_ns == LATER, LATER, ns))

    def fits(self, positions: int) -> NDArray[np.bool_]:
        """Which of them, prompt and answer together, fit so many positions."""
        return self.prompt + self.output <= positions


def independent(arrival_ns: Ints, prompt: Ints, output: Ints) -> Requests:
    """Requests that follow nothing."""
    none = np.full(arrival_ns.size, LATER, np.int64)
    return Requests(arrival_ns, prompt, output, none, none, np.zeros(arrival_ns.size, np.int64))


def closed_loop(users: int, think_ns: Ints, prompt: Ints, output: Ints) -> Requests:
    """`users` who each ask again `think_ns[row]` after the answer to that row.

    Row i is user i % users' own. Each user thinks once before the first question, so that they do
    not all come at once.
    """
    count = prompt.size
    rows = np.arange(count, dtype=np.int64)
    following = np.where(rows + users < count, rows + users, LATER)
    first = np.where(rows < users, think_ns, LATER)
    return Requests(first, prompt, output, rows % users, following, think_ns)
