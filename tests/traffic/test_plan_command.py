"""`plan` as a user types it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys

import pytest

from emulator.commands.plan import EXAMPLES
from emulator.traffic.workloads import workloads

LINES = [line.split("emulator ", 1)[1] for line in EXAMPLES.splitlines() if "emulator " in line]


@pytest.mark.parametrize("line", LINES)
def test_the_examples_of_help_work(command, line):
    result = command(*shlex.split(line))
    assert result.status == 0, result.err
    assert "Estimates: the chip's constants" in result.out
    assert re.search(r"serial", result.out)


def test_help_names_every_load(command):
    shown = command("plan", "--help").out
    for name in workloads():
        assert name in shown


SMALL = ("plan", "--load", "sharegpt-300", "--requests", 100)


def test_both_hypotheses_and_one(command):
    both = command(*SMALL, "--json").report
    assert list(both["hypotheses"]) == ["serial", "pipelined"]
    one = command(*SMALL, "--json", "--prefill", "pipelined").report
    assert one["hypotheses"] == {"pipelined": both["hypotheses"]["pipelined"]}


def test_vllms_names_are_there(command):
    found = command(*SMALL, "--json", "--slo", "ttft=2000,tpot=100").report["hypotheses"]["serial"]
    names = {"completed", "request_throughput", "request_goodput", "output_throughput",
             "total_token_throughput", "mean_ttft_ms", "p99_tpot_ms", "p50_itl_ms",
             "p95_e2el_ms"}  # fmt: skip
    assert names <= set(found)
    assert found["energy"]["watts"] > 0
    assert len(found["utilisation_by_card"]) == 10


def test_the_same_seed_prints_the_same(command):
    assert command(*SMALL, "--seed", 5).out == command(*SMALL, "--seed", 5).out
    assert command(*SMALL, "--seed", 5).out != command(*SMALL, "--seed", 6).out


def test_out_and_back_as_a_trace(command, tmp_path):
    out = tmp_path / "records.jsonl"
    first = command(*SMALL, "--prefill", "serial", "--out", out, "--json").report
    again = command("plan", "--trace", out, "--prefill", "serial", "--json").report
    key = "p99_ttft_ms"
    ours, theirs = (r["hypotheses"]["serial"][key] for r in (first, again))
    assert ours == pytest.approx(theirs, rel=1e-6)
    faster = command("plan", "--trace", out, "--speed", 50, "--cards", 1, "--json").report
    assert faster["hypotheses"]["serial"][key] > theirs


def test_a_cut_trace_says_so(command, tmp_path):
    out = tmp_path / "records.jsonl"
    command(*SMALL, "--prefill", "serial", "--out", out)
    assert command("plan", "--trace", out, "--limit", 10, "--json").report["trace_cut"]
    assert "the first 10 requests" in command("plan", "--trace", out, "--limit", 10).out


def test_the_spread_over_seeds(command):
    words = ("--load", "sharegpt-300", "--cards", 1, "--prefill", "serial", "--seeds", 20, "--json")
    found = command("plan", *words).report["hypotheses"]["serial"]
    for low, median, high in found.values():
        assert low < median < high
    alone = command("plan", *words[:-3], "--json").report["hypotheses"]["serial"]
    assert found["mean_ttft_ms"][0] / 2 < alone["mean_ttft_ms"] < found["mean_ttft_ms"][2] * 2


def test_whole_sessions_of_a_trace(command, tmp_path):
    call = {"input_toks": 1000, "output_toks": 50, "tool_duration_ns": 2 * 10**9}
    long = {"input_toks": 9000, "output_toks": 50, "tool_duration_ns": 0}
    lines = [{"session_id": f"{i}", "arrival_time_ns": i, "sub_requests": [call] * 4}
             for i in range(3)]  # fmt: skip
    lines.append({"session_id": "cut", "arrival_time_ns": 5, "sub_requests": [call, long, call]})
    lines.append({"arrival_time_ns": 7, "input_toks": 5, "output_toks": 5})
    path = tmp_path / "agents.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    found = command("plan", "--trace", path, "--json", "--prefill", "serial").report
    serial = found["hypotheses"]["serial"]
    assert (serial["sessions"], serial["sessions_cut"]) == (3, 1)
    # four answers of 61 ms, three tools of 2 s between them; the last tool is after the answer
    assert serial["mean_session_s"] == pytest.approx(6 + 4 * 0.0611, rel=0.01)
    assert "whole sessions, s" in command("plan", "--trace", path).out
    sticky = command("plan", "--trace", path, "--policy", "sticky", "--json").report
    assert sticky["hypotheses"]["serial"]["cached_input_tokens"] == 0  # no longer prompts


HEAVY = {"numba", "numpy", "rich", "matplotlib"}


@pytest.mark.parametrize("name", ["plan", "cost"])
def test_help_imports_nothing_heavy(name):
    code = (
        "import sys; from emulator.cli import main\n"
        f"try: main([{name!r}, '--help'])\n"
        "except SystemExit: pass\n"
        "print('MODULES', *{module.partition('.')[0] for module in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rpartition("MODULES")[2].split())
    assert "emulator" in loaded
    assert loaded & HEAVY == set()


def test_files(command, tmp_path):
    picture, line = tmp_path / "p.svg", tmp_path / "t.json"
    result = command(*SMALL, "--prefill", "serial", "--plot", picture, "--perfetto", line)
    assert result.status == 0, result.err
    assert "<svg" in picture.read_text()
    assert json.loads(line.read_text())["traceEvents"]


def test_find_draws_its_curve(command, tmp_path):
    picture = tmp_path / "p.svg"
    words = ("--find", "rate", "--slo", "ttft=500", "--plot", picture, "--json")
    found = command("plan", "--load", "500/100", "--requests", 500, *words).report
    assert found["hypotheses"]["serial"]["best"] > 0
    assert "<svg" in picture.read_text()


def test_nobody_can_meet_these_limits(command):
    result = command(*SMALL, "--find", "cards", "--slo", "ttft=0.001")
    assert result.status == 0
    assert "cannot be met; the best that can be had: p99 of ttft" in result.out


def test_a_table_for_llmservingsim(command, tmp_path):
    report = command("plan", "--latency-table", tmp_path, "--prefill", "serial", "--json").report
    assert report["folders"] == [str(tmp_path / "HC1-serial/meta-llama/Llama-3.1-8B/bf16")]


REFUSED = [
    (("--cards", 0), "--cards"),
    (("--cards", -3), "--cards"),
    (("--rate", 0), "--rate"),
    (("--rate", "nan"), "--rate"),
    (("--burstiness", 0), "--burstiness"),
    (("--burstiness", 2, "--arrivals", "poisson"), "--burstiness"),
    (("--duration", -1), "--duration"),
    (("--requests", 0), "requests"),
    (("--requests", 10**9), "requests"),
    (("--users", 0), "--users"),
    (("--users", 3, "--rate", 5), "--rate"),
    (("--users", 3, "--think", -1), "--think"),
    (("--users", 3, "--find", "rate", "--slo", "ttft=1"), "--find"),
    (("--load", "nobody"), "azure-conv"),
    (("--load", "0/5"), "--load"),
    (("--load", "5/x"), "--load"),
    (("--load", "mlperf-8b"), "--rate"),
    (("--load", "mlperf-8b", "--rate", 5, "--arrivals", "recorded"), "recorded"),
    (("--load", "9000/10", "--find", "rate", "--slo", "ttft=9"), "positions"),
    (("--find", "rate"), "--slo"),
    (("--slo", "ttft=fast"), "--slo"),
    (("--seed", -1), "--seed"),
    (("--deployment", "home"), "2026-02-lab"),
    (("--seeds", 1), "--seeds"),
    (("--rate", 1e-300), "--rate"),
    (("--users", 1, "--think", 1e6, "--requests", 10000), "--think"),
    (("--load", "9000/10", "--rate", 1, "--find", "cards", "--slo", "ttft=9"), "positions"),
    (("--trace", "nowhere.csv"), "nowhere.csv"),
    (("--trace", "x", "--rate", 5), "--speed"),
    (("--trace", "x", "--load", "azure-conv"), "not allowed"),
    (("--out", "x.jsonl"), "--prefill"),
    (("--prefill", "serial", "--requests", 5, "--out", "/nowhere/x"), "--out"),
    (("--prefill", "serial", "--requests", 5, "--perfetto", "/nowhere/x"), "--perfetto"),
    (("--latency-table", "/dev/null/x"), "--latency-table"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED)
def test_what_makes_no_sense(command, words, said):
    command("plan", *words).refused(said)
