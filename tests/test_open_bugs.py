"""Defects found and not yet mended. When one is, its mark fails: drop it and move the case home."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY_CONFIG, refused
from test_malformed import entry, shard
from test_malformed_image import edit

from emulator.chip import Chip
from emulator.errors import CheckpointError, EmulatorError, ImageError
from emulator.model import from_hub_config
from kernels import compiled, reference
from weights.rom import RomImage, open_image
from weights.rope_table import rope_tables
from weights.safetensors_file import SafetensorsFile

pytestmark = pytest.mark.xfail(strict=True, reason="open defect")

V = "layers.1.v"
MANIFESTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no model": lambda m: m.pop("model"),
    "shard is a list": lambda m: m["matrices"][V].update(shard=[]),
    "bits is a list": lambda m: m["matrices"][V].update(bits=[]),
    "bits is 3.0": lambda m: m["matrices"]["layers.1.q"].update(bits=3.0),
    "NUL in a name": lambda m: m["files"][0].update(file="a\0b"),
    "surrogate in a name": lambda m: m["files"][0].update(file="\ud800"),
    "long name": lambda m: m["files"][0].update(file="a" * 5000),
    "no gain exponent": lambda m: m.pop("final_gain_exponent"),
    "gain exponent is text": lambda m: m.update(final_gain_exponent="x"),
    "gain exponent far out": lambda m: m.update(final_gain_exponent=-(10**9)),
    "huge epsilon": lambda m: m["model"].update(rms_epsilon=1e300),
}


@pytest.mark.parametrize("change", MANIFESTS.values(), ids=MANIFESTS)
def test_manifest(tmp_path: Path, tiny_image: RomImage, change):
    """A manifest that opens must run; one that cannot run must be refused with ImageError."""
    folder = Path(shutil.copytree(tiny_image.folder, tmp_path / "image"))
    edit(folder, change)
    refused(ImageError, r"rom\.json|layer|file", lambda: Chip(open_image(folder)).forward([1]))


@pytest.mark.parametrize("file", ["text", {}, {"file": "../outside"}], ids=str)
def test_manifest_without_hashes(tmp_path: Path, tiny_image: RomImage, file):
    """Names are checked even when hashes are not."""
    folder = Path(shutil.copytree(tiny_image.folder, tmp_path / "image"))
    (tmp_path / "outside").write_bytes(shard(entry()))
    edit(folder, lambda m: m["files"].append(file))
    refused(ImageError, "file", lambda: open_image(folder, check_hashes=False))


def scaling(**change: Any) -> dict[str, Any]:
    keys = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rest = {"rope_type": "llama3", "original_max_position_embeddings": 8}
    return {"rope_scaling": {**keys, **rest, **change}}


@pytest.mark.parametrize(
    "change",
    [
        {"rope_scaling": [1]},
        {"rope_scaling": "llama3"},
        scaling(factor="x"),
        scaling(factor=0),
        scaling(factor=float("nan")),
        scaling(low_freq_factor=0),
        scaling(original_max_position_embeddings=float("inf")),
        {"rope_theta": 10**400},
    ],
    ids=lambda change: json.dumps(change)[:70],
)
def test_config(change):
    """Refused when read, or else the rotary tables can be made."""
    refused(
        CheckpointError, "rope", lambda: rope_tables(from_hub_config({**TINY_CONFIG, **change}), 8)
    )


@pytest.mark.parametrize(
    ("changed", "data"),
    [
        (entry(dtype=[]), bytes(16)),
        (entry(shape=(2**63, 0), offsets=(0, 0)), b""),
        (entry(shape=(1,) * 70, offsets=(0, 4)), bytes(4)),
    ],
    ids=["dtype is a list", "2**63 times 0", "70 dimensions"],
)
def test_safetensors(tmp_path, changed, data):
    (tmp_path / "a").write_bytes(shard(changed, data))
    refused(CheckpointError, "'?w'?", lambda: SafetensorsFile(tmp_path / "a").float32("w"))


@pytest.mark.parametrize("tokens", [[320], [-1], []], ids=str)
def test_tokens_outside_the_vocabulary(tiny_image: RomImage, tokens):
    """The compiled lookup reads beyond its table (320), or counts from the end (-1)."""
    with pytest.raises((EmulatorError, ValueError), match="token"):
        Chip(tiny_image).forward(tokens)


def test_rewind_below_zero(tiny_image: RomImage):
    chip = Chip(tiny_image)
    chip.forward([1, 2])
    chip.rewind(-1)
    assert chip.position == 0


def test_hadamard_of_65536_values():
    """A hidden or ffn of 65536 is allowed; 32768 * 2**16 wraps the compiled kernel's int32."""
    v = np.full((1, 1 << 16), 2**31 - 1, np.int32)
    constant = np.array([40000, 22], np.int32)
    mine, twin = (m.rotate_narrow(v, 1 << 16, constant)[0] for m in (compiled, reference))
    np.testing.assert_array_equal(mine, twin)


@pytest.mark.parametrize("name", ["swiglu", "residual_add"])
def test_arrays_in_column_order(name):
    """`empty_like` keeps the order, so `out.reshape(-1)` is a copy and the result is lost."""
    a = np.asfortranarray(np.random.default_rng(0).integers(-(9**6), 9**6, (4, 6)), np.int32)
    np.testing.assert_array_equal(getattr(compiled, name)(a, a), getattr(reference, name)(a, a))
