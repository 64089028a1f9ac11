"""A server of N cards, simulated exactly.

A card works on one request at a time, first come first served, and how long is known when the
request comes. So a request's end follows from when its card gets free (Lindley's recursion; Kiefer
and Wolfowitz' for one queue before many cards), and no event but an arrival has to be simulated.
"""

from __future__ import annotations

import heapq
from array import array
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emulator.traffic.requests import LATER, Ints, Requests
from emulator.traffic.service_times import ServiceTimes

POLICIES = ("one-queue", "round-robin", "least-work", "sticky")


@dataclass(frozen=True, slots=True)
class Served:
    """What became of each request, in the rows of `requests`; LATER where nothing did."""

    requests: Requests
    times: ServiceTimes
    cards: int
    policy: str
    arrival_ns: Ints
    start_ns: Ints
    first_ns: Ints  # the first answer token is computed
    last_ns: Ints  # the last one is
    card: Ints
    cached: Ints  # prompt tokens whose KV was still there

    @property
    def done(self) -> NDArray[np.bool_]:
        return np.not_equal(self.last_ns, LATER)

    @property
    def refused(self) -> NDArray[np.bool_]:
        """Those that do not fit the chip."""
        return ~self.requests.fits(self.times.positions)

    @property
    def begin_ns(self) -> int:
        """The first arrival, from which everything is counted."""
        return int(self.arrival_ns[self.done].min()) if self.done.any() else 0

    @property
    def end_ns(self) -> int:
        return int(self.last_ns.max()) if self.done.any() else 0

    @property
    def busy_ns(self) -> list[int]:
        """Of each card."""
        spent = self.last_ns - self.start_ns
        return [int(spent[self.done & (self.card == c)].sum()) for c in range(self.cards)]


def simulate(requests: Requests, times: ServiceTimes, cards: int, policy: str) -> Served:
    """Serve all requests that fit; the rest of a session ends with a call that does not."""
    fits = requests.fits(times.positions)
    prompt = np.where(fits, requests.prompt, 1)
    output = np.where(fits, requests.output, 1)
    prefill, decode = times.prefill_ns(prompt), times.decode_ns(prompt, output)
    arrival = array("q", requests.arrival_ns.tobytes())
    prefill_ns, decode_ns = array("q", prefill.tobytes()), array("q", decode.tobytes())
    following, tool_ns = array("q", requests.next.tobytes()), array("q", requests.tool_ns.tobytes())
    sessions, fit = array("q", requests.session.tobytes()), bytearray(fits.tobytes())
    start, first, last, card_of, cached = (_column(len(requests)) for _ in range(5))

    known = np.flatnonzero(requests.arrival_ns != LATER)
    order = known[np.argsort(requests.arrival_ns[known], kind="stable")]
    coming = array("q", order.astype(np.int64).tobytes())
    released: list[tuple[int, int]] = []  # calls whose session has got so far
    place = _placer(requests, times, cards) if policy == "sticky" else _PLACERS[policy](cards)
    at = 0
    while at < len(coming) or released:
        if at < len(coming) and (not released or arrival[coming[at]] <= released[0][0]):
            row = coming[at]
            at += 1
        else:
            row = heapq.heappop(released)[1]
        if not fit[row]:
            continue
        now = arrival[row]
        card, free, kept = place.take(now, row, sessions[row])
        begin = free if free > now else now
        service = int(times.prefill_ns(prompt[row], kept)) if kept else prefill_ns[row]
        start[row], card_of[row], cached[row] = begin, card, kept
        first[row] = begin + service
        end = last[row] = begin + service + decode_ns[row]
        place.give(card, end)
        then = following[row]
        if then != LATER:
            arrival[then] = end + tool_ns[row]
            heapq.heappush(released, (arrival[then], then))
    columns = (arrival, start, first, last, card_of, cached)
    return Served(requests, times, cards, policy, *(_ints(column) for column in columns))


class OneQueue:
    """Whoever has waited longest goes to the card that is free first."""

    def __init__(self, cards: int) -> None:
        self._free = [(0, card) for card in range(cards)]

    def take(self, now: int, row: int, session: int) -> tuple[int, int, int]:
        """Card, when it is free, and the prompt tokens whose KV it holds."""
        free, card = heapq.heappop(self._free)
        return card, free, 0

    def give(self, card: int, end: int) -> None:
        """The card is free from `end` on."""
        heapq.heappush(self._free, (end, card))


class RoundRobin:
    """Each request to the next card, however much that has to do."""

    def __init__(self, cards: int) -> None:
        self._free, self._next = [0] * cards, -1

    def take(self, now: int, row: int, session: int) -> tuple[int, int, int]:
        self._next = (self._next + 1) % len(self._free)
        return self._next, self._free[self._next], 0

    def give(self, card: int, end: int) -> None:
        self._free[card] = end


class LeastWork:
    """Each request at once to the card with the least work before it.

    Whoever knew every answer's length could do so, and nobody would wait longer than in one queue.
    """

    def __init__(self, cards: int) -> None:
        self._free = [0] * cards

    def take(self, now: int, row: int, session: int) -> tuple[int, int, int]:
        card = min(range(len(self._free)), key=self._free.__getitem__)
        return card, self._free[card], 0

    def give(self, card: int, end: int) -> None:
        self._free[card] = end


class Sticky:
    """A session stays on its first card, whose SRAM keeps the KV of the last ones that fit it.

    A call whose prompt is longer than all of its session so far is taken to begin with it.
    """

    def __init__(self, cards: int, prompt: Ints, output: Ints, positions: int) -> None:
        self._free = [0] * cards
        self._home: dict[int, int] = {}
        self._kept: list[OrderedDict[int, int]] = [OrderedDict() for _ in range(cards)]
        self._room = [positions] * cards
        self._prompt, self._output = prompt, output

    def take(self, now: int, row: int, session: int) -> tuple[int, int, int]:
        least = min(range(len(self._free)), key=self._free.__getitem__)
        card = least if session == LATER else self._home.setdefault(session, least)
        kept, prompt = self._kept[card], int(self._prompt[row])
        held = prompt + int(self._output[row]) - 1  # the last answer token is never fed
        known = kept.pop(session, 0)
        self._room[card] += known
        self._make_room(card, held)
        if session == LATER:
            return card, self._free[card], 0
        kept[session] = held
        self._room[card] -= held
        return card, self._free[card], known if known < prompt else 0

    def give(self, card: int, end: int) -> None:
        self._free[card] = end

    def _make_room(self, card: int, positions: int) -> None:
        while self._room[card] < positions:
            self._room[card] += self._kept[card].popitem(last=False)[1]


Placer = OneQueue | RoundRobin | LeastWork
_PLACERS: dict[str, Callable[[int], Placer]] = {
    "one-queue": OneQueue,
    "round-robin": RoundRobin,
    "least-work": LeastWork,
}


def _placer(requests: Requests, times: ServiceTimes, cards: int) -> Sticky:
    return Sticky(cards, requests.prompt, requests.output, times.positions)


def _column(count: int) -> array[int]:
    column = array("q", [LATER])
    return column * count


def _ints(column: array[int]) -> Ints:
    return np.frombuffer(column, np.int64) if column else np.zeros(0, np.int64)
