"""Faults: exactly the chosen units are hit, the image stays, and kernels agree with twins."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import kernels
from emulator.chip import Chip
from emulator.cli import main
from emulator.silicon.spec import load_spec
from emulator.verification.fault_sweep import Point, matrices_of, rate_within, sweep
from emulator.verification.faults import (
    KINDS,
    DeadInputs,
    Fault,
    WeakSram,
    cell_bits,
    faulty_chip,
    faulty_image,
    hit_units,
)
from emulator.verification.golden import array_digest, logits_digest
from kernels.rom.pack import TILE_BYTES, PackedMatrix, pack_codes, unpack_codes
from weights.rom import RomImage

SPEC = load_spec()
BANK_ROWS, LANES = int(SPEC.fabric.bank_rows), int(SPEC.fabric.lanes)
TOKENS = [(i * 37 + 11) % 320 for i in range(24)]


def digests(image: RomImage) -> dict[str, str]:
    return {name: array_digest(matrix.codes) for name, matrix in image.matrices.items()}


@pytest.mark.parametrize("bits", list(TILE_BYTES))
def test_a_bit_of_a_cell(bits):
    """Each bit of each cell lies where flipping it changes that code by that bit alone."""
    rng = np.random.default_rng(bits)
    codes = rng.integers(0, 1 << bits, (19, 64)).astype(np.uint8)
    one = np.ones((3, 2, 8), np.uint8)
    row = np.ones(19)
    matrix = PackedMatrix(
        *(19, 64, bits, 32, pack_codes(codes, bits), one),
        *(row.astype(np.uint16), row.astype(np.int8), np.zeros(1 << bits, np.int8)),
    )
    rows, columns, places = np.indices((19, 64, bits)).reshape(3, -1)
    for order in rng.permutation(rows.size)[:300]:
        r, c, bit = rows[order], columns[order], places[order]
        (byte,), (mask,) = cell_bits(matrix, *(np.array([n]) for n in (r, c, bit)))
        packed = matrix.codes.copy()
        packed.reshape(-1)[byte] ^= mask
        changed = codes.copy()
        changed[r, c] ^= 1 << bit
        np.testing.assert_array_equal(unpack_codes(packed, 19, bits), changed)
    byte, mask = cell_bits(matrix, rows, columns, places)
    assert np.unique(byte * 256 + mask).size == rows.size  # no two share a bit


@pytest.mark.parametrize(("kind", "changes"), [("flip", "one bit"), ("stuck", "to 0")])
def test_cells(either_image, kind, changes):
    """As many cells as are said, in the named matrices alone; others are shared, not copied."""
    before = digests(either_image)
    place = {"layers.0.q", "layers.1.down"}
    image, hits = faulty_image(either_image, Fault(kind, 0.01, 5), place, SPEC)
    differing = 0
    for name, matrix in image.matrices.items():
        own = either_image.matrices[name]
        if name not in place:
            assert matrix is own
            continue
        old, new = (unpack_codes(m.codes, m.rows, m.bits) for m in (own, matrix))
        where = old != new
        differing += where.sum()
        assert 0.005 < where.mean() < 0.02
        if changes == "to 0":
            assert not new[where].any()
        else:
            assert all(int(n).bit_count() == 1 for n in (old ^ new)[where])
        assert matrix.wiring[0] == matrix.codes.ctypes.data  # the kernels see the copy
    assert differing == hits if kind == "flip" else differing <= hits
    assert digests(either_image) == before


@pytest.mark.parametrize(("kind", "size"), [("row", 1), ("bank", BANK_ROWS)])
def test_dead_rows(tiny_image, kind, size):
    image, hits = faulty_image(tiny_image, Fault(kind, 0.3, 1), {"layers.0.gate"}, SPEC)
    own, matrix = (i.matrices["layers.0.gate"].row_mantissa for i in (tiny_image, image))
    dead = np.flatnonzero((own != matrix) | (matrix == 0))
    assert hits > 0
    assert set(dead // size) == set(dead[::size] // size)
    assert dead.size <= hits * size
    assert not matrix[dead].any()


@pytest.mark.parametrize("kind", ["column", "lane"])
def test_dead_inputs(either_image, kind):
    """The fabric with dead inputs computes what it would with zero weights there."""
    fault, place = Fault(kind, 0.2, 3), {"layers.0.k", "layers.1.o"}
    chip, hits = faulty_chip(either_image, fault, place, SPEC)
    found = [b for s in chip.stages for b in s.blocks if isinstance(b, DeadInputs)]
    assert [sorted(block.alive) for block in found] == [["k"], ["delta"]]
    dead = [np.flatnonzero(mask == 0) for block in found for mask in block.alive.values()]
    if kind == "column":
        assert sum(map(len, dead)) == hits
    else:
        assert hits == sum(len(set(d % LANES)) for d in dead)
    block = found[0]
    x = np.random.default_rng(0).integers(-127, 128, (2, 64)).astype(np.int8)
    scale = np.array([[40000, 20]] * 2, np.int32)
    from emulator.blocks.wires import Wires
    from kernels import reference

    wires = Wires.carrying(2, 0, {"x": x, "x_scale": scale})
    block.run(kernels.load(), wires)
    for wire, matrix in block.matrices.items():
        weights = reference.levels(matrix)
        if wire == "k":
            weights[:, dead[0]] = 0
        acc = x.astype(np.int64) @ weights.T
        wanted = reference.requantise(acc, reference.row_scales(matrix)[None], scale[:, None], 16)
        np.testing.assert_array_equal(getattr(wires, wire).reshape(2, -1), wanted)
    np.testing.assert_array_equal(wires.x, x)  # the signal itself is whole


def test_weak_sram(tiny_image):
    """The same bits of a position whether it is written alone or among others; other layers not."""
    fault = Fault("kv", 0.01, 2)
    chips = [faulty_chip(tiny_image, fault, {"layers.1.k"}, SPEC)[0] for _ in range(2)]
    one, many = chips
    many.forward(TOKENS)
    for token in TOKENS:
        one.forward([token])
    kinds = [type(b) for s in one.stages for b in s.blocks if b.name == "kv_sram"]
    assert [kind is WeakSram for kind in kinds] == [False, True]
    srams = [b for c in chips for s in c.stages for b in s.blocks if isinstance(b, WeakSram)]
    for part in ("k", "v", "k_scale", "v_scale"):
        np.testing.assert_array_equal(getattr(srams[0], part), getattr(srams[1], part))
    sound = Chip(tiny_image)
    sound.forward(TOKENS)
    clean = next(b for b in sound.stages[2].blocks if b.name == "kv_sram")
    flipped = np.unpackbits((clean.k ^ srams[0].k)[: len(TOKENS)].view(np.uint8)).mean()
    assert 0.005 < flipped < 0.02
    assert srams[0].k.min() >= -127


@pytest.mark.parametrize("kind", KINDS)
def test_a_faulty_chip_is_still_exact(either_image, kind):
    """Kernels and twins agree on it, its seed decides all, and no fault means no change."""
    places = set(either_image.matrices)
    chip, _ = faulty_chip(either_image, Fault(kind, 0.05, 9), places, SPEC)
    twin, _ = faulty_chip(either_image, Fault(kind, 0.05, 9), places, SPEC)
    other, _ = faulty_chip(either_image, Fault(kind, 0.05, 10), places, SPEC)
    twin.ops = kernels.load("reference")
    assert logits_digest(chip) == logits_digest(twin) != logits_digest(other)
    none, hits = faulty_chip(either_image, Fault(kind, 0.0, 9), places, SPEC)
    assert (hits, logits_digest(none)) == (0, logits_digest(Chip(either_image)))


@pytest.mark.parametrize("rate", [0.0, 1e-4, 0.01, 0.3, 0.9, 1.0])
def test_hit_units(rate):
    """Rising, different, and as many as a binomial gives."""
    hit = hit_units(20_000, rate, np.random.default_rng(4))
    assert (np.diff(hit) > 0).all()
    assert abs(hit.size - 20_000 * rate) <= 5 * (20_000 * rate * (1 - rate)) ** 0.5
    assert hit.size == 0 or (hit[0] >= 0 and hit[-1] < 20_000)


def test_places(untied_image):
    groups = matrices_of(untied_image, "class")
    assert groups["q"] == {"layers.0.q", "layers.1.q"}
    assert groups["head"] == {"head"}
    assert set().union(*groups.values()) == groups["all"]
    layers = matrices_of(untied_image, "layer")
    assert set(layers) == {"all", "embedding", "head", "layer 0", "layer 1"}
    assert len(layers["layer 1"]) == 7


def test_sweep(tiny_image):
    """More faults, more distance; the float model's excess too; seeds are averaged."""
    groups = matrices_of(tiny_image, "none")
    windows = [TOKENS[:12], TOKENS[12:]]
    points = list(sweep(tiny_image, "flip", [1e-3, 0.1], [0, 1], groups, windows, SPEC, True))
    low, high = points
    assert 0 < low.kl_mean < high.kl_mean
    assert low.excess_kl < high.excess_kl == pytest.approx(np.mean(high.by_seed))
    assert low.hits < high.hits
    assert len(low.by_seed) == 2


def test_rate_within():
    """Between neighbours on a line; never beyond what was measured."""

    def point(rate: float, excess: float | None) -> Point:
        return Point("all", rate, 1, 1.0, 1.0, 0.0, excess, ())

    points = [point(0.1, -0.001), point(0.2, 0.002), point(0.3, 0.004)]
    assert rate_within(points, 0.003) == pytest.approx(0.25)
    assert rate_within(points, 0.005) is None
    assert rate_within(points[1:], 0.001) is None
    assert rate_within([replace(p, excess_kl=None) for p in points], 0.003) is None


def test_command(tiny_image, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    text = tmp_path / "text"
    text.write_text("the masks of a chip are never quite what was drawn")
    picture = tmp_path / "a.svg"
    words = ["faults", "--image", str(tiny_image.folder), "--text", str(text), "--window", "16"]
    more = ["--rates", "1e-3,1e-2", "--by", "class", "--float", "--plot", str(picture)]
    assert main([*words, *more, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["positions"] == 24
    assert {point["place"] for point in report["points"]} >= {"all", "q", "down", "embedding"}
    assert report["die"]["cells"] > 8e9
    assert picture.read_text().startswith("<?xml")
    before = digests(tiny_image)
    assert main([*words, "--kind", "kv", "--rates", "1e-3"]) == 0
    assert "kv: a stored bit" in capsys.readouterr().out
    assert digests(tiny_image) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kind", "gamma"], "choose one of flip, stuck"),
        (["--rates", "x"], "write numbers with commas"),
        (["--rates", "nan"], "must rise, above 0 and at most 1"),
        (["--rates", "1e-3,1e-4"], "must rise"),
        (["--rates", "2"], "at most 1"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--window", "65"], "the image has 64 positions"),
        (["--window", "64", "--limit", "10"], "10 tokens hold no window of 64"),
        (["--text", "no-such-file"], "no-such-file: cannot be read"),
    ],
)
def test_refused(words, message, tiny_image, capsys):
    assert main(["faults", "--image", str(tiny_image.folder), "--window", "16", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.splitlines()[-1].startswith("error: ")
