"""Leave-one-out: what a record's own deployment says of it, with and without the structure."""

from __future__ import annotations

import json

import pytest

from emulator.cli import main
from emulator.silicon.spec import load_spec
from emulator.timing.left_out import QUANTITIES, leave_one_out, mean_errors
from emulator.timing.validate import Compared, Row

HC1 = load_spec()
ADDED = HC1.deployment["2026-09"].decode_step.value


def row(name: str, measured: float, own: float, deployment: str = "2026-09") -> Row:
    """A record whose step took `measured` us, of which the chip explains `own`."""
    step = Compared(measured, own + ADDED)
    ttft = {h: Compared(1000, 900) for h in ("serial", "pipelined")}
    return Row(name, deployment, step, step, ttft, ttft)


def test_a_structure_that_explains_the_difference_wins():
    """Two records 10 us apart, as the chip says: the structure is exact, the null model is not."""
    left = leave_one_out([row("a", 70, 55), row("b", 80, 65)], HC1)
    steps = [one for one in left if one.quantity == "decode_step"]
    assert [one.model.predicted for one in steps] == pytest.approx([70, 80])
    assert [one.null.predicted for one in steps] == pytest.approx([80, 70])
    assert mean_errors(left)["decode_step"]["model"] == pytest.approx(0)


def test_a_prediction_never_sees_its_own_record():
    """Whatever the record left out says, it is predicted alike."""
    predicted = [
        leave_one_out([row("a", measured, 55), row("b", 66, 55), row("c", 68, 55)], HC1)[0].model
        for measured in (50, 90)
    ]
    assert predicted[0].predicted == predicted[1].predicted == pytest.approx(67)


def test_a_lone_record_is_not_left_out():
    assert leave_one_out([row("a", 70, 55), row("b", 60, 55, "2026-03")], HC1) == []


def test_printed_beside_the_null_model(capsys):
    """The four autumn records end within 500 positions, which the chip reads in one cycle a head:
    to both models their steps are alike, and that is shown.
    """
    assert main(["validate", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["leave_one_out"]
    assert {one["quantity"] for one in found["rows"]} == set(QUANTITIES)
    assert len(found["rows"]) == 12
    errors = found["mean_absolute_error"]["decode_step"]
    assert errors["model"] == pytest.approx(errors["null"])
    assert 0.02 < errors["null"] < 0.03
    assert main(["validate"]) == 0
    assert "left out, us" in capsys.readouterr().out
