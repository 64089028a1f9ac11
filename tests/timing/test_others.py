"""Other hardwired chips: hits are held, misses are shown."""

from __future__ import annotations

import json

import numpy as np
import pytest

from emulator.cli import main
from emulator.errors import ChipError
from emulator.silicon.spec import GRADES, load_spec, preset
from emulator.timing.others import Figure, bit_serial_column, figures, network_cost


def found() -> dict[tuple[str, str, int], Figure]:
    return {(one.chip, one.kind, one.at): one for one in figures()}


def error(*key: object) -> float:
    one = found()[key]  # type: ignore[index]
    assert isinstance(one, Figure)
    assert one.error is not None
    return one.error


def test_roma_decodes_die_and_memory():
    """Four rates within 10 % by one set of constants, die and memory within 5 %."""
    assert all(abs(error("roma", "rate", at)) < 0.10 for at in (256, 512, 1024, 2048))
    assert abs(error("roma", "die", 0)) < 0.05
    assert abs(error("roma", "memory", 4096)) < 0.05


def test_romas_prompt_is_no_sum_of_decode_steps():
    """The contradiction of docs/chips.md: 34 us a prompt token where a decode step takes 117."""
    prompt = 1e3 * found()["roma", "first_token", 4096].published / 4096
    step = 1e6 / found()["roma", "rate", 2048].published  # at the prompt's mean position
    assert prompt < step / 3
    assert error("roma", "first_token", 4096) > 2


@pytest.mark.parametrize("shape", [(784, 32, 10), (1, 1, 1), (64, 300, 7)])
def test_model2rtl(shape):
    """Its own formula, n_in + 2 n_hid + n_out + 6, whatever the network."""
    inputs, hidden, outputs = shape
    assert network_cost(*shape).cycles == inputs + 2 * hidden + outputs + 6


@pytest.mark.parametrize(("rows", "bits"), [(64, 8), (1, 1), (17, 4)])
def test_a_bit_serial_column(rows, bits):
    """Rows times bits cycles, and the integers of a plain product."""
    rng = np.random.default_rng(rows)
    weights, inputs = rng.integers(-1, 2, (rows, 5)), rng.integers(0, 1 << bits, rows)
    sums, cycles = bit_serial_column(weights, inputs, bits)
    assert cycles == rows * bits
    assert (sums == weights.T @ inputs).all()


def test_ankhdjets_own_reference():
    """Bit for bit with the golden model in its wheel, where that is installed."""
    nor = pytest.importorskip("ankhdjet.reference.nor")
    rng = np.random.default_rng(512)
    for _ in range(20):
        weights, inputs = rng.integers(-1, 2, (64, 32)), rng.integers(0, 256, 64)
        wanted = nor.ternary_matmul_nor(weights, inputs, k_bits=8)
        assert (bit_serial_column(weights, inputs, 8)[0] == wanted).all()


def test_what_is_not_predicted_says_why():
    assert found()["hnlpu", "not_predicted", 2048].predicted is None
    for one in found().values():
        assert len(one.source) > 7
        assert one.grade in ("official", "digest")


def test_described_chips(capsys):
    roma = load_spec(preset("roma"))
    assert roma.clock_hz == 5e8
    assert {constant.grade for _, constant in roma.constants()} <= set(GRADES)
    with pytest.raises(ChipError, match="described chips are hc1, roma"):
        preset("rome")
    args = ["cycles", "--model", "llama-3.2-3b", "--mix", "4", "--context", "256"]
    assert main([*args, "--chip", "roma", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["chip"] == "roma"
    assert main([*args, "--chip", "rome"]) == 2
    assert "described chips" in capsys.readouterr().err


def test_command(capsys):
    assert main(["chips", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["figures"]) == len(found())
    assert main(["chips"]) == 0
    assert "+" in capsys.readouterr().out
