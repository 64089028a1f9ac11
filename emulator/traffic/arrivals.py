"""When requests come: constant gaps, Poisson, gamma, or as many each minute as were recorded.

Burstiness is the shape of the gamma distribution, as in `vllm bench serve`: 1 is Poisson, below 1
comes in bursts. The gaps' standard deviation over their mean is 1 / sqrt(burstiness).
"""

from __future__ import annotations

import numpy as np

from emulator.errors import UsageError
from emulator.traffic.randomness import Stream
from emulator.traffic.requests import NS, Ints
from emulator.traffic.workloads import ARRIVALS, THINK, Workload

PROCESSES = ("recorded", "constant", "poisson", "gamma")
MINUTE_S = 60


def arrivals(
    process: str, rate: float, count: int, seed: int, burstiness: float, load: Workload | None
) -> Ints:
    """int64[count], ns, ascending: `count` requests at `rate` a second on average.

    Raises UsageError for `recorded` where the load has no record of its minutes.
    """
    stream = Stream(seed, ARRIVALS)
    if process == "recorded":
        return _recorded(rate, count, stream, load)
    if process == "constant":
        gaps = np.ones(count)
    elif process == "poisson":
        gaps = stream.exponential(count)
    else:
        gaps = stream.gamma(burstiness, count) / burstiness
    # Rounded gap by gap, since whole numbers add up to the same everywhere.
    return np.cumsum(np.rint(gaps * (NS / rate)).astype(np.int64))


def think_times(mean_s: float, count: int, seed: int) -> Ints:
    """int64[count], ns: exponential, or all 0."""
    return np.rint(Stream(seed, THINK).exponential(count) * mean_s * NS).astype(np.int64)


def _recorded(rate: float, count: int, stream: Stream, load: Workload | None) -> Ints:
    """The load's own minutes, one after another and again, stretched to the rate."""
    if load is None or load.rate is None or load.seconds is None or not load.requests_a_minute:
        name = load.name if load else "this load"
        raise UsageError(f"--arrivals recorded: {name} has no record of its minutes; use poisson")
    counts = load.requests_a_minute
    parts: list[Ints] = []
    begin_ns, have = 0, 0
    while have < count:
        for index, in_minute in enumerate(counts):
            last = index == len(counts) - 1  # the record ends within it
            seconds = load.seconds - MINUTE_S * index if last else MINUTE_S
            length = round(seconds * NS * load.rate / rate)
            if in_minute:
                gaps = stream.gamma(load.minute_burstiness, in_minute + 1)
                at = np.cumsum(gaps)
                within = np.rint(at[:-1] / at[-1] * length).astype(np.int64)
                parts.append(begin_ns + np.minimum(within, length - 1))
            begin_ns += length
            have += in_minute
    return np.concatenate(parts)[:count]
