"""The tables by position against the schedule that they were made from, cycle by cycle."""

from __future__ import annotations

import numpy as np
import pytest

from emulator.errors import UsageError
from emulator.silicon.spec import ChipSpec
from emulator.timing.models import HC1_MIX, blank_stages, known_model
from emulator.timing.prefill import decode_seconds, prefill_cycles
from emulator.timing.token_times import TokenTimes
from emulator.traffic.service_times import service_times
from weights.mix import Mix


def ns(cycles: float, spec: ChipSpec) -> int:
    return round(cycles * 1e9 / spec.clock_hz)


@pytest.mark.parametrize("model", ["llama-3.1-8b", "llama-3.2-1b", "smollm2-135m"])
def test_prefill_is_the_schedules(spec, model):
    """Also the pipelined one, which the schedule finds token by token and we by a sum."""
    stages = blank_stages(known_model(model), Mix.parse(HC1_MIX))
    times = service_times(stages, spec, ("serial", "pipelined"))
    for tokens in (1, 2, 3, 22, 300, 2500):
        expected = prefill_cycles(stages, spec, tokens)
        for hypothesis, cycles in expected.items():
            assert times[hypothesis].prefill_ns(np.int64(tokens)) == ns(cycles, spec)


def test_kept_prompt_tokens_cost_nothing(stages, spec, times):
    expected = sum(TokenTimes(stages, spec).prompt(1000, 500).values())
    assert times["serial"].prefill_ns(np.int64(1500), 1000) == ns(expected, spec)
    pipelined = times["pipelined"]
    saved = pipelined.prefill_ns(np.int64(1500)) - pipelined.prefill_ns(np.int64(1500), 1000)
    assert saved == pytest.approx(ns(pipelined.layer_sum[1000], spec), abs=1)  # two roundings


@pytest.mark.parametrize(("prompt", "output"), [(1, 2), (500, 100), (6000, 144)])
def test_decode_is_the_schedules(stages, spec, times, prompt, output):
    expected = decode_seconds(stages, spec, prompt, output) * (output - 1) * 1e9
    assert times["serial"].decode_ns(np.int64(prompt), np.int64(output)) == round(expected)


def test_an_answer_of_one_token_needs_no_step(times):
    assert times["serial"].decode_ns(np.int64(77), np.int64(1)) == 0


def test_a_deployment_adds_its_costs(stages, spec, times):
    later = service_times(stages, spec, ("serial", "pipelined"), "2026-09")
    prompt, output = np.int64(20), np.int64(101)
    added = later["serial"].decode_ns(prompt, output) - times["serial"].decode_ns(prompt, output)
    assert added == 100 * 10_600
    more = later["pipelined"].prefill_ns(prompt) - times["pipelined"].prefill_ns(prompt)
    assert more == 1_024_000


def test_an_unknown_deployment_is_named(stages, spec):
    with pytest.raises(UsageError, match="2026-02-lab"):
        service_times(stages, spec, ("serial",), "1999")
