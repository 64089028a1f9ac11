"""The time model: worked examples of docs/timing.md, and what must hold for every chip."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.chat.generate import generate
from emulator.chip import Chip
from emulator.errors import UsageError
from emulator.silicon.cost import Cost, Phase, Wave, fabric_pass, hadamard, narrow, reduce, stream
from emulator.silicon.spec import ChipSpec, load_spec
from emulator.timing.models import HC1_MIX, MODELS, blank_stages, known_model
from emulator.timing.prefill import decode_seconds, pipelined_aggregate, prefill_cycles
from emulator.timing.schedule import (
    alike,
    runs_alike,
    stage_cycles,
    token_cycles,
    token_schedule,
    token_work,
)
from tests.support.tiny_model import TINY_MIX
from weights.mix import Mix
from weights.rom import RomImage

HC1 = load_spec()
LLAMA = MODELS["llama-3.1-8b"]
STAGES = blank_stages(LLAMA, Mix.parse(HC1_MIX))


@pytest.mark.parametrize(
    ("phase", "arrives", "leaves"),
    [
        (Phase(1, 3), (0, 0), (3, 3)),
        (Phase(4, 3, 4), (0, 0), (3, 6)),  # elementwise: the consumer starts after the first pass
        (Phase(4, 3, 1), (0, 0), (6, 6)),  # a sum: nothing leaves before the last value is in
        (Phase(8, 5, 2), (10, 10), (18, 22)),  # two halves
        (Phase(2, 3, 2), (0, 9), (7, 12)),  # a slow producer sets the pace
        (Phase(256, 9, 1), (20, 22), (284, 284)),  # a slow consumer hides it
    ],
)
def test_a_phase(phase, arrives, leaves):
    assert phase.after(Wave(*arrives)) == leaves


@pytest.mark.parametrize(
    ("columns", "rows", "bits", "cells", "first", "last"),
    [
        (4096, 4096, 3, 2, 268, 268),
        (14336, 4096, 3, 2, 908, 908),
        (4096, 28672, 3, 2, 268, 274),
        (4096, 4096, 4, 2, 268, 268),
        (4096, 128256, 6, 2, 269, 300),
        (4096, 4096, 6, 1, 525, 525),
    ],
)
def test_fabric_pass(columns, rows, bits, cells, first, last):
    """K / 16 cycles to feed; wires 4, set-up 2, adder tree 1 or 2, accumulator 1, scales 5.

    Then 4,096 rows a cycle.
    """
    phases = fabric_pass(HC1.with_value("fabric.cells", cells), columns, rows, bits)
    assert Cost(phases).after(Wave(0, 0)) == (first, last)


def test_vector_unit():
    """4,096 lanes, 12 levels of comparators in 3 cycles, pipeline of 3, reciprocal of 6."""
    assert stream(HC1, 4096) == Phase(1, 3, 4096)
    assert stream(HC1, 14336) == Phase(4, 3, 14336)
    assert reduce(HC1, 14336) == Phase(4, 4, 1)
    assert reduce(HC1, 5120, over=128) == Phase(2, 3, 40)
    assert hadamard(HC1, 14336, 2048) == Phase(4, 4, 7)
    assert sum(phase.latency for phase in narrow(HC1, 4096)) == 13


EXAMPLE_LAYER = {  # docs/timing.md, at a context of 1,536
    "rms_norm": 26,
    "fabric_qkv": 269,
    "rope": 3,
    "kv_sram": 18,
    "attention": 77,
    "fabric_o": 268,
    "residual_add": 2,
    "fabric_gate_up": 274,
    "swiglu": 32,
    "fabric_down": 905,
    "sequencer": 1,
}


def test_the_documented_token():
    """A layer of Llama 3.1 8B by block, the whole token, and the first of a sequence."""
    parts = list(token_schedule(STAGES, HC1, 1536))
    layer: dict[str, int] = {}
    for step in parts[7].steps:
        layer[step.block.name] = layer.get(step.block.name, 0) + step.cycles
    assert layer == EXAMPLE_LAYER
    assert sum(layer.values()) == 1875
    assert sum(part.cycles for part in parts) == 60330
    assert sum(token_cycles(STAGES, HC1, 1, True).values()) == 59466
    assert sum(token_cycles(STAGES, HC1, 1, False).values()) == 59140


def test_work_of_a_token():
    """7.505 G weight and 262,144 attention multiplications a position (shared arithmetic)."""
    weights = LLAMA.parameters - LLAMA.vocabulary * LLAMA.hidden - 65 * LLAMA.hidden
    assert token_work(STAGES, HC1, 1000).macs == weights + 262144 * 1000


def test_the_published_rate_is_met():
    """16,960 tok/s at 1k in, 1k out, within 2 %."""
    assert 1 / decode_seconds(STAGES, HC1, 1024, 1024) == pytest.approx(16960, rel=0.02)


def chips() -> st.SearchStrategy[ChipSpec]:
    """HC1 with up to four constants anywhere in their ranges."""
    keys = [key for key, c in HC1.constants() if not key.startswith(("deployment", "published"))]

    def variant(values: dict[str, float]) -> ChipSpec:
        spec, constants = HC1, dict(HC1.constants())
        for key, at in values.items():
            low, high = constants[key].range
            value = low + at * (high - low)
            spec = spec.with_value(key, value if isinstance(low, float) else round(value))
        return spec

    return st.dictionaries(st.sampled_from(keys), st.floats(0, 1), max_size=4).map(variant)


@settings(max_examples=60, deadline=None)
@given(chips(), st.sampled_from(sorted(MODELS)), st.integers(1, 6143))
def test_parts_add_up_and_time_never_falls(chip, name, context):
    """For any chip: blocks and stages sum to the token, none is negative, context only adds."""
    stages = blank_stages(MODELS[name], Mix.parse(HC1_MIX))
    blocks = token_cycles(stages, chip, context, True)
    parts = list(token_schedule(stages, chip, context))
    end = parts[-1].begin + parts[-1].steps[-1].leaves.last
    assert sum(blocks.values()) == sum(stage_cycles(stages, chip, context).values()) == end
    assert all(type(cycles) is int and cycles >= 0 for cycles in blocks.values())
    later = token_cycles(stages, chip, context + 1, True)
    assert all(later[block] >= cycles for block, cycles in blocks.items())


def test_a_consumer_never_runs_ahead():
    """Every wave ends after it begins and after the wave it is made of."""
    for part in token_schedule(STAGES, HC1, 700):
        for step in part.steps:
            assert step.leaves.first <= step.leaves.last
            assert step.leaves.first >= step.arrives.first
            assert step.leaves.last >= step.arrives.last


@pytest.mark.parametrize("context", [1, 33, 64])
def test_a_blank_chip_takes_as_long_as_a_real_one(either_image: RomImage, context: int):
    """From shape and mix alone: the same cycles and the same work, block by block."""
    blank = blank_stages(either_image.config, Mix.parse(TINY_MIX))
    real = Chip(either_image).stages
    for head in (True, False):
        cycles = token_cycles(real, HC1, context, head)
        assert token_cycles(blank, HC1, context, head) == cycles
        assert token_work(blank, HC1, context, head) == token_work(real, HC1, context, head)


def test_the_counter_of_a_run(either_image: RomImage):
    """A real answer counts what the report says of the same tokens, prompt and reply."""
    answer = generate(Chip(either_image), HC1, [5, 6, 7], 4)
    stages = blank_stages(either_image.config, Mix.parse(TINY_MIX))
    steps = len(answer.token_ids) - 1
    prefill = prefill_cycles(stages, HC1, 3)["serial"]
    decode = [sum(stage_cycles(stages, HC1, 3 + n).values()) for n in range(1, steps + 1)]
    assert answer.prefill_cycles == prefill
    assert sum(answer.cycles.values()) == prefill + sum(decode)


def test_prefill():
    """One token: both hypotheses agree. Many: a pipeline adds one stage's time for each."""
    one = prefill_cycles(STAGES, HC1, 1)
    assert one == {"serial": 59466, "pipelined": 59466}
    many = prefill_cycles(STAGES, HC1, 22)
    assert many == {"serial": 21 * 59140 + 59466, "pipelined": 59466 + 21 * 1848}
    assert pipelined_aggregate(STAGES, HC1, 1).cycles_per_token == 1848


def test_contexts_in_runs():
    """Halving between equal ends gives what every context gives by itself."""
    runs = runs_alike(lambda c: stage_cycles(STAGES, HC1, c), 60, 400)
    assert [c for alike, cycles in runs for c in [cycles] * alike] == [
        stage_cycles(STAGES, HC1, context) for context in range(60, 401)
    ]


def test_what_the_structure_charges():
    """6-bit weights, half the lanes and half the clock cost what they should."""

    def cycles(spec: ChipSpec = HC1, mix: str = "3") -> int:
        stages = blank_stages(LLAMA, Mix.parse(mix))
        return sum(token_cycles(stages, spec, 1024, True).values())

    assert cycles(mix="6") - cycles() == 4 * 32 + 1  # one more adder level a pass
    assert cycles(HC1.with_value("fabric.cells", 1), "6") - cycles(mix="6") == 53504
    assert cycles(HC1.with_value("fabric.lanes", 8)) - cycles() == 53504
    assert cycles(HC1.with_value("clock.frequency", 5e8)) == cycles()
    assert cycles(HC1.with_value("kv_sram.value_bits", 16)) > cycles()


def test_a_thousand_variants_in_five_seconds():
    begin = time.perf_counter()
    for n in range(1000):
        spec = HC1.with_value("fabric.lanes", 8 + n % 57)
        assert sum(token_cycles(STAGES, spec, 1536, True).values()) > 0
    assert time.perf_counter() - begin < 5


def test_unknown_model():
    with pytest.raises(UsageError, match=r"llama-9: the known shapes are llama-3\.1-8b"):
        known_model("llama-9")


def test_the_shapes_are_those_of_the_checkpoints():
    """Parameters as the model cards say."""
    counts = {name: config.parameters for name, config in MODELS.items()}
    assert counts == {
        "llama-3.1-8b": 8_030_261_248,
        "llama-3.2-1b": 1_235_814_400,
        "llama-3.2-3b": 3_212_749_824,
        "llama-3.3-70b": 70_553_706_496,
        "smollm2-135m": 134_515_008,
        "llama-2-7b": 6_738_415_616,
        "llama-2-13b": 13_015_864_320,
        "mistral-7b": 7_248_023_552,
        "mistral-7b-v0.1": 7_241_732_096,
        "mistral-nemo-12b": 12_247_782_400,
        "phi-3-mini": 3_821_079_552,
        "phi-4": 14_659_507_200,
        "qwen2.5-0.5b": 494_032_768,
        "qwen2.5-1.5b": 1_543_714_304,
        "qwen2.5-3b": 3_085_938_688,
        "qwen2.5-7b": 7_615_616_512,
        "qwen2.5-14b": 14_770_033_664,
        "qwen2.5-32b": 32_763_876_352,
        "qwen3-0.6b": 596_049_920,
        "qwen3-1.7b": 1_720_574_976,
        "qwen3-4b": 4_022_468_096,
        "qwen3-8b": 8_190_735_360,
        "qwen3-14b": 14_768_307_200,
        "qwen3-32b": 32_762_123_264,
        "smollm3-3b": 3_075_098_624,
        "smollm2-360m": 361_821_120,
        "smollm2-1.7b": 1_711_376_384,
        "tinyllama-1.1b": 1_100_048_384,
    }


def test_stages_alike_have_the_same_schedule(any_image):
    """Layers share one's blocks; windows and layers without RoPE keep their own."""
    stages = Chip(any_image).stages
    fewer = alike(stages, HC1)
    assert len({id(stage.blocks) for stage in fewer}) <= len(stages)
    for context in (1, 2, 7, 33, 64, 1000):
        for head in (True, False):
            cycles = token_cycles(stages, HC1, context, head)
            assert token_cycles(fewer, HC1, context, head) == cycles
        assert stage_cycles(fewer, HC1, context) == stage_cycles(stages, HC1, context)
