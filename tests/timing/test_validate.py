"""The time model meets public telemetry, and the checker believes only what adds up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emulator.cli import main
from emulator.timing.telemetry import RECORDS

TRUE = json.loads(RECORDS.read_text())["records"]


@pytest.fixture
def validate(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Run the command with --json, on the shipped records or on others."""

    def run(records: list[dict[str, Any]] | None = None, *options: str) -> dict[str, Any]:
        if records is not None:
            path = tmp_path / "records.json"
            path.write_text(json.dumps({"records": records}))
            options = (*options, "--records", str(path))
        assert main(["validate", "--json", *options]) == 0
        report: dict[str, Any] = json.loads(capsys.readouterr().out)
        return report

    return run


def reply(step_us: float, prompt: int = 20, output: int = 100, **change: Any) -> dict[str, Any]:
    """A record that adds up, as the demo would have sent it."""
    ttft, decode = 0.00115, (output - 1) * step_us * 1e-6
    return {
        "id": "x",
        "deployment": "2026-09",
        "prefill_tokens": prompt,
        "ttft": ttft,
        "prefill_rate": prompt / ttft,
        "decode_tokens": output,
        "decode_rate": output / decode,
        "total_time": ttft + decode + 12e-6,
        **change,
    }


def test_the_public_records(validate):
    """Decode steps within 4 %, 2 % on average; TTFT within 12 % under the better hypothesis."""
    report = validate()
    rows = [row for row in report["rows"] if row["accepted"]]
    assert [row["id"] for row in rows] == [record["id"] for record in TRUE]
    errors = [abs(row["decode_step_us"]["error"]) for row in rows]
    assert max(errors) < 0.04
    assert sum(errors) / len(errors) < 0.02
    assert min(max(abs(r["ttft_us"][h]["error"]) for r in rows) for h in rows[0]["ttft_us"]) < 0.12
    assert abs(report["headline"]["official-1k1k"]["error"]) < 0.02
    assert report["headline"]["official-1k1k"]["measured"] == 16960


def test_the_fakes_are_rejected(validate):
    refused = {row["id"]: row for row in validate()["rows"] if not row["accepted"]}
    assert set(refused) == {"qidu-2", "qidu-3"}
    for row in refused.values():
        assert len(row["reasons"]) == 3
        assert row["decode_step_us"] is None


def test_a_rate_counts_n_tokens_in_n_minus_1_steps(validate):
    """4 tokens at 70 us a step read as 19,048 tok/s, not as 14,286."""
    (row,) = validate([reply(70, output=4)])["rows"]
    assert row["decode_step_us"]["measured"] == pytest.approx(70)
    assert row["reported_rate"]["measured"] == pytest.approx(4 / 3 / 70e-6)
    predicted = row["decode_step_us"]["predicted"]
    assert row["reported_rate"]["predicted"] == pytest.approx(4 / 3 / predicted * 1e6)


def test_unseen_records_get_the_deployments_one_cost(validate):
    """The prediction knows tokens and deployment, never what was measured."""
    rows = validate([reply(step) for step in (60, 70, 80)])["rows"]
    assert len({row["decode_step_us"]["predicted"] for row in rows}) == 1
    rows = validate([reply(70, deployment=name) for name in ("2026-02-lab", "2026-03", "2026-09")])
    steps = [row["decode_step_us"]["predicted"] for row in rows["rows"]]
    assert steps[1] - steps[0] == pytest.approx(3.6)
    assert steps[2] - steps[0] == pytest.approx(10.6)
    changed = validate([reply(70)], "--set", "deployment.2026-09.decode_step=9")["rows"][0]
    assert changed["decode_step_us"]["predicted"] == pytest.approx(steps[2] - 1.6)


def test_longer_contexts_take_longer(validate):
    rows = validate([reply(70, prompt=p, output=o) for p, o in ((20, 9), (3000, 9), (3000, 3000))])
    steps = [row["decode_step_us"]["predicted"] for row in rows["rows"]]
    assert steps == sorted(steps)
    assert steps[0] < steps[2]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"deployment": None, "date": "2026-10-02"}, "2026-09"),
        ({"deployment": None, "date": "2026-05-31"}, "2026-03"),
        ({"deployment": None}, "2026-09"),
    ],
)
def test_deployment_by_date(validate, given, name):
    assert validate([reply(70, **given)])["rows"][0]["deployment"] == name


FAKES = {
    "prefill_rate": ({"prefill_rate": 17500.5}, "prefill_tokens / ttft"),
    "total below its parts": ({"total_time": 0.002}, "total_time less"),
    "total above its parts": ({"total_time": 0.0099}, "total_time less"),
    "round rate": ({"ttft": 0.001, "prefill_rate": 20000.0}, "multiple of 100"),
    "one token": ({"decode_tokens": 1}, "no decode step"),
    "no tokens": ({"decode_tokens": 0}, "decode_tokens is missing"),
    "half a token": ({"prefill_tokens": 20.5}, "prefill_tokens is missing"),
    "negative time": ({"ttft": -0.001}, "ttft is missing"),
    "no number": ({"decode_rate": "fast"}, "decode_rate is missing"),
    "infinite": ({"total_time": float("inf")}, "total_time is missing"),
    "a truth value": ({"ttft": True}, "ttft is missing"),
    "too long": ({"prefill_tokens": 6100}, "do not fit 6144 positions"),
    "another chip": ({"deployment": "2031-01"}, "no deployment 2031-01"),
    "before the chip": ({"deployment": None, "date": "2020-01-01"}, "no deployment 2020-01-01"),
}


@pytest.mark.parametrize(("change", "reason"), FAKES.values(), ids=FAKES)
def test_what_is_not_believed(validate, change, reason):
    """One bad record does not spoil the others, and says what is wrong with it."""
    good, bad = validate([reply(70), reply(70, **change)])["rows"]
    assert good["accepted"]
    assert not bad["accepted"]
    assert any(reason in why for why in bad["reasons"])


def test_no_record_at_all(validate, capsys, tmp_path):
    assert validate([])["summary"] == {}
    (tmp_path / "none.json").write_text('{"records": []}')
    assert main(["validate", "--records", str(tmp_path / "none.json")]) == 0
    assert "No record can be believed" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"records": 3}', '{"records": [3]}', "[" * 10**5, "\udcff", None]
)
def test_a_file_that_holds_no_records(tmp_path, capsys, text):
    path = tmp_path / "records.json"
    if text is not None:
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert main(["validate", "--records", str(path)]) == 2
    error = capsys.readouterr().err
    assert str(path) in error
    assert error.count("\n") == 1


def test_the_table_and_the_picture(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert main(["validate", "--plot", str(tmp_path / "a.svg")]) == 0
    out = capsys.readouterr().out
    assert "made by hand" in out
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")
