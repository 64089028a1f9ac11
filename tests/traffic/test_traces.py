"""Traces of every known format, and what is read from them."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json

import numpy as np
import pytest

from emulator.errors import UsageError
from emulator.traffic import trace_lines
from emulator.traffic.requests import LATER
from emulator.traffic.traces import read_trace

GOOD = {
    "Mooncake": [
        '{"timestamp": 0, "input_length": 600, "output_length": 20, "hash_ids": [1, 2]}',
        '{"timestamp": 1500, "input_length": 10, "output_length": 2, "hash_ids": [3]}',
    ],
    "LLMServingSim": [
        '{"input_toks": 600, "output_toks": 20, "arrival_time_ns": 0}',
        '{"input_toks": 10, "output_toks": 2, "arrival_time_ns": 1500000000}',
    ],
    "vLLM": [
        '{"request_id": "a", "input_toks": 600, "output_toks": 20, "arrival_time": 100.5}',
        '{"request_id": "b", "input_toks": 10, "output_toks": 2, "arrival_time": 102.0, '
        '"queued_ts": 1, "scheduled_ts": 2, "first_token_ts": 3, "last_token_ts": 4}',
    ],
    "Azure": [
        "TIMESTAMP,ContextTokens,GeneratedTokens",
        "2023-11-16 18:15:46.6805900,600,20",
        "2023-11-16 18:15:48.1805900,10,2",
    ],
    "BurstGPT": [
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type",
        "0,ChatGPT,600,20,620,Conversation log",
        "1.5,GPT-4,10,2,12,API log",
    ],
}


def write(folder, lines, name="trace", ending="\n"):
    path = folder / name
    path.write_bytes((ending.join(lines) + ending).encode())
    return path


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("packed", [False, True])
def test_the_same_requests_in_every_format(tmp_path, name, packed):
    path = write(tmp_path, GOOD[name])
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    requests, found = read_trace(path)
    assert found == name
    assert requests.arrival_ns.tolist() == [0, 1_500_000_000]
    assert requests.prompt.tolist() == [600, 10]
    assert requests.output.tolist() == [20, 2]
    assert not requests.cut


@pytest.mark.parametrize("name", GOOD)
def test_line_breaks_a_mark_and_blank_lines_do_not_matter(tmp_path, name):
    plain = read_trace(write(tmp_path, GOOD[name]))[0]
    lines = [part for line in GOOD[name] for part in (line, "")]
    odd = write(tmp_path, lines, "odd", "\r\n")
    odd.write_bytes(b"\xef\xbb\xbf" + odd.read_bytes())
    again = read_trace(odd)[0]
    assert again.arrival_ns.tolist() == plain.arrival_ns.tolist()
    assert again.output.tolist() == plain.output.tolist()


def test_agentic_sessions_wait_for_their_answers(tmp_path):
    calls = [{"input_toks": 5 * i, "output_toks": i, "tool_duration_ns": 7 * i} for i in (1, 2, 3)]
    session = {"session_id": "s", "arrival_time_ns": 9, "sub_requests": calls}
    flat = {"input_toks": 4, "output_toks": 4, "arrival_time_ns": 2}
    requests, _ = read_trace(write(tmp_path, [json.dumps(session), json.dumps(flat)]))
    assert requests.arrival_ns.tolist() == [9, LATER, LATER, 2]
    assert requests.next.tolist() == [1, 2, LATER, LATER]
    assert requests.tool_ns.tolist() == [7, 14, 21, 0]
    assert requests.session.tolist() == [0, 0, 0, LATER]


def test_failures_are_counted_and_left_out(tmp_path):
    lines = [*GOOD["BurstGPT"], "2,GPT-4,33,0,33,API log", "2,GPT-4,0,0,0,API log"]
    requests, _ = read_trace(write(tmp_path, lines))
    assert requests.failed == 2
    assert len(requests) == 2


def test_burstgpts_sessions_have_times_of_their_own(tmp_path):
    header = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,"
    lines = [header + "Total tokens,Log Type", "1,8,2.5,GPT-4,5,6,11,x", "2,8,0.1,GPT-4,5,6,11,x"]
    requests, _ = read_trace(write(tmp_path, lines))
    assert requests.session.tolist() == [0, 0]
    assert requests.next.tolist() == [LATER, LATER]


def test_mooncakes_other_names_and_delays(tmp_path):
    lines = ['{"delay": 5, "input_tokens": 3, "output_tokens": 2}'] * 3
    requests, _ = read_trace(write(tmp_path, lines))
    assert requests.arrival_ns.tolist() == [5_000_000, 10_000_000, 15_000_000]


def test_azures_later_stamps(tmp_path):
    lines = [GOOD["Azure"][0], "2024-05-10 00:00:00.009930+00:00,5,5", "2024-05-10T00:00:01Z,5,5"]
    assert read_trace(write(tmp_path, lines))[0].arrival_ns.tolist() == [0, 990_070_000]


def test_a_trace_is_cut_where_the_limit_is(tmp_path):
    requests, _ = read_trace(write(tmp_path, GOOD["Azure"]), limit=1)
    assert len(requests) == 1
    assert requests.cut


def test_a_billion_rows_are_streamed(tmp_path, monkeypatch):
    """The file ends when the limit is reached, whatever may follow."""
    taken = itertools.count()

    def endless(path, file):
        yield 1, GOOD["Azure"][0]
        for number in range(2, 1_000_000_000):
            next(taken)
            yield number, GOOD["Azure"][1]

    monkeypatch.setattr(trace_lines, "_lines", endless)
    requests, _ = read_trace(write(tmp_path, GOOD["Azure"]), limit=1000)
    assert len(requests) == 1000
    assert next(taken) <= 1002


def test_speed_and_fit(tmp_path):
    requests, _ = read_trace(write(tmp_path, GOOD["vLLM"]))
    assert requests.faster(2).arrival_ns.tolist() == [0, 750_000_000]
    assert requests.fits(600).tolist() == [False, True]


MC = '{{"timestamp": {}, "input_length": {}, "output_length": {}}}'
FLAT = '{{"arrival_time_ns": {}, "input_toks": {}, "output_toks": {}}}'
VL = '{{"request_id": "r", "arrival_time": {}, "input_toks": {}, "output_toks": {}}}'
SESSION = '{{"session_id": {}, "arrival_time_ns": {}, "sub_requests": {}}}'
CALL = '{{"input_toks": {}, "output_toks": {}, "tool_duration_ns": {}}}'
AZ, BG = GOOD["Azure"][0], GOOD["BurstGPT"][0]
BGS = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type"


def session(*calls: str) -> str:
    return SESSION.format('"s"', 0, "[" + ", ".join(calls) + "]")


# Lines of a file, then the line that the message must name and the field.
MALFORMED: list[tuple[list[str] | bytes, int | None, str]] = [
    # Mooncake
    ([MC.format(-1, 5, 5)], 1, "timestamp"),
    ([MC.format("NaN", 5, 5)], 1, "timestamp"),
    ([MC.format("Infinity", 5, 5)], 1, "timestamp"),
    ([MC.format("1e400", 5, 5)], 1, "timestamp"),
    ([MC.format('"0"', 5, 5)], 1, "timestamp"),
    ([MC.format("null", 5, 5)], 1, "timestamp"),
    ([MC.format("true", 5, 5)], 1, "timestamp"),
    ([MC.format(10**30, 5, 5)], 1, "timestamp"),
    ([MC.format(9, 5, 5), MC.format(8, 5, 5)], 2, "timestamp"),
    ([MC.format(0, 0, 5)], 1, "input_length"),
    ([MC.format(0, -5, 5)], 1, "input_length"),
    ([MC.format(0, 5.0, 5)], 1, "input_length"),
    ([MC.format(0, '"5"', 5)], 1, "input_length"),
    ([MC.format(0, 10**12, 5)], 1, "input_length"),
    ([MC.format(0, 5, -1)], 1, "output_length"),
    ([MC.format(0, 5, "NaN")], 1, "output_length"),
    ([MC.format(0, 5, "[5]")], 1, "output_length"),
    (['{"timestamp": 0, "input_length": 5}'], 1, "output_length"),
    (['{"timestamp": 0, "output_length": 5}'], 1, "input_length"),
    (['{"input_length": 5, "output_length": 5}'], 1, "timestamp"),
    ([MC.format(0, 5, 5)[:-1] + ', "colour": 1}'], 1, "colour"),
    ([MC.format(0, 5, 5)[:-1] + ', "hash_ids": 1}'], 1, "hash_ids"),
    ([MC.format(0, 5, 5)[:-1] + ', "hash_ids": []}'], 1, "hash_ids"),
    ([MC.format(0, 5, 5)[:-1] + ', "hash_ids": [1.5]}'], 1, "hash_ids"),
    ([MC.format(0, 5, 5)[:-1] + ', "hash_ids": [1, 2]}'], 1, "hash_ids"),
    ([MC.format(0, 5, 5)[:-1] + ', "timestamp": 7}'], 1, "timestamp"),
    ([MC.format(0, 5, 5), MC.format(1, 5, 5)[:-1]], 2, "JSON"),
    ([MC.format(0, 5, 5), "[]"], 2, "object"),
    ([MC.format(0, 5, 5), "7"], 2, "object"),
    ([MC.format(0, 5, 5), "[" * 100_000], 2, "JSON"),
    ([MC.format(0, 5, 5), AZ], 2, "JSON"),
    ([MC.format(0, 5, 5), FLAT.format(0, 5, 5)], 2, "timestamp"),
    ([MC.format(0, 5, 5), "", MC.format(-3, 5, 5)], 3, "timestamp"),
    # LLMServingSim
    ([FLAT.format(-1, 5, 5)], 1, "arrival_time_ns"),
    ([FLAT.format("NaN", 5, 5)], 1, "arrival_time_ns"),
    ([FLAT.format(10**19, 5, 5)], 1, "arrival_time_ns"),
    ([FLAT.format(0, 0, 5)], 1, "input_toks"),
    ([FLAT.format(0, 5, "null")], 1, "output_toks"),
    (['{"arrival_time_ns": 0, "input_toks": 5}'], 1, "output_toks"),
    ([FLAT.format(0, 5, 5)[:-1] + ', "input_tok_ids": [1]}'], 1, "input_tok_ids"),
    ([FLAT.format(0, 5, 5)[:-1] + ', "output_tok_ids": 3}'], 1, "output_tok_ids"),
    ([FLAT.format(0, 5, 5)[:-1] + ', "model": "x"}'], 1, "model"),
    ([session()], 1, "sub_requests"),
    ([session("3")], 1, "sub_requests[0]"),
    ([session(CALL.format(5, 5, -1))], 1, "sub_requests[0].tool_duration_ns"),
    ([session(CALL.format(5, 5, 1), CALL.format(5, 5, "NaN"))], 1, "sub_requests[1].tool"),
    ([session(*[CALL.format(5, 5, 1 << 61)] * 3)], 1, "tool_duration_ns"),
    ([session(CALL.format(0, 5, 1))], 1, "sub_requests[0].input_toks"),
    ([session('{"input_toks": 5, "output_toks": 5}')], 1, "sub_requests[0].tool_duration_ns"),
    ([session(CALL.format(5, 5, 1)[:-1] + ', "x": 1}')], 1, "sub_requests[0].x"),
    ([SESSION.format("7", 0, "[]")], 1, "sub_requests"),
    ([SESSION.format("7", 0, "[" + CALL.format(1, 1, 1) + "]")], 1, "session_id"),
    ([SESSION.format('""', 0, "[" + CALL.format(1, 1, 1) + "]")], 1, "session_id"),
    ([session(CALL.format(5, 5, 1))] * 2, 2, "session_id"),
    (['{"session_id": "s", "sub_requests": []}'], 1, "arrival_time_ns"),
    ([SESSION.format('"s"', -1, "[" + CALL.format(1, 1, 1) + "]")], 1, "arrival_time_ns"),
    # vLLM
    ([VL.format(-1, 5, 5)], 1, "arrival_time"),
    ([VL.format("NaN", 5, 5)], 1, "arrival_time"),
    ([VL.format(2, 5, 5), VL.format(1, 5, 5)], 2, "arrival_time"),
    ([VL.format(2, 5, 5)[:-1] + ', "queued_ts": -1}'], 1, "queued_ts"),
    ([VL.format(2, 5, 5)[:-1] + ', "error": ""}'], 1, "error"),
    ([VL.format(2, 5, 5).replace('"r"', "3")], 1, "request_id"),
    (['{"request_id": "r", "input_toks": 5, "output_toks": 5}'], 1, "arrival_time"),
    # Azure
    ([AZ, "2023-11-16 18:15:46,5"], 2, "GeneratedTokens"),
    ([AZ, "2023-11-16 18:15:46,5,5,5"], 2, "cells"),
    ([AZ, "2023-13-16 18:15:46,5,5"], 2, "TIMESTAMP"),
    ([AZ, "2023-11-16,5,5"], 2, "TIMESTAMP"),
    ([AZ, "yesterday,5,5"], 2, "TIMESTAMP"),
    ([AZ, ",5,5"], 2, "TIMESTAMP"),
    ([AZ, "17,5,5"], 2, "TIMESTAMP"),
    ([AZ, "2023-11-16 18:15:46,x,5"], 2, "ContextTokens"),
    ([AZ, "2023-11-16 18:15:46,5,-5"], 2, "GeneratedTokens"),
    ([AZ, "2023-11-16 18:15:46,5,nan"], 2, "GeneratedTokens"),
    ([AZ, "2023-11-16 18:15:46,5.5,5"], 2, "ContextTokens"),
    ([AZ, "2023-11-16 18:15:46,5,5", "2023-11-16 18:15:45,5,5"], 3, "TIMESTAMP"),
    ([AZ, '"2023-11-16 18:15:46,5,5'], 2, "CSV"),
    (["TIMESTAMP,ContextTokens"], 1, "GeneratedTokens"),
    ([AZ + ",Region"], 1, "Region"),
    ([AZ + ",TIMESTAMP"], 1, "TIMESTAMP"),
    # BurstGPT
    ([BG, "-1,m,5,5,10,x"], 2, "Timestamp"),
    ([BG, "nan,m,5,5,10,x"], 2, "Timestamp"),
    ([BG, ",m,5,5,10,x"], 2, "Timestamp"),
    ([BG, "1,m,5,5,11,x"], 2, "Total tokens"),
    ([BG, "1,m,0,5,5,x"], 2, "Request tokens"),
    ([BG, "1,m,5,,5,x"], 2, "Response tokens"),
    ([BG, "2,m,5,5,10,x", "1,m,5,5,10,x"], 3, "Timestamp"),
    ([BG + ",Colour"], 1, "Colour"),
    ([BG.replace("Model,", "")], 1, "Model"),
    ([BGS, "1,7,m,5,5,10,x"], 2, "Log Type"),
    # none of them
    ([], None, "empty"),
    (["", "", ""], None, "empty"),
    ([AZ], None, "no request"),
    ([BG, "1,m,5,0,5,x"], None, "1 answers of no tokens"),
    (["hello"], 1, "known traces"),
    (['{"prompt": "hello"}'], 1, "known trace"),
    (["{"], 1, "JSON"),
    (["a,b,c", "1,2,3"], 1, "known traces"),
    (b"\xff\xfe\x00\x01\n", 1, "UTF-8"),
    (GOOD["Azure"][0].encode() + b"\n\xff\n", 2, "UTF-8"),
    (b"\x1f\x8b", None, "gzip"),
    (b"\x1f\x8bnot a gzip at all", None, "gzip"),
    (gzip.compress("\n".join(GOOD["Azure"]).encode())[:-12], None, "gzip"),
    (b"x" * (5 << 20), 1, "longer than"),
    (gzip.compress(b" " * (5 << 20)), 1, "longer than"),
]


def test_there_are_enough_of_them():
    assert len(MALFORMED) >= 60


@pytest.mark.parametrize("index", range(len(MALFORMED)))
def test_a_malformed_trace_is_refused_in_one_line(tmp_path, index):
    content, line, field = MALFORMED[index]
    path = tmp_path / "bad"
    path.write_bytes(content if isinstance(content, bytes) else "\n".join(content).encode())
    with pytest.raises(UsageError) as caught:
        read_trace(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert field in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 250
    if line is not None:
        assert f", line {line}" in message


@pytest.mark.parametrize("name", ["missing", "."])
def test_what_is_no_file(tmp_path, name):
    with pytest.raises(UsageError, match="cannot be read"):
        read_trace(tmp_path / name)


@pytest.mark.parametrize("name", GOOD)
def test_a_trace_cut_or_changed_anywhere_is_read_or_refused(tmp_path, name):
    """A small fuzz: every prefix, and 300 random bytes put anywhere."""
    data = write(tmp_path, GOOD[name]).read_bytes()
    drawn = np.random.default_rng(1)
    path = tmp_path / "odd"
    odd = [data[:end] for end in range(len(data))]
    for _ in range(300):
        at = int(drawn.integers(len(data)))
        odd.append(data[:at] + bytes(drawn.integers(0, 256, 2, np.uint8)) + data[at + 1 :])
    for content in odd:
        path.write_bytes(content)
        with contextlib.suppress(UsageError):
            assert (read_trace(path)[0].prompt > 0).all()
