"""What users of the server would measure, by the names of `vllm bench serve`.

The time to first token ends when the token is computed, not when a client has received it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from emulator.traffic.limits import Limits
from emulator.traffic.randomness import Reals
from emulator.traffic.requests import LATER, NS, Ints
from emulator.traffic.server import Served

PERCENTILES = (50, 90, 95, 99)
MS_NS = NS // 1000
BINS = 60  # of the queue over time


@dataclass(frozen=True, slots=True)
class Latencies:
    """Columns over the requests that were answered; ms."""

    ttft: Reals
    tpot: Reals  # of answers of two tokens and more
    e2el: Reals
    wait: Reals  # before a card began

    @staticmethod
    def of(served: Served) -> Latencies:
        done = served.done
        arrival, first, last = (
            column[done] for column in (served.arrival_ns, served.first_ns, served.last_ns)
        )
        output = served.requests.output[done]
        long = output > 1
        return Latencies(
            (first - arrival) / MS_NS,
            (last - first)[long] / (output[long] - 1) / MS_NS,
            (last - arrival) / MS_NS,
            (served.start_ns[done] - arrival) / MS_NS,
        )


def report(served: Served, limits: Limits | None) -> dict[str, Any]:
    """Every figure of one simulation; of one without an answer, counts alone."""
    requests, done = served.requests, served.done
    completed = int(done.sum())
    counts = {
        "prefill": served.times.hypothesis,
        "cards": served.cards,
        "policy": served.policy,
        "completed": completed,
        "refused": int(served.refused.sum()),
        "unreached": int((~done & ~served.refused).sum()),  # after a refused call of their session
        "failed_in_trace": requests.failed,
    }
    if not completed:
        return counts
    duration_s = (served.end_ns - served.begin_ns) / NS
    inputs, outputs = int(requests.prompt[done].sum()), int(requests.output[done].sum())
    latencies = Latencies.of(served)
    found = counts | {
        "duration": duration_s,
        "total_input_tokens": inputs,
        "total_output_tokens": outputs,
        "cached_input_tokens": int(served.cached[done].sum()),
        "request_throughput": completed / duration_s,
        "output_throughput": outputs / duration_s,
        "total_token_throughput": (inputs + outputs) / duration_s,
    }
    if limits is not None:
        met = int(meets(served, limits).sum())
        found |= {"request_goodput": met / duration_s, "share_within_limits": met / completed}
    for name in ("ttft", "tpot", "e2el"):
        found |= _spread(name, getattr(latencies, name))
    found |= _step_spread(served)
    found |= _spread("wait", latencies.wait)
    busy = [ns / NS / duration_s for ns in served.busy_ns]
    found["utilisation"] = sum(busy) / served.cards
    found["utilisation_by_card"] = busy
    found["queue"] = queue_over_time(served)
    return found


def session_report(served: Served) -> dict[str, Any]:
    """Sessions whose calls follow each other: first arrival to last token, s, tools included.

    One that was not served to its end is counted and left out.
    """
    requests = served.requests
    chained = np.flatnonzero((requests.session != LATER) & (requests.next != LATER))
    if not chained.size:
        return {}
    numbers = np.unique(requests.session[chained])
    index = np.full(int(requests.session.max()) + 1, LATER, np.int64)
    index[numbers] = np.arange(numbers.size)
    rows = np.flatnonzero((requests.session != LATER) & (index[requests.session] != LATER))
    of = index[requests.session[rows]]
    whole = np.ones(numbers.size, np.bool_)
    np.logical_and.at(whole, of, served.done[rows])
    begin, end = np.full(numbers.size, np.iinfo(np.int64).max), np.zeros(numbers.size, np.int64)
    np.minimum.at(begin, of[served.done[rows]], served.arrival_ns[rows][served.done[rows]])
    np.maximum.at(end, of[served.done[rows]], served.last_ns[rows][served.done[rows]])
    seconds = (end - begin)[whole] / NS
    found: dict[str, Any] = {"sessions": int(whole.sum()), "sessions_cut": int((~whole).sum())}
    if seconds.size:
        found["mean_session_s"] = float(seconds.mean())
        values = np.percentile(seconds, PERCENTILES)
        found |= {f"p{p}_session_s": float(v) for p, v in zip(PERCENTILES, values, strict=True)}
    return found


def meets(served: Served, limits: Limits) -> np.ndarray:
    """bool[answered]: which of them stay within all limits. An answer of one token has no tpot."""
    done = served.done
    arrival, first, last = (
        column[done] for column in (served.arrival_ns, served.first_ns, served.last_ns)
    )
    steps = np.maximum(served.requests.output[done] - 1, 1)
    longest = served.times.step_times_ns()[
        (served.requests.prompt + served.requests.output)[done] - 1
    ]
    values = {
        "ttft": first - arrival,
        "tpot": (last - first) / steps,
        "itl": np.where(served.requests.output[done] > 1, longest, 0),
        "e2el": last - arrival,
    }
    good = np.ones(first.size, np.bool_)
    for name, most in limits.most_ms.items():
        good &= values[name] <= most * MS_NS
    return good


def percentile_ms(served: Served, metric: str, percent: float) -> float:
    """One percentile of a metric over the answered requests."""
    if metric == "itl":
        return _of_steps(served, (percent,))[1][0]
    values = getattr(Latencies.of(served), metric)
    return float(np.percentile(values, percent)) if values.size else 0.0


def _spread(name: str, ms: Reals) -> dict[str, float]:
    """Mean and percentiles; the mean of whole nanoseconds does not depend on the order."""
    if not ms.size:
        return {f"mean_{name}_ms": 0.0} | {f"p{p}_{name}_ms": 0.0 for p in PERCENTILES}
    mean = int(np.rint(ms * MS_NS).astype(np.int64).sum()) / ms.size / MS_NS
    percentiles = np.percentile(ms, PERCENTILES)
    return {f"mean_{name}_ms": mean} | {
        f"p{p}_{name}_ms": float(v) for p, v in zip(PERCENTILES, percentiles, strict=True)
    }


def _step_spread(served: Served) -> dict[str, float]:
    """Inter-token latency: every decode step of every answer, weighted by its position."""
    mean, percentiles = _of_steps(served, PERCENTILES)
    return {"mean_itl_ms": mean} | {
        f"p{p}_itl_ms": v for p, v in zip(PERCENTILES, percentiles, strict=True)
    }


def _of_steps(served: Served, percents: tuple[float, ...]) -> tuple[float, list[float]]:
    """How often a step attends to n positions follows from where answers begin and end."""
    done = served.done
    first = served.requests.prompt[done] + 1
    after = served.requests.prompt[done] + served.requests.output[done]
    size = served.times.positions + 2
    begun = np.bincount(first, minlength=size) - np.bincount(after, minlength=size)
    often = np.cumsum(begun)[: size - 1]
    total = int(often.sum())
    if not total:
        return 0.0, [0.0] * len(percents)
    times = served.times.step_times_ns()
    # Steps grow with the position, so the percentile's step is that of the percentile's position.
    upto = np.cumsum(often)
    at = [int(np.searchsorted(upto, p / 100 * total)) for p in percents]
    mean = sum(int(n) * round(float(t)) for n, t in zip(often, times, strict=True) if n) / total
    return mean / MS_NS, [float(times[i]) / MS_NS for i in at]


def queue_over_time(served: Served) -> dict[str, Any]:
    """Requests that wait: mean over time, most at once, and the most in each of some bins."""
    done = served.done
    arrival, start = np.sort(served.arrival_ns[done]), np.sort(served.start_ns[done])
    waiting = np.arange(1, arrival.size + 1) - np.searchsorted(start, arrival, side="right")
    span = max(served.end_ns - served.begin_ns, 1)
    place = ((arrival - served.begin_ns) * BINS // span).clip(0, BINS - 1)
    most = np.zeros(BINS, np.int64)
    np.maximum.at(most, place, waiting)
    waited = int((served.start_ns[done] - served.arrival_ns[done]).sum())
    return {
        "mean": waited / span,
        "most": int(waiting.max()),
        "bin_s": span / BINS / NS,
        "most_by_bin": most.tolist(),
    }


def busy_over_time(served: Served) -> Reals:
    """float64[BINS]: the share of the cards that work, by bin."""
    done = served.done
    span = max(served.end_ns - served.begin_ns, 1)
    edges = served.begin_ns + np.arange(BINS + 1, dtype=np.int64) * span // BINS

    def spent_before(column: Ints) -> Reals:
        """Sum of max(edge - column, 0) for each edge."""
        ordered = np.sort(column)
        sums = np.concatenate([[0], np.cumsum(ordered - served.begin_ns)])
        count = np.searchsorted(ordered, edges)
        return np.asarray(count * (edges - served.begin_ns) - sums[count], np.float64)

    busy = np.diff(spent_before(served.start_ns[done]) - spent_before(served.last_ns[done]))
    return np.asarray(busy / (span / BINS * served.cards))
