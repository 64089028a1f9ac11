"""GET /hardwired/die: the floor plan and schedule that the page draws."""

from __future__ import annotations

import pytest

from emulator.serve.die import die_report
from emulator.silicon.spec import load_spec
from emulator.timing.models import HC1_MIX, MODELS, blank_stages
from emulator.timing.schedule import token_cycles
from weights.mix import Mix

HC1 = load_spec()
STAGES = blank_stages(MODELS["llama-3.2-1b"], Mix.parse(HC1_MIX))


@pytest.mark.parametrize("context", [1, 1000])
def test_uses_end_with_the_token_and_alike_layers_share_them(context):
    report = die_report(STAGES, HC1, context)
    assert report["cycles"] == sum(token_cycles(STAGES, HC1, context, True).values())
    ends = [
        stage["begin"] + use[2]
        for stage in report["stages"]
        for use in report["uses"][stage["uses"]]
    ]
    assert max(ends) == report["cycles"]
    assert len(report["stages"]) == 18
    assert len(report["uses"]) < 6  # of 16 layers, embedding and head
    assert report["energy"]["low"] < report["energy"]["mid"] < report["energy"]["high"]
