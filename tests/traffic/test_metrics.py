"""Every reported figure against one computed request by request."""

from __future__ import annotations

import json

import numpy as np
import pytest

from emulator.errors import UsageError
from emulator.timing.budget import shape_of, static_parts, total
from emulator.timing.energy import token_energy, values_at
from emulator.timing.schedule import stage_cycles, token_work
from emulator.traffic.energy import server_energy
from emulator.traffic.limits import Limits
from emulator.traffic.metrics import BINS, busy_over_time, percentile_ms, report
from emulator.traffic.outputs import write_records, write_timeline
from emulator.traffic.requests import independent
from emulator.traffic.server import simulate
from emulator.traffic.source import load_of, open_load
from emulator.traffic.traces import read_trace


@pytest.fixture(scope="module")
def served(times):
    source = open_load(load_of("sharegpt-300"), 4, 12.0, None, None, None, 200)
    return simulate(source.requests(), times["serial"], 2, "one-queue")


def test_rates_and_latencies(served):
    found = report(served, Limits.parse("ttft=80,tpot=0.0588"))
    rows = range(200)
    output, duration = served.requests.output, (served.end_ns - served.begin_ns) / 1e9
    ttft = [(served.first_ns[i] - served.arrival_ns[i]) / 1e6 for i in rows]
    tpot = [(served.last_ns[i] - served.first_ns[i]) / 1e6 / (output[i] - 1) for i in rows]
    assert found["completed"] == 200
    assert found["output_throughput"] == pytest.approx(output.sum() / duration)
    assert found["mean_ttft_ms"] == pytest.approx(np.mean(ttft))
    assert found["p95_ttft_ms"] == pytest.approx(np.percentile(ttft, 95))
    assert found["p99_tpot_ms"] == pytest.approx(np.percentile(tpot, 99))
    good = sum(t <= 80 and p <= 0.0588 for t, p in zip(ttft, tpot, strict=True))
    assert 0 < good < 200
    assert found["request_goodput"] == pytest.approx(good / duration)
    assert found["queue"]["mean"] == pytest.approx(
        (served.start_ns - served.arrival_ns).sum() / 1e9 / duration
    )


def test_inter_token_latencies_step_by_step(served, stages, spec):
    """Each answer's steps, one by one, at a few percentiles."""
    step = {}
    for context in range(1, 5000):
        step[context] = served.times.step_times_ns()[context] / 1e6
    cycles = sum(stage_cycles(stages, spec, 700).values())
    assert step[700] == pytest.approx(1e3 * cycles / spec.clock_hz)
    prompt, output = served.requests.prompt.tolist(), served.requests.output.tolist()
    steps = [step[p + k] for p, o in zip(prompt, output, strict=True) for k in range(1, o)]
    found = report(served, None)
    assert found["mean_itl_ms"] == pytest.approx(np.mean(steps), rel=1e-5)  # whole nanoseconds
    for percent in (50, 95, 99):
        expected = np.percentile(steps, percent)
        assert found[f"p{percent}_itl_ms"] == pytest.approx(expected, rel=1e-4)


def test_goodput_counts_the_slowest_step(served):
    longest = percentile_ms(served, "itl", 100)
    everything = report(served, Limits({"itl": longest}))
    assert everything["share_within_limits"] == 1
    assert report(served, Limits({"itl": longest - 1e-4}))["share_within_limits"] < 1


def test_busy_cards_over_time_add_up(served):
    busy = busy_over_time(served)
    assert busy.size == BINS
    assert busy.min() > -1e-9
    assert busy.max() < 1 + 1e-9
    assert busy.mean() == pytest.approx(report(served, None)["utilisation"])


def test_energy_token_by_token(times, stages, spec):
    requests = independent(np.array([0, 0]), np.array([40, 3]), np.array([5, 1]))
    served = simulate(requests, times["serial"], 2, "one-queue")
    seconds = served.end_ns / 1e9
    joules = 0.0
    for prompt, output in ((40, 5), (3, 1)):
        for context in range(1, prompt + output):
            work = token_work(stages, spec, context, context >= prompt)
            joules += sum(token_energy(spec, shape_of(stages), work, 0.0).mid.values())
    idle = 2 * seconds * total(static_parts(values_at(spec), shape_of(stages)))
    found = server_energy(served, stages, spec, 500.0)
    assert found["joules"] == pytest.approx(joules + idle + 500 * seconds, rel=1e-9)
    assert found["watts"] == pytest.approx(sum(found["watts_by_part"].values()))
    low, high = found["joules_range"]
    assert low < found["joules"] < high


def test_the_work_of_a_token_is_linear_in_its_position(stages, spec):
    """What the energy of a whole run rests on."""
    one, two, far = (token_work(stages, spec, c, True) for c in (1, 2, 6144))
    assert far.macs == one.macs + 6143 * (two.macs - one.macs)
    assert far.sram_bits == one.sram_bits + 6143 * (two.sram_bits - one.sram_bits)


def test_the_records_are_a_trace_again(served, tmp_path):
    assert write_records(tmp_path / "out.jsonl", served) == 200
    again, name = read_trace(tmp_path / "out.jsonl")
    assert name == "vLLM"
    begin = served.arrival_ns.min()
    assert np.abs(again.arrival_ns - (served.arrival_ns - begin)).max() <= 1
    assert again.prompt.tolist() == served.requests.prompt.tolist()
    assert list(tmp_path.iterdir()) == [tmp_path / "out.jsonl"]


def test_the_timeline_has_every_request_on_its_card(served, tmp_path):
    write_timeline(tmp_path / "t.json", served)
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    slices = [e for e in events if e["ph"] == "X"]
    assert sum(e["name"] == "prefill" for e in slices) == 200
    assert sum(e["dur"] for e in slices) == pytest.approx(sum(served.busy_ns) / 1000)
    waiting = [e["args"]["requests"] for e in events if e["ph"] == "C"]
    assert waiting[-1] == 0
    assert max(waiting) >= 1


@pytest.mark.parametrize("text", ["ttft", "ttft=", "ttft=0", "ttft=-1", "ttft=nan", "ttft=inf",
                                  "speed=3", "ttft=1,ttft=2", "", "ttft=1,"])  # fmt: skip
def test_limits_that_make_no_sense(text):
    with pytest.raises(UsageError, match="--slo"):
        Limits.parse(text)


def test_nothing_answered(times):
    served = simulate(
        independent(np.array([0]), np.array([7000]), np.array([1])), times["serial"], 1, "one-queue"
    )
    found = report(served, None)
    assert found["completed"] == 0
    assert found["refused"] == 1
