"""Many users: capped by units, KV SRAM and watts; the dream of 33 says what it takes."""

from __future__ import annotations

import json

import pytest

from emulator.cli import main
from emulator.silicon.spec import load_spec
from emulator.timing.models import HC1_MIX, MODELS, blank_stages
from emulator.timing.prefill import pipelined_aggregate, prefill_cycles
from emulator.timing.users import many_users, needs
from weights.mix import Mix

HC1 = load_spec()
STAGES = blank_stages(MODELS["llama-3.1-8b"], Mix.parse(HC1_MIX))


def test_the_memory_sets_the_number():
    """6,144 positions hold four users of 1,536 and one of 6,144."""
    four, one = (many_users(STAGES, HC1, context, 33) for context in (1536, 6144))
    assert (four.served, one.served) == (4, 1)
    assert one.tokens_per_second == pytest.approx(HC1.clock_hz / 62922)
    assert four.tokens_per_second == pytest.approx(4 * HC1.clock_hz / 60330, rel=0.02)


def test_the_card_sets_the_rate():
    """Four users of owned adders ask for more than 200 W, which is said."""
    four = many_users(STAGES, HC1, 1536, 4)
    assert four.power_w > HC1.published.power.value
    assert four.within_power < four.tokens_per_second
    alone = many_users(STAGES, HC1, 1536, 1)
    assert alone.within_power == alone.tokens_per_second


def test_shared_adders_serve_one_at_a_time():
    shared = HC1.with_value("fabric.owned", 0)
    gain = [many_users(STAGES, shared, 1536, n).tokens_per_second for n in (1, 4)]
    assert gain[0] <= gain[1] < 1.15 * gain[0]


def test_shared_adders_take_a_prompt_token_by_token():
    shared = prefill_cycles(STAGES, HC1.with_value("fabric.owned", 0), 9)
    assert shared["pipelined"] == shared["serial"] == prefill_cycles(STAGES, HC1, 9)["serial"]


def test_what_546_000_take():
    """Square millimetres for attention and KV of all users, and kilowatts."""
    aggregate = pipelined_aggregate(STAGES, HC1, 1536)
    area, power = needs(STAGES, HC1, 1536, aggregate)
    assert aggregate.tokens_per_second > 500_000
    assert area > 3 * HC1.published.die.value
    assert power > 2000


def test_command(capsys):
    assert main(["cycles", "--users", "4", "--context", "1536,6144", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["served"] for row in rows] == [4, 1]
    assert main(["cycles", "--users", "4", "--context", "1536"]) == 0
    assert "users that fit" in capsys.readouterr().out
    assert main(["cycles", "--users", "0"]) == 2


def test_users_whom_a_window_leaves_room():
    """An SRAM of 4,096 positions a layer holds two users at 1,536, and one beyond its window."""
    stages = blank_stages(MODELS["mistral-7b-v0.1"], Mix.parse(HC1_MIX))
    found = [many_users(stages, load_spec(), context, 64).served for context in (1024, 1536, 6144)]
    assert found == [4, 2, 1]
