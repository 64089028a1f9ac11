"""The running server against the simulation: 200 requests of a trace, a real HTTP client, 3 cards.

The clock is the wall's, so a foreign load may spoil a run; a fault of ours would spoil each.
"""

from __future__ import annotations

import pytest

pytest.importorskip("httpx")
pytest.importorskip("starlette")

from benchmarks.replay import compare, expected, replay, shortened
from emulator.chip import Chip
from emulator.silicon.spec import load_spec
from emulator.traffic.outputs import write_records
from emulator.traffic.server import simulate
from emulator.traffic.service_times import service_times
from emulator.traffic.source import load_of, open_load
from emulator.traffic.traces import read_trace
from tests.support.serve_process import serving
from weights.rom import open_image

CARDS, BUSY = 3, 0.75
SECONDS = (50, 50, 100, 200)  # of the trace, until one run is undisturbed
WORDS = "[a-z ]*"  # a letter a token, so that each is seen when it is made


def trace_of(path, times, positions, count):
    """`count` requests with ShareGPT's lengths, a sixteenth as long, read from a file."""
    recorded = open_load(load_of("sharegpt-300"), 4, None, "poisson", None, None, count).requests()
    requests = shortened(recorded, times, 16, positions, BUSY, CARDS)
    write_records(path, simulate(requests, times, CARDS, "one-queue"))
    read, name = read_trace(path)
    assert name == "vLLM"
    assert (read.prompt == requests.prompt).all()
    assert (read.output == requests.output).all()
    return read


@pytest.mark.slow
def test_a_replayed_trace_takes_the_time_that_the_simulator_says(tmp_path, served_image):
    """Slower again when this computer cannot keep the pace."""
    image, tries = open_image(served_image), []
    stages = Chip(image, 1).stages
    times = service_times(stages, load_spec(), ("serial",), positions=image.context)["serial"]
    requests = trace_of(tmp_path / "trace.jsonl", times, image.context, 200)
    options = ("--cards", str(CARDS), "--queue", "200", "--pace", "chip", "--prefill", "serial")
    for seconds in SECONDS:
        slow = seconds / (int(requests.arrival_ns.max()) / 1e9)
        with serving(served_image, *options, "--slow", str(slow)) as server:
            seen = replay(server.url, requests, slow, 250, guided_regex=WORDS)
        assert (seen.tokens == requests.output).all()
        rows = compare(seen, expected(seen, requests.prompt, times, CARDS, slow), slow)
        tries.append({row["metric"]: round(row["ratio"], 3) for row in rows})
        if all(abs(ratio - 1) <= 0.05 for ratio in tries[-1].values()):
            return
    raise AssertionError(tries)
