"""Faults put in on purpose: each must be seen, or the comparison proves nothing."""

from __future__ import annotations

import pytest

pytest.importorskip("amaranth")

import numpy as np
from amaranth.hdl import Module, Mux

from emulator.blocks.residual_add import ResidualAdd
from emulator.blocks.weight_fabric import WeightFabric
from emulator.rtl import rope, weight_fabric
from emulator.rtl.bench import Verdict, bench_of, check
from emulator.rtl.pipeline import delay, step
from emulator.rtl.residual_add import ResidualAddRtl
from tests.rtl.test_blocks import cosine, vector_of
from tests.support.described import described
from tests.support.signals import matrix, signal

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


def test_rope_itself_passes():
    assert rope_verdict().equal
