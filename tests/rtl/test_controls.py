"""Faults put in on purpose: each must be seen, or the comparison proves nothing."""

from __future__ import annotations

import pytest

pytest.importorskip("amaranth")

import numpy as np
from amaranth.hdl import Module, Mux

from emulator.blocks.lora import Lora
from emulator.blocks.residual_add import ResidualAdd
from emulator.blocks.weight_fabric import WeightFabric
from emulator.config import from_hub_config
from emulator.rtl import bench, head_norm, lora, rope, weight_fabric
from emulator.rtl.bench import Verdict, bench_of, check
from emulator.rtl.pipeline import delay, step
from emulator.rtl.residual_add import ResidualAddRtl
from emulator.verification.vector_files import Vector
from tests.blocks.test_lora import side
from tests.rtl.test_blocks import cosine, vector_of
from tests.rtl.test_side_blocks import norm_of_heads, window_attention
from tests.support.described import described
from tests.support.signals import matrix, signal
from tests.support.tiny_model import TINY_CONFIG

SPEC = described(vector__lanes=64)


def fabric_verdict() -> Verdict:
    x = np.arange(-48, 48, dtype=np.int8)[None]
    block = WeightFabric("fabric_down", {"delta": matrix(3, 96, 3, 32, (20, 24))})
    vector = vector_of(block, {"x": x, "x_scale": np.array([[40000, 20]], np.int32)})
    return check(bench_of(vector, SPEC))


def test_the_fabric_itself_passes():
    assert fabric_verdict().equal


def test_one_mutated_code(monkeypatch):
    """One weight of one row's ROM."""
    whole = weight_fabric.plain_arrays

    def mutated(m):
        plain = whole(m)
        plain["codes"] = plain["codes"].copy()
        row = int(np.flatnonzero(plain["row_mantissa"])[-1])
        level = plain["alphabet"].astype(int)
        away = np.abs(level - level[plain["codes"][row, 0]]).argmax()  # the level farthest off
        plain["codes"][row, 0] = away
        return plain

    monkeypatch.setattr(weight_fabric, "plain_arrays", mutated)
    verdict = fabric_verdict()
    assert verdict.wrong["delta"] == 1
    assert verdict.cycles == verdict.counted


def test_one_swapped_lane(monkeypatch):
    """Two inputs of a beat change places."""
    whole = weight_fabric.WeightFabricRtl._rows

    def swapped(self, m, name, matrix, valid, lanes, setup):
        lanes = [lanes[1], lanes[0], *lanes[2:]]
        return whole(self, m, name, matrix, valid, lanes, setup)

    monkeypatch.setattr(weight_fabric.WeightFabricRtl, "_rows", swapped)
    assert fabric_verdict().wrong["delta"] > 0


def rope_verdict() -> Verdict:
    from emulator.blocks.rope import Rope

    wires = {"q": signal((1, 2, 32), "random"), "k": signal((1, 1, 32), "random", 1)}
    return check(bench_of(vector_of(Rope(cosine(3, 16), cosine(3, 16), 96), wires, 2), SPEC))


def test_one_rounding_off_by_one(monkeypatch):
    """Half goes down instead of up: a tie or a carry in 96 values gives it away."""
    monkeypatch.setattr(rope, "round_shift_by", lambda value, shift: value >> shift)
    verdict = rope_verdict()
    assert verdict.wrong["q_k_turned"] > 0
    assert verdict.cycles == verdict.counted


def test_one_late_register(monkeypatch):
    """The same bits a cycle late: only the count of cycles sees it."""

    def late(self, m: Module) -> None:
        real = self.outputs[0]
        residual, delta = self.inputs
        sums = [
            Mux(a + b > 2**31 - 1, 2**31 - 1, Mux(a + b < -(2**31), -(2**31), a + b))
            for a, b in zip(residual, delta, strict=True)
        ]
        valid, lanes = step(m, delta.valid, sums)
        real.drive(m, *delay(m, valid, lanes, 1))

    monkeypatch.setattr(ResidualAddRtl, "build", late)
    wires = {name: signal((1, 64), "random", i) for i, name in enumerate(("residual", "delta"))}
    verdict = check(bench_of(vector_of(ResidualAdd(64), wires), SPEC))
    assert not any(verdict.wrong.values())
    assert verdict.cycles == verdict.counted + 1


def test_a_head_by_its_neighbours_root(monkeypatch):
    """The roots of two heads of a beat change places: both heads are wrong, at the same time."""
    whole = head_norm.root_of_squares

    def swapped(*args):
        ready, (one, other), zeros = whole(*args)
        return ready, [other, one], zeros

    monkeypatch.setattr(head_norm, "root_of_squares", swapped)
    spec = described(vector__lanes=32)
    verdict = check(bench_of(norm_of_heads((3, 1), 16, "random"), spec))
    assert verdict.wrong["q_k_normed"] > 32
    assert verdict.cycles == verdict.counted


@pytest.mark.parametrize("fault", ["value", "rank", "late"])
def test_an_adapter_with_a_fault(monkeypatch, fault):
    """One value of B off by one; A's sums not rounded but cut; a sum added a cycle late."""
    if fault == "value":
        whole = lora.LoraRtl._slot
        monkeypatch.setattr(lora.LoraRtl, "_slot", lambda *args: whole(*args) ^ (args[2] == 3))
    elif fault == "rank":
        monkeypatch.setattr(lora, "round_shift", lambda value, places: value >> places)
    else:
        latency = lora.lora_latency
        monkeypatch.setattr(lora, "lora_latency", lambda *args: latency(*args) + 1)
    verdict = check(bench_of(adapter_vector(), SPEC))
    assert (verdict.wrong["delta"] > 0) == (fault != "late")
    assert verdict.cycles == verdict.counted + (fault == "late")


def adapter_vector() -> Vector:
    """Large sums of A, so that mantissas are rounded, on rows that hold nothing yet."""
    x = np.arange(-48, 48, dtype=np.int8)[None]
    wires = {"x": x, "x_scale": np.array([[40000, 20]], np.int32)}
    of = side(8, 96, 4, 0, (24, 26))
    of.a[:, :] = np.sign(x) * 127
    of.a[:, ::7] -= 30
    return vector_of(Lora.of("lora_down", {"delta": of}), {**wires, "sums": np.zeros((1, 8), int)})


def test_a_window_that_keeps_one_position_more(monkeypatch):
    """A ring whose newest place still holds what the window has left."""
    config = from_hub_config({**TINY_CONFIG, "tie_word_embeddings": True})
    vector, spec = window_attention(config, 5, 3, described(vector__lanes=16))
    whole = bench.in_ring

    def stale(memory, context, window):
        found = whole(memory, context, window)
        for name, array in found.items():
            array[(context - 1) % window] = memory[name][context - 1 - window]
        return found

    monkeypatch.setattr(bench, "in_ring", stale)
    assert check(bench_of(vector, spec)).wrong["x"] > 0


def test_rope_itself_passes():
    assert rope_verdict().equal
