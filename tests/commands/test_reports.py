"""The commands that report on a chip: their JSON, their tables, and what they refuse."""

from __future__ import annotations

import builtins
import json
from typing import Any

import pytest

from emulator.cli import main
from emulator.silicon.cost import Cost
from emulator.silicon.spec import DEFAULT_SPEC, load_spec
from emulator.timing.budget import shape_of
from emulator.timing.energy import die_area, token_energy
from emulator.timing.known_models import LLAMAS
from emulator.timing.models import HC1_MIX, MODELS, blank_stages, kv_sram_bits, rom_bits
from emulator.timing.peers import peers
from weights.mix import Mix

LLAMA = blank_stages(MODELS["llama-3.1-8b"], Mix.parse(HC1_MIX))


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]):
    def run(*args: str) -> dict[str, Any]:
        assert main([*args, "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert found["schema"] == 1
        return found

    return run


def test_cycles(report):
    found = report("cycles", "--model", "llama-3.1-8b", "--context", "1536,6144")
    assert found["cycles_per_token"] == 60330
    assert found["clock_hz"] == 1.02e9
    assert found["seconds_per_token"] == pytest.approx(60330 / 1.02e9)
    assert found["tokens_per_second"] == pytest.approx(1.02e9 / 60330)
    assert [c["context"] for c in found["contexts"]] == [1536, 6144]
    for one in found["contexts"]:
        assert sum(one["by_block"].values()) == one["cycles_per_token"]
        assert sum(one["by_layer"].values()) == one["cycles_per_token"]
        assert len(one["by_layer"]) == 34
    assert len(found["assumptions"]) == len(list(load_spec().constants()))


FAMILIES = ("qwen2.5-7b", "qwen3-8b", "mistral-7b-v0.1", "smollm3-3b", "phi-3-mini")


@pytest.mark.parametrize("model", [*LLAMAS, *FAMILIES])
def test_a_known_model(report, model):
    found = report("cycles", "--model", model, "--context", "7", "--mix", "4")
    assert found["cycles_per_token"] > 0
    assert found["pipelined"]["tokens_per_second"] > found["tokens_per_second"]


def test_a_window_bounds_time_and_memory(report):
    """Behind 4,096 positions nothing grows, and the SRAM holds no more than that of each layer."""
    first, later = (report("cycles", "--model", f"mistral-7b{v}") for v in ("-v0.1", ""))
    by_context = [one["by_block"]["attention"] for one in first["contexts"]]
    at_edge = report("cycles", "--model", "mistral-7b-v0.1", "--context", "4096")
    assert by_context[0] < by_context[1] < by_context[2] == at_edge["by_block"]["attention"]
    assert later["contexts"][2]["by_block"]["attention"] > by_context[2]
    assert first["kv_sram_bits"] / later["kv_sram_bits"] == 4096 / 6144


def test_layers_of_two_kinds(report):
    """Every fourth layer of SmolLM3 turns nothing, and takes so much less."""
    found = report("cycles", "--model", "smollm3-3b", "--context", "9")
    layers = [cycles for name, cycles in found["by_layer"].items() if name.startswith("layer")]
    turned = found["by_block"]["rope"] / 27
    assert {layers[0] - cycles for cycles in layers} == {0, turned}
    assert [i for i, cycles in enumerate(layers) if cycles < layers[0]] == list(range(3, 36, 4))


def test_set_and_chip_file(report, tmp_path):
    """The same change by option and by file gives the same report."""
    path = tmp_path / "chip.toml"
    path.write_text(
        DEFAULT_SPEC.read_text().replace("lanes = { value = 16", "lanes = { value = 32")
    )
    by_file = report("cycles", "--chip", str(path), "--context", "9")
    by_option = report("cycles", "--set", "fabric.lanes=32", "--context", "9")
    assert by_file == by_option
    assert by_file["cycles_per_token"] < 40000


def test_sweep(report):
    found = report("cycles", "--context", "1536", "--sweep", "clock.frequency=5e8:1.5e9:3")
    rates = [row["tokens_per_second"] for row in found["rows"]]
    assert rates == pytest.approx([r * 1e9 / 60330 for r in (0.5, 1, 1.5)])


def test_sensitivity(report):
    """Swings by size; the clock alone meets the published rate, and no step in the lab does."""
    found = report("sensitivity")
    swings = {swing["key"]: swing for swing in found["swings"]}
    sizes = [
        abs(s["tokens_per_second"]["high"] - s["tokens_per_second"]["low"]) for s in swings.values()
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert list(swings)[:2] == ["fabric.lanes", "clock.frequency"]
    alone = swings["clock.frequency"]["alone"]
    assert alone["reached"]
    again = report("sensitivity", "--set", f"clock.frequency={alone['value']!r}")
    assert again["tokens_per_second"] == pytest.approx(16960, rel=1e-6)
    assert not swings["deployment.2026-02-lab.decode_step"]["alone"]["reached"]
    assert "energy.mac" not in swings
    assert "deployment.2026-03.decode_step" not in swings


def test_energy_and_area_are_brackets_around_the_published(report):
    """Low below, high above; parts add up; the ends are the ends of the constants' ranges."""
    found = report("cycles", "--context", "1536")
    for name in ("card_power", "energy_per_token", "die_area", "transistors"):
        bracket = found[name]
        assert bracket["estimate"] is True
        assert 0 < bracket["low"] < bracket["published"] < bracket["high"]
        for index, end in enumerate(("low", "mid", "high")):
            parts = [part[index] for part in bracket["parts"].values()]
            assert sum(parts) == pytest.approx(bracket[end])
            assert min(parts) >= 0


def test_energy_by_hand():
    """10^9 MACs of 0.45 pJ, row-cycles of 0.8, bits of ROM at 0.05 and of SRAM at 0.13; 1 ms."""
    chip, shape = load_spec().with_value("clock.frequency", 1e9), shape_of(LLAMA)
    work = Cost(macs=10**9, rom_bits=10**9, sram_bits=10**9, row_cycles=10**9)
    idle = token_energy(chip, shape, Cost(), 1e-3).totals[1]
    assert idle == pytest.approx(1e-3 * (20 + 0.6 * 34.35 + 0.15 * 29.37), rel=1e-3)
    _, mid, _ = token_energy(chip, shape, work, 1e-3).totals
    assert mid - idle == pytest.approx(0.45e-3 + 0.8e-3 + 0.05e-3 + 0.13e-3)


def test_memories_by_hand():
    """KV: 2 x 32 x 6144 x 8 heads of 128 bytes and a 24-bit scale; ROM: codes and their scales."""
    chip, config, mix = load_spec(), MODELS["llama-3.1-8b"], Mix.parse(HC1_MIX)
    assert kv_sram_bits(config, chip) == 2 * 32 * 6144 * 8 * (128 * 8 + 24)
    codes = 32 * 218_103_808 * 3 + 2 * 128256 * 4096 * 6
    scales = (32 * 218_103_808 + 2 * 128256 * 4096) // 32 * 8
    assert 0 < rom_bits(config, mix, 6144) / (codes + scales) - 1 < 0.005
    small, large = (shape_of(blank_stages(config, Mix.parse(bits))) for bits in "36")
    assert die_area(chip, small).totals < die_area(chip, large).totals


def test_compare(report):
    found = report("compare")
    names = " ".join(peer["name"] for peer in found["peers"])
    assert all(n in names for n in ("H200", "B200", "Groq", "SambaNova", "Cerebras", "HC1"))
    assert found["model"]["estimate"] is True
    for peer in peers():
        assert peer.tokens_per_second > 0
        assert len(peer.source) > 10
        assert peer.date.startswith("20")
        assert (peer.power_w is None) == (peer.joule_per_token is None)


@pytest.mark.parametrize(
    ("args", "heads"),
    [
        (["cycles"], ["fabric_down", "[1] one user", "published", "each of 32 layers"]),
        (["cycles", "--sweep", "fabric.lanes=8:64:8"], ["fabric.lanes", "16"]),
        (["sensitivity"], ["clock.frequency", "alone for 16,960"]),
        (["compare"], ["NVIDIA B200", "this model (estimate)"]),
    ],
)
def test_tables(args, heads, capsys):
    """Every table says that it is an estimate."""
    assert main(args) == 0
    out = capsys.readouterr().out
    assert all(head in out for head in [*heads, "Estimates: the chip's constants are"])


@pytest.mark.parametrize("command", ["cycles", "sensitivity"])
def test_pictures(command, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert main([command, "--plot", str(tmp_path / "a.svg")]) == 0
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")


def test_no_matplotlib(monkeypatch, tmp_path, capsys):
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["cycles", "--plot", str(tmp_path / "a.svg")]) == 2
    assert "pip install matplotlib" in capsys.readouterr().err


REFUSED = {
    "--set fabric.lanes=99": "fabric.lanes = 99 is outside its range 8 to 64",
    "--set fabric.lanes=many": "'many' is none; fabric.lanes is a number from 8 to 64",
    "--set clock.frequency=1GHz": "number from 500000000.0 to 1500000000.0 Hz",
    "--set fabric.lanes": "write section.key=value",
    "--set fabric.lights=1": "unknown key fabric.lights",
    "--set fabric.lanes=nan": "outside its range 8 to 64",
    "--context 0": "the chip has positions 1 to 6144",
    "--context 1,6145": "the chip has positions 1 to 6144",
    "--context long": "write numbers with commas",
    "--mix 5": "3, 4 or 6 bits",
    "--model llama-9": "known shapes",
    "--chip none.toml": "cannot be read",
    "--plot nowhere/a.svg": "--plot nowhere/a.svg",
    "--plot a.unknown": "--plot a.unknown",
    "--sweep fabric.lanes=1:2": "write section.key=low:high:count",
    "--sweep fabric.lanes=1:64:4": "fabric.lanes = 1 is outside its range",
    "--sweep fabric.lanes=8:64:1": "count 2 to",
}


@pytest.mark.parametrize(("args", "message"), REFUSED.items(), ids=REFUSED)
def test_refused_with_one_line(args, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["cycles", *args.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
