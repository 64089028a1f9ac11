"""Files that claim more than they hold, or say things twice: refused at once, in little memory."""

from __future__ import annotations

import json
import os
import shutil
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emulator.chat.template import chat_format
from emulator.errors import (
    CheckpointError,
    ChipError,
    EmulatorError,
    ImageError,
    UnsupportedError,
    UsageError,
)
from emulator.silicon.spec import DEFAULT_SPEC, load_spec
from emulator.timing.telemetry import read_records
from tests.support.refusals import leaves_nothing, refused
from tests.support.tiny_model import compile_broken, edit_manifest
from tests.weights.test_malformed import shard
from weights.gguf_source import GgufCheckpoint
from weights.rom import RomImage, open_image
from weights.safetensors_file import SafetensorsFile
from weights.safetensors_source import SafetensorsCheckpoint

MOST_BYTES = 8 << 20  # far below what the files claim
MOST_SECONDS = 1.0  # of this process


def refused_at_once(kind: type[EmulatorError], message: str, action: Callable[[], Any]) -> None:
    """`refused`, within a second and without memory in proportion to a claim."""
    tracemalloc.start()
    began = time.process_time()
    try:
        refused(kind, message, action)
        seconds, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seconds < MOST_SECONDS
    assert peak < MOST_BYTES


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def head(tensors: int = 0, keys: int = 1, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


def pair(key: str | bytes, value: str = "llama") -> bytes:
    return text(key) + struct.pack("<I", 8) + text(value)


def array(kind: int, count: int, data: bytes = bytes(64), key: str = "a") -> bytes:
    return text(key) + struct.pack("<IIQ", 9, kind, count) + data


def tensor(name: str, shape: list[int], kind: int = 0, offset: int = 0, n: int | None = None):
    sizes = struct.pack(f"<{len(shape)}Q", *shape)
    rank = len(shape) if n is None else n
    return text(name) + struct.pack("<I", rank) + sizes + struct.pack("<IQ", kind, offset)


ARCH, PAD = pair("general.architecture"), bytes(64)
ALIGN = text("general.alignment")
TWO = tensor("t", [4]) + tensor("u", [4], offset=32)
GGUF = {
    "version 1": (head(version=1) + ARCH, "GGUF version 1, this program reads 2 and 3"),
    "future version": (head(version=99) + ARCH, "GGUF version 99"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 1), "GGUF version 50331648"),
    "no counts": (head()[:20], "ends in the number of keys"),
    "billions of keys": (head(keys=4 * 10**9) + ARCH, "4000000000 keys claimed"),
    "all keys": (head(keys=2**64 - 1) + ARCH, "18446744073709551615 keys claimed"),
    "billions of tensors": (head(10**10) + ARCH, "10000000000 tensors claimed"),
    "billion bytes": (head() + array(0, 10**9), "1000000000 elements of 'a' claimed"),
    "billion texts": (head() + array(8, 10**9), "1000000000 elements of 'a' claimed"),
    "more floats than bytes": (head() + array(6, 60), "ends in the value of 'a'"),
    "more texts than bytes": (head() + array(8, 60), "ends in a text of 'a'"),
    "array of arrays": (head() + array(9, 2), "'a' has a value of type 9"),
    "unknown value": (head() + text("a") + struct.pack("<I", 77) + PAD, "'a' has a value of type"),
    "long key": (head() + struct.pack("<Q", 2**63) + PAD, "a key claims 9223372036854775808"),
    "long text": (head() + text("a") + struct.pack("<IQ", 8, 2**62), "a text of 'a' claims"),
    "key twice": (head(keys=2) + ARCH + ARCH, "key 'general.architecture' is there twice"),
    "alignment 0": (head(keys=2) + ARCH + ALIGN + struct.pack("<II", 4, 0), "alignment is 0"),
    "alignment 3": (head(keys=2) + ARCH + ALIGN + struct.pack("<II", 4, 3), "alignment is 3"),
    "alignment is text": (head(keys=2) + ARCH + pair("general.alignment"), "no 32-bit number"),
    "tensor beyond": (head(1) + ARCH + tensor("t", [4], offset=2**40) + PAD, "'t' ends beyond"),
    "tensor past the end": (head(1) + ARCH + tensor("t", [400]) + PAD, "'t' ends beyond the file"),
    "huge shape": (head(1) + ARCH + tensor("t", [2**32, 2**32]) + PAD, "'t' ends beyond the file"),
    "wrapping shape": (head(1) + ARCH + tensor("t", [2**63, 2]) + PAD, "'t' ends beyond the file"),
    "empty shape": (head(1) + ARCH + tensor("t", [0]) + PAD, "'t' has an impossible shape"),
    "half a block": (head(1) + ARCH + tensor("t", [16], 2) + PAD, "'t' has an impossible shape"),
    "five dimensions": (head(1) + ARCH + tensor("t", [1] * 5) + PAD, "'t' has 5 dimensions"),
    "billions of dimensions": (head(1) + ARCH + tensor("t", [1], n=2**31) + PAD, "2147483648 dim"),
    "unknown tensor type": (head(1) + ARCH + tensor("t", [4], 999) + PAD, "unknown type 999"),
    "tensor twice": (head(2) + ARCH + tensor("t", [4]) * 2 + PAD, "tensor 't' is there twice"),
    "overlapping tensors": (
        head(2) + ARCH + tensor("t", [9]) + tensor("u", [9], offset=32) + PAD * 2,
        "tensors 't' and 'u' overlap",
    ),
    "cut tensor entry": (head(1) + ARCH + TWO[:20], "the file ends in"),
    "key is not text": (head() + pair(b"\xff\xfe") + PAD, "damaged GGUF|lacks"),
}


@pytest.mark.parametrize(("data", "message"), GGUF.values(), ids=GGUF)
def test_gguf(tmp_path, data, message):
    path = tmp_path / "a.gguf"
    path.write_bytes(data)
    refused_at_once(CheckpointError, message, lambda: GgufCheckpoint(path))


def f32(*offsets: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [4], "data_offsets": list(offsets)}


SHARDS = {
    "tensor twice": (
        b'{"w": {"dtype": "I8", "shape": [1], "data_offsets": [0, 1]}, "w": 3}',
        "damaged header",
    ),
    "overlap": ({"v": f32(0, 16), "w": f32(8, 24)}, "tensors 'v' and 'w' overlap"),
    "same bytes": ({"v": f32(0, 16), "w": f32(0, 16)}, "tensors 'v' and 'w' overlap"),
    "billion bytes": ({"w": {**f32(0, 4 * 10**9), "shape": [10**9]}}, "ends beyond the file"),
    "huge number": (b'{"w": ' + b"9" * 5000 + b"}", "damaged header"),
    "NaN offset": (
        b'{"w": {"dtype": "F32", "shape": [4], "data_offsets": [NaN, 16]}}',
        "malformed",
    ),
}


@pytest.mark.parametrize(("header", "message"), SHARDS.values(), ids=SHARDS)
def test_safetensors(tmp_path, header, message):
    path = tmp_path / "a.safetensors"
    path.write_bytes(shard(header, bytes(32)))
    refused_at_once(CheckpointError, message, lambda: SafetensorsFile(path))


def test_neighbours_and_empty_tensors_are_no_overlap(tmp_path):
    path = tmp_path / "a.safetensors"
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [8, 8]}
    path.write_bytes(shard({"v": f32(0, 16), "e": empty, "w": f32(16, 32)}, bytes(32)))
    assert SafetensorsFile(path).names == ["v", "e", "w"]


@pytest.fixture
def image(tmp_path: Path, tiny_image: RomImage) -> Path:
    return Path(shutil.copytree(tiny_image.folder, tmp_path / "image"))


def test_manifest_says_it_twice(image):
    data = (image / "rom.json").read_text()
    (image / "rom.json").write_text(data.replace("{", '{"tool": "other",', 1))
    refused_at_once(ImageError, "key 'tool' is there twice", lambda: open_image(image))


def test_manifest_of_billions(image):
    """Counts are compared with the shard's own; a sparse file is measured, not read."""
    edit_manifest(image, lambda m: m["model"].update(vocabulary=1 << 20))
    refused_at_once(ImageError, "embedding.codes is", lambda: open_image(image))
    os.truncate(image / "rom.json", 1 << 40)
    refused_at_once(ImageError, "larger than 16 MiB", lambda: open_image(image))


def test_layer_count_of_an_image(image):
    edit_manifest(image, lambda m: m["model"].update(layers=3))
    refused_at_once(ImageError, "lacks 'layers.2.q'", lambda: open_image(image))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors.index.json"])
def test_hub_files(checkpoint, name):
    """A key twice; and a terabyte of nothing."""
    path = checkpoint / name
    path.write_text('{"a": 1, "a": 2}')
    refused_at_once(CheckpointError, "key 'a' is there twice", lambda: compile_broken(checkpoint))
    os.truncate(path, 1 << 40)
    refused_at_once(CheckpointError, "larger than 64 MiB", lambda: compile_broken(checkpoint))
    path.unlink()
    os.mkfifo(path)
    refused_at_once(CheckpointError, "no such file", lambda: compile_broken(checkpoint))
    assert leaves_nothing(checkpoint)


def test_shard_in_another_folder(checkpoint):
    """An index may name files of its folder alone; what a link of the user's points to is his."""
    weights = checkpoint / "model.safetensors"
    outside = checkpoint.parent / "outside.safetensors"
    weights.rename(outside)
    index = {"weight_map": {"w": "../outside.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    message = "w must be a plain file name"
    refused_at_once(CheckpointError, message, lambda: SafetensorsCheckpoint(checkpoint))


def changed_tokenizer(**change: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda data: {**data, **change}


def split(pattern: str) -> dict[str, Any]:
    kind = {"type": "Split", "pattern": {"Regex": pattern}}
    return {**kind, "behavior": "Isolated", "invert": False}


def added(number: Any) -> list[dict[str, Any]]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return [{"id": number, "content": "<x>", "special": True, **flags}]


TOKENIZERS = {
    "empty": (lambda data: {}, "model must be"),
    "no model": (changed_tokenizer(model=None), "model must be"),
    "unknown model": (changed_tokenizer(model={"type": "Oracle"}), "model must be"),
    "future version": (changed_tokenizer(version="9.0"), "Unknown tokenizer version"),
    "vocabulary is a list": (
        lambda data: {**data, "model": {**data["model"], "vocab": [1]}},
        "model.vocab is no object",
    ),
    "negative id": (
        lambda data: {**data, "model": {**data["model"], "vocab": {"a": -1}}},
        "invalid|match",
    ),
    "foreign merge": (
        lambda data: {**data, "model": {**data["model"], "merges": ["zz qq"]}},
        "out of vocabulary",
    ),
    "half a merge": (
        lambda data: {**data, "model": {**data["model"], "merges": ["zz"]}},
        "invalid|match|[Mm]erges",
    ),
    "huge id": (changed_tokenizer(added_tokens=added(2**32)), "invalid value"),
    "unknown pre-tokenizer": (
        changed_tokenizer(pre_tokenizer={"type": "Exec"}),
        "pre_tokenizer.type = 'Exec'",
    ),
    "broken pattern": (changed_tokenizer(pre_tokenizer=split("((")), "(Oniguruma|untagged enum)"),
    "unknown decoder": (changed_tokenizer(decoder={"type": "Exec"}), "decoder.type = 'Exec'"),
}


@pytest.mark.parametrize(("change", "message"), TOKENIZERS.values(), ids=TOKENIZERS)
def test_tokenizer(tiny_image, change, message):
    data = json.dumps(change(json.loads(tiny_image.tokenizer_json)))
    message = rf"tokenizer.json is malformed or unknown: .*{message}"
    refused_at_once(UnsupportedError, message, lambda: chat_format(data, "plain"))


def test_chip_of_a_terabyte(tmp_path):
    path = tmp_path / "chip.toml"
    path.touch()
    os.truncate(path, 1 << 40)
    refused_at_once(ChipError, "larger than 1024 KiB", lambda: load_spec(path))
    path.unlink()
    os.mkfifo(path)
    refused_at_once(ChipError, "cannot be read: no such file", lambda: load_spec(path))


CHIPS = {
    "key twice": (lambda t: t + '\n[chip]\nname = "b"\n', "not TOML"),
    "deep": (lambda t: "a = " + "[" * 100_000, "not TOML"),
    "cut": (lambda t: t[: len(t) // 2], "not TOML|is missing"),
    "huge number": (lambda t: "a = " + "9" * 5000, "not TOML"),
    "nothing": (lambda t: "", "section .* is missing"),
}


@pytest.mark.parametrize(("change", "message"), CHIPS.values(), ids=CHIPS)
def test_chip(tmp_path, change, message):
    path = tmp_path / "chip.toml"
    path.write_text(change(DEFAULT_SPEC.read_text("utf-8")))
    refused_at_once(ChipError, message, lambda: load_spec(path))


def test_records(tmp_path):
    """A key twice; a terabyte of nothing; a pipe that would never end."""
    path = tmp_path / "records.json"
    path.write_text('{"records": [{"id": "a", "ttft": 1, "ttft": 2}]}')
    refused_at_once(UsageError, "key 'ttft' is there twice", lambda: read_records(path))
    os.truncate(path, 1 << 40)
    refused_at_once(UsageError, "larger than 64 MiB", lambda: read_records(path))
    path.unlink()
    os.mkfifo(path)
    refused_at_once(UsageError, "cannot be read: no such file", lambda: read_records(path))
