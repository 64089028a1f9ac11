"""The schedule by events against the closed form, and what must hold for any chip and users."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.chip import Stage
from emulator.silicon.cost import Phase
from emulator.silicon.spec import ChipSpec, load_spec, whole
from emulator.timing.events import Job, Section, decode_jobs, pace, path_of, simulate, take_in
from emulator.timing.models import HC1_MIX, MODELS, blank_stages
from emulator.timing.schedule import token_cycles
from weights.mix import Mix

HC1 = load_spec()
TIMES = ("fabric", "vector", "embedding", "kv_sram", "attention", "sequencer")
KEYS = [
    (key, constant) for key, constant in HC1.constants() if key.split(".")[0] in TIMES
]  # fmt: skip


def random_chip(rng: random.Random) -> ChipSpec:
    """HC1 with a third of the structure's constants anywhere in their ranges."""
    spec = HC1
    for key, constant in KEYS:
        if rng.random() < 1 / 3:
            low, high = constant.range
            value = low + rng.random() * (high - low)
            spec = spec.with_value(key, round(value) if whole(constant.unit) else value)
    return spec


def random_stages(rng: random.Random) -> list[Stage]:
    """A small dense model of any proportions, untied or tied, of any mix."""
    kv_heads, head_dim = rng.choice([1, 2, 3, 8]), rng.choice([32, 64, 128])
    config = replace(
        MODELS["smollm2-135m"],
        hidden=32 * rng.randint(1, 24),
        layers=rng.randint(1, 2),
        heads=kv_heads * rng.randint(1, 4),
        kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=32 * rng.randint(1, 40),
        vocabulary=rng.randint(8, 5000),
        tied=rng.random() < 0.3,
    )
    return blank_stages(config, Mix.parse(rng.choice(["3", "4", "6", "3,v=6,down=4"])))


def one_token(stages: list[Stage], spec: ChipSpec, context: int) -> int:
    return simulate([Job(path_of(stages, spec, context))]).ends[0]


@pytest.mark.parametrize(
    "shapes",
    [pytest.param(200, id="2,000"), pytest.param(1000, id="10,000", marks=pytest.mark.slow)],
)
def test_random_chips_and_shapes(shapes):
    """One token by events takes the cycles of the closed form, exactly, on ten chips a shape."""
    rng = random.Random(1)
    for _ in range(shapes):
        stages = random_stages(rng)
        for _ in range(10):
            spec, context = random_chip(rng), rng.randint(1, 600)
            closed = sum(token_cycles(stages, spec, context, True).values())
            assert one_token(stages, spec, context) == closed


@pytest.mark.parametrize("context", [1, 1536, 6144])
def test_the_preset_chip(context):
    stages = blank_stages(MODELS["llama-3.1-8b"], Mix.parse(HC1_MIX))
    closed = sum(token_cycles(stages, HC1, context, True).values())
    assert one_token(stages, HC1, context) == closed


@pytest.mark.parametrize(
    ("phase", "arriving", "wanted"),
    [
        (Phase(1, 0), 1, (1, 1)),
        (Phase(4, 0, 4), 1, (1, 4)),  # a result a cycle
        (Phase(4, 0, 1), 1, (4, 4)),  # one sum
        (Phase(2, 0, 2), 10, (5, 10)),  # a slow producer
        (Phase(26, 0, 8), 1, (4, 26)),  # 3.25 cycles a head
    ],
)
def test_a_unit_by_hand(phase, arriving, wanted):
    assert take_in(phase, arriving) == wanted


def test_waiting_by_hand():
    """Two tokens, one unit of 5 cycles and latency 2: the second waits, then follows."""
    path = [Section(Phase(5, 2), "adder")]
    run = simulate([Job(path), Job(path)])
    assert run.ends == [6, 11]
    assert run.busy == {"adder": 10}
    chained = simulate([Job(path), Job(path, after=0)])
    assert chained.ends == [6, 12]


CASES = st.tuples(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 3))


@settings(max_examples=150, deadline=None)
@given(CASES)
def test_bounds_of_many_users(case):
    """Never faster than any unit's work, or than one token alone; never slower than in turns."""
    seed, users, tokens = case
    rng = random.Random(seed)
    stages, spec, context = random_stages(rng), random_chip(rng), rng.randint(1, 600)
    path = path_of(stages, spec, context)
    alone = simulate([Job(path)]).ends[0]
    run = simulate(decode_jobs([path] * users, tokens))
    assert run.length >= max(run.busy.values())
    assert run.length >= tokens * alone
    assert run.length <= users * tokens * alone
    for index, end in enumerate(run.ends):
        assert end - run.begins[index] >= alone
    more = simulate(decode_jobs([path] * (users + 1), tokens))
    assert more.length >= run.length


@settings(max_examples=100, deadline=None)
@given(CASES)
def test_owned_adders_never_cost_time(case):
    seed, users, tokens = case
    rng = random.Random(seed)
    stages, spec, context = random_stages(rng), random_chip(rng), rng.randint(1, 600)
    lengths = []
    for owned in (0, 1):
        path = path_of(stages, spec.with_value("fabric.owned", owned), context)
        lengths.append(simulate(decode_jobs([path] * users, tokens)).length)
    assert lengths[1] <= lengths[0]


WIDTHS = ("fabric.lanes", "vector.lanes", "attention.macs", "kv_sram.bandwidth")
FEWER = ("vector.pipeline", "vector.reciprocal", "vector.table", "embedding.read", "fabric.wire",
         "fabric.alphabet_setup", "fabric.scale_drain", "kv_sram.latency",
         "sequencer.layer")  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([*WIDTHS, *FEWER, "vector.levels"]))
def test_more_of_anything_is_no_slower(seed, key):
    """Exactly for what shortens latencies: a norm then holds x back for its root by no more than
    the rest of the way has lost. Wider units, whose trees are deeper: but for the cycles added.
    """
    rng = random.Random(seed)
    stages, spec, context = random_stages(rng), random_chip(rng), rng.randint(1, 600)
    low, high = HC1.constant(key).range
    few, many = sorted(rng.randint(int(low), int(high)) for _ in range(2))
    less, more = (many, few) if key in FEWER else (few, many)
    paths = [path_of(stages, spec.with_value(key, n), context) for n in (less, more)]
    deeper = 0
    for poor, rich in zip(*([section.phase for section in path] for path in paths), strict=True):
        assert rich.parts == poor.parts
        assert rich.take <= poor.take
        deeper += max(0, rich.latency - poor.latency)
    slow, fast = (simulate([Job(path)]).ends[0] for path in paths)
    assert fast <= slow + (deeper if key in WIDTHS else 0)


def test_owners_follow_each_other():
    """Eight users at 64 positions: near eight times one with owned adders; with shared ones hardly
    more than one, for the one fabric is busy nearly all of a token's time.
    """
    stages = blank_stages(MODELS["llama-3.2-1b"], Mix.parse(HC1_MIX))
    alone = one_token(stages, HC1, 64)
    owned, shared = (
        alone / pace([path_of(stages, HC1.with_value("fabric.owned", n), 64)] * 8) for n in (1, 0)
    )
    assert 6 < owned <= 8
    assert 1 <= shared < 1.5
