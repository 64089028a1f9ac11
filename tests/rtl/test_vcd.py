"""The emulator's signals as VCD: the RTL's names, the token's values, the schedule's cycles."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

pytest.importorskip("amaranth")

import numpy as np
from vcd.reader import TokenKind, tokenize

from emulator.blocks.residual_add import ResidualAdd
from emulator.blocks.wires import Wires
from emulator.chip import Chip
from emulator.cli import main
from emulator.rtl.pipeline import Port
from emulator.rtl.simulate import values_of
from emulator.rtl.vcd_file import write_vcd
from emulator.timing.schedule import token_cycles
from kernels import reference
from tests.support.described import described
from weights.rom import RomImage

TOKENS = [5, 300, 17]
SPEC = described(vector__lanes=32)  # two beats of the residual stream


def read(file: Path) -> tuple[dict[str, list[tuple[int, int]]], dict[str, int]]:
    """Changes (cycle, value) and bits of each signal, by its path."""
    names, bits, scopes, now = {}, {}, [], 0
    found = defaultdict(list)
    with file.open("rb") as lines:
        for token in tokenize(lines):
            if token.kind is TokenKind.SCOPE:
                scopes.append(token.scope.ident)
            elif token.kind is TokenKind.UPSCOPE:
                scopes.pop()
            elif token.kind is TokenKind.VAR:
                path = ".".join([*scopes, token.var.reference])
                names[token.var.id_code], bits[path] = path, token.var.size
            elif token.kind is TokenKind.CHANGE_TIME:
                now = token.time_change
            elif token.kind in (TokenKind.CHANGE_VECTOR, TokenKind.CHANGE_SCALAR):
                change = token.vector_change if token.kind is TokenKind.CHANGE_VECTOR else (
                    token.scalar_change
                )  # fmt: skip
                found[names[change.id_code]].append((now, int(change.value)))
    return found, bits


def test_a_token_as_signals(tiny_image: RomImage, tmp_path: Path):
    chip, file = Chip(tiny_image, ops=reference), tmp_path / "token.vcd"
    cycles = write_vcd(file, chip, SPEC, TOKENS)
    assert cycles == sum(token_cycles(chip.stages, SPEC, 3, True).values())
    found, bits = read(file)
    assert bits["layer_0.fabric_qkv.q_k_v"] == 32 * 32
    assert [value for _, value in found["layer_1.residual_add_2.sum_valid"]] == [0, 1, 0]
    wires = Wires(np.array(TOKENS[-1:]), 2, False)
    for stage in chip.stages[:2]:  # embedding, first layer
        for block in stage.blocks:
            block.run(reference, wires)
    port = Port("sum", 64, 32, 32)
    (start, _), *rest = [c for c in found["layer_0.residual_add_2.sum_valid"] if c[1]]
    assert not rest
    words = [value for at, value in found["layer_0.residual_add_2.sum"] if at >= start]
    np.testing.assert_array_equal(values_of(port, words), wires.residual.ravel())


def test_every_port_is_the_rtls(tiny_image: RomImage, tmp_path: Path):
    from emulator.rtl.bench import rtl_of

    chip, file = Chip(tiny_image, ops=reference), tmp_path / "token.vcd"
    write_vcd(file, chip, SPEC, TOKENS)
    paths = set(read(file)[0])
    for stage in chip.stages:
        adds = 0
        for block in stage.blocks:
            if block.name == "head_select":
                continue
            adds += isinstance(block, ResidualAdd)
            again = f"_{adds}" if isinstance(block, ResidualAdd) and adds > 1 else ""
            scope = f"{stage.name.replace(' ', '_')}.{block.name}{again}"
            for port in rtl_of(block, SPEC, 3).outputs:
                assert {f"{scope}.{port.name}", f"{scope}.{port.name}_valid"} <= paths


def test_values_need_a_prompt(tmp_path: Path, capsys):
    assert main(["trace", "--vcd", str(tmp_path / "x.vcd"), "--out", str(tmp_path)]) == 2
    assert "give it a prompt" in capsys.readouterr().err
