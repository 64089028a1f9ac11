"""`cost` as a user types it."""

from __future__ import annotations

import shlex

import pytest

from emulator.commands.cost import EXAMPLES
from emulator.economics.constants import ECONOMICS

LINES = [line.split("emulator ", 1)[1] for line in EXAMPLES.splitlines() if "emulator " in line]


@pytest.mark.parametrize("line", LINES)
def test_the_examples_of_help_work(command, line):
    result = command(*shlex.split(line))
    assert result.status == 0, result.err
    assert "Estimates: the constants behind prices" in result.out


def test_json_holds_every_constant(command):
    report = command("cost", "--draws", 200, "--json").report
    assert report["assumptions"]["nre.base"]["grade"] == "read"
    names = [offer["name"] for offer in report["offers"]]
    assert names[:3] == ["10 cards, serial", "10 cards, pipelined", "H100"]
    low, median, high = report["offers"][0]["per_million_out"]
    assert 0 < low < median < high
    assert report["card"]["die"][0] < report["card"]["die"][2]


def test_workloads_as_json(command):
    report = command("cost", "--workloads", "--draws", 200, "--json").report
    rows = {(row["workload"], row["prefill"]): row for row in report["workloads"]}
    assert rows["edge", "serial"]["months_first"] == [None, None, None]
    assert rows["voice", "serial"]["meets"]
    assert report["sessions"]["agent"][1]["calls"] == 200


def test_the_tornado_as_json(command):
    report = command("cost", "--tornado", "--json").report
    assert report["swings"][0]["constant"]["unit"]


def test_the_same_seed_prints_the_same(command):
    first = command("cost", "--draws", 500, "--seed", 3).out
    assert command("cost", "--draws", 500, "--seed", 3).out == first
    assert command("cost", "--draws", 500, "--seed", 4).out != first


def test_a_cost_file_of_ones_own(command, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(ECONOMICS.read_text("utf-8").replace("value = 9346", "value = 8000"), "utf-8")
    mine = command("cost", "--draws", 200, "--costs", path, "--json").report
    assert (
        mine["card"]["die"][1] < command("cost", "--draws", 200, "--json").report["card"]["die"][1]
    )


@pytest.mark.parametrize("picture", ["load", "ratio", "months", "tornado"])
def test_pictures(command, tmp_path, picture):
    path = tmp_path / "p.svg"
    result = command("cost", "--draws", 100, "--picture", picture, "--plot", path)
    assert result.status == 0, result.err
    assert "<svg" in path.read_text()


REFUSED = [
    (("--cards", 0), "--cards"),
    (("--draws", 3), "--draws"),
    (("--seed", -1), "--seed"),
    (("--rate", 0), "--rate"),
    (("--rate", "nan"), "--rate"),
    (("--load", "mlperf-8b"), "--rate"),
    (("--load", "nobody"), "--load"),
    (("--load", "7000/5", "--rate", 1), "positions"),
    (("--stale-cost", -1), "--stale-cost"),
    (("--stale-cost", "nan"), "--stale-cost"),
    (("--let", "nre.volume"), "--let"),
    (("--let", "nre.volume=many"), "--let"),
    (("--let", "nre.volume=nan"), "--let"),
    (("--let", "nre.vole=5"), "nre.volume"),
    (("--let", "nre.volume=5"), "1000 to 100000 cards"),
    (("--costs", "nowhere.toml"), "nowhere.toml"),
    (("--workloads", "--tornado"), "--tornado"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED)
def test_what_makes_no_sense(command, words, said):
    command("cost", *words).refused(said)
