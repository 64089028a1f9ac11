"""The timeline: its slices are the run's cycles, and the viewer's own processor loads it."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from emulator.chat.generate import generate
from emulator.chip import Chip
from emulator.cli import main
from emulator.commands.trace import _passes
from emulator.silicon.spec import load_spec
from emulator.timing.trace import chrome_trace

ARGS = ["trace", "--model", "llama-3.1-8b", "--prompt-tokens", "2", "--max-tokens", "3"]


@pytest.fixture(params=["1e9", "7.77e8"])
def trace(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Four passes of Llama 3.1 8B, at clocks of whole and of broken nanoseconds."""
    path = tmp_path / "trace.json"
    assert main([*ARGS, "--out", str(path), "--set", f"clock.frequency={request.param}"]) == 0
    return path


def events(path: Path, phase: str) -> list[dict]:
    return [e for e in json.loads(path.read_text())["traceEvents"] if e["ph"] == phase]


def test_slices_of_a_track_follow_each_other(trace: Path):
    tracks = defaultdict(list)
    for event in events(trace, "X"):
        tracks[event["tid"]].append((round(event["ts"] * 1000), round(event["dur"] * 1000)))
    assert len(tracks) == 15  # tokens and 14 blocks that take time
    for slices in tracks.values():
        for (start, length), (following, _) in pairwise(slices):
            assert length >= 0
            assert start + length <= following


def test_slices_add_up(trace: Path):
    """Cycles on the path of a token's blocks are the token's, and the tokens' the trace's."""
    whole = json.loads(trace.read_text())["otherData"]["cycles"]
    slices = events(trace, "X")
    tokens = [e["args"] for e in slices if e["tid"] == 1]
    paths = [0] * len(tokens)
    for event in slices:
        if event["tid"] != 1:
            paths[event["args"]["token"]] += event["args"]["cycles on the path"]
    assert [token["cycles"] for token in tokens] == paths
    assert sum(paths) == whole
    assert [token["makes"] for token in tokens] == ["", "reply 1", "reply 2", "reply 3"]


def test_a_flow_leads_from_each_token_to_the_next(trace: Path):
    """Start, embedding, 32 layers, the head where it runs, finish in the next token's slice."""
    starts, steps, ends = (events(trace, phase) for phase in "stf")
    begins = [e["ts"] for e in events(trace, "X") if e["tid"] == 1]
    assert [e["ts"] for e in starts] == begins[:-1]
    assert [e["ts"] for e in ends] == begins[1:]
    count = [sum(e["id"] == token for e in steps) for token in range(3)]
    assert count == [33, 34, 34]


def test_a_run_and_its_trace_count_the_same(tiny_image):
    chip = Chip(tiny_image)
    answer = generate(chip, load_spec(), [5, 6, 7], 4)
    texts = [str(token) for token in (5, 6, 7, *answer.token_ids)]
    timeline = chrome_trace(chip.stages, load_spec(), _passes(texts, 3))
    assert timeline["otherData"]["cycles"] == sum(answer.cycles.values())


def test_perfetto_loads_it(trace: Path):
    """The viewer's trace processor finds every slice, on its track, and the flows."""
    processor = pytest.importorskip("perfetto.trace_processor")
    platform = pytest.importorskip("perfetto.trace_processor.platform")
    try:
        binary = platform.PlatformDelegate().get_shell_path(None)
    except Exception:
        pytest.skip("trace_processor cannot be had: perfetto fetches its program on first use")
    config = processor.TraceProcessorConfig(bin_path=binary)
    with processor.TraceProcessor(trace=str(trace), config=config) as viewer:

        def number(query: str) -> int:
            return next(iter(viewer.query(f"select ({query}) as n"))).n

        assert number("select count(*) from slice") == len(events(trace, "X"))
        assert number("select count(distinct track_id) from slice") == 14
        assert number("select count(*) from flow") >= len(events(trace, "s"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["trace", "--model", "llama-9"], "known shapes"),
        (["trace", "hello", "--model", "llama-9"], "no model 'llama-9'"),
        ([*ARGS[:3], "--max-tokens", "0"], "--max-tokens must be at least 1"),
        ([*ARGS[:3], "--prompt-tokens", "0"], "--prompt-tokens must be at least 1"),
        ([*ARGS[:3], "--prompt-tokens", "6144"], "do not fit"),
        ([*ARGS, "--out", "/nowhere/trace.json"], "--out /nowhere/trace.json"),
    ],
)
def test_what_cannot_be_traced(args, message, capsys):
    assert main(args) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
