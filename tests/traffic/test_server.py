"""Sessions, kept KV, closed loops and refusals on a simulated server; and its proof by a peer."""

from __future__ import annotations

import numpy as np
import pytest

from emulator.traffic.requests import LATER, Requests, closed_loop, independent
from emulator.traffic.server import POLICIES, simulate
from emulator.traffic.source import ClosedLoop, load_of, open_load

MS = 1_000_000


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def chain(*, tool_ns: int, prompts: tuple[int, ...], outputs: tuple[int, ...]) -> Requests:
    """One session whose calls follow each other."""
    count = len(prompts)
    arrival = np.full(count, LATER, np.int64)
    arrival[0] = 5 * MS
    following = np.append(np.arange(1, count), LATER).astype(np.int64)
    zeros = np.zeros(count, np.int64)
    return Requests(arrival, ints(*prompts), ints(*outputs), zeros, following, zeros + tool_ns)


def test_a_session_goes_on_after_answer_and_tool(times):
    requests = chain(tool_ns=3 * MS, prompts=(100, 200, 300), outputs=(10, 20, 30))
    served = simulate(requests, times["serial"], 2, "one-queue")
    assert served.arrival_ns[0] == 5 * MS
    assert (served.arrival_ns[1:] == served.last_ns[:-1] + 3 * MS).all()
    assert (served.start_ns == served.arrival_ns).all()


def test_a_session_ends_with_a_call_that_does_not_fit(times):
    requests = chain(tool_ns=0, prompts=(100, 7000, 300), outputs=(10, 20, 30))
    served = simulate(requests, times["serial"], 1, "one-queue")
    assert served.done.tolist() == [True, False, False]
    assert served.refused.tolist() == [False, True, False]


def test_sticky_sessions_keep_their_kv(times):
    requests = chain(tool_ns=0, prompts=(100, 200, 300), outputs=(10, 20, 30))
    served = simulate(requests, times["serial"], 4, "sticky")
    assert served.cached.tolist() == [0, 109, 219]
    assert len(set(served.card.tolist())) == 1
    prefill = served.first_ns - served.start_ns
    serial = times["serial"]
    assert prefill[1] == serial.prefill_ns(np.int64(200), 109)
    assert prefill[1] < serial.prefill_ns(np.int64(200))


def test_a_prompt_that_does_not_begin_with_its_session_is_read_anew(times):
    requests = chain(tool_ns=0, prompts=(100, 90), outputs=(10, 20))
    assert simulate(requests, times["serial"], 1, "sticky").cached.tolist() == [0, 0]


def test_kv_leaves_when_others_need_the_room(times):
    """Two sessions of 4,000 positions do not fit 6,144: the second call finds nothing."""
    session = ints(0, 1, 0)
    requests = Requests(ints(0, MS, 10**9), ints(3000, 3500, 4500), ints(500, 500, 100),
                        session, ints(-1, -1, -1), ints(0, 0, 0))  # fmt: skip
    assert simulate(requests, times["serial"], 1, "sticky").cached.tolist() == [0, 0, 0]
    small = Requests(requests.arrival_ns, ints(2000, 900, 2600), ints(500, 500, 100), session,
                     requests.next, requests.tool_ns)  # fmt: skip
    assert simulate(small, times["serial"], 1, "sticky").cached.tolist() == [0, 0, 2499]


@pytest.mark.parametrize("policy", POLICIES)
def test_what_does_not_fit_is_refused_and_takes_no_time(times, policy):
    requests = independent(ints(0, 0, 0), ints(6143, 6143, 6144), ints(1, 2, 1))
    served = simulate(requests, times["pipelined"], 1, policy)
    assert served.refused.tolist() == [False, True, True]
    assert served.done.tolist() == [True, False, False]


def test_a_closed_loop_has_no_more_requests_than_users(times):
    load = load_of("200/50")
    served = simulate(ClosedLoop(load, 5, 0.0, 400, 1).requests(), times["serial"], 2, "one-queue")
    assert served.done.all()
    events = sorted([(t, 1) for t in served.arrival_ns] + [(t, -1) for t in served.last_ns],
                    key=lambda e: (e[0], e[1]))  # fmt: skip
    assert max(np.cumsum([change for _, change in events])) == 5
    # Without thinking time the cards are never idle, but for the end.
    assert sum(served.busy_ns) > 0.99 * 2 * served.end_ns


def test_users_who_think_ask_less(times):
    think = np.full(100, 10**9, np.int64)
    requests = closed_loop(4, think, np.full(100, 100), np.full(100, 10))
    served = simulate(requests, times["serial"], 1, "one-queue")
    assert served.end_ns / 1e9 == pytest.approx(25, rel=0.02)


@pytest.mark.parametrize("policy", ["one-queue", "round-robin"])
def test_against_a_simulation_event_by_event(times, policy):
    """A clock that goes on in steps of events, with a real queue, as one would write it first."""
    source = open_load(load_of("500/100"), 3, 60.0, "gamma", 0.5, None, 2000)
    requests = source.requests()
    served = simulate(requests, times["serial"], 4, policy)
    service = served.last_ns - served.start_ns
    starts = by_events(requests.arrival_ns.tolist(), service.tolist(), 4, policy)
    assert served.start_ns.tolist() == starts


def by_events(arrivals: list[int], services: list[int], cards: int, policy: str) -> list[int]:
    starts = [0] * len(arrivals)
    queues: list[list[int]] = [[] for _ in range(cards if policy == "round-robin" else 1)]
    ends = [0] * cards  # when each card's work is done; a free card's lies in the past
    coming, now = 0, -1
    while coming < len(arrivals) or any(queues):
        busy = [end for end in ends if end > now]
        nexts = [arrivals[coming]] if coming < len(arrivals) else []
        now = min(nexts + busy) if any(queues) else nexts[0]
        while coming < len(arrivals) and arrivals[coming] <= now:
            queues[coming % len(queues)].append(coming)
            coming += 1
        for card in range(cards):
            queue = queues[card % len(queues)]
            if queue and ends[card] <= now:
                row = queue.pop(0)
                starts[row], ends[card] = now, now + services[row]
    return starts


def test_the_same_seed_gives_the_same_bits(times):
    def bits(seed: int) -> bytes:
        source = open_load(load_of("azure-conv"), seed, None, None, None, None, 3000)
        served = simulate(source.requests(), times["serial"], 2, "one-queue")
        return served.last_ns.tobytes()

    assert bits(1) == bits(1)
    assert bits(1) != bits(2)
