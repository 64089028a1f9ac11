"""The same checkpoint as safetensors and as GGUF: the same image, but for where it came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emulator.images.folder import is_image
from emulator.timing.shapes import shape_from_file
from tests.support.tiny_model import TINY_MIX, compile_tiny, write_tiny_checkpoint
from tests.support.write_gguf import write_gguf
from weights.compile import CompileOptions, compile_image
from weights.gguf_source import GgufCheckpoint
from weights.mix import Mix
from weights.rom import MANIFEST, open_image
from weights.safetensors_file import SafetensorsFile
from weights.safetensors_source import SafetensorsCheckpoint
from weights.sources import open_checkpoint

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
WINDOW = {"use_sliding_window": True, "sliding_window": 9}
TYPES = ["full_attention", "sliding_attention"]
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    "llama with biases": {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "mistral": {"model_type": "mistral", "sliding_window": 9, "head_dim": 48},
    "qwen2": {"model_type": "qwen2", "rope_scaling": YARN, "rms_norm_eps": 1e-6},
    "qwen2 with windows": {"model_type": "qwen2", "layer_types": TYPES, **WINDOW},
    "qwen3": {"model_type": "qwen3", "rms_norm_eps": 1e-6, "rope_theta": 1000000.0},
    "smollm3": {"model_type": "smollm3", "num_hidden_layers": 4, "rope_theta": 2000000.0},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_one_image(tmp_path: Path, name: str):
    """Every shard to its last byte, and every word of the manifest but `checkpoint`."""
    tied = name in ("qwen2", "smollm3")
    folder = write_tiny_checkpoint(tmp_path / "hub", tied, **FAMILIES[name])
    source = GgufCheckpoint(write_gguf(folder, tmp_path / "model.gguf"))
    assert source.config == SafetensorsCheckpoint(folder).config
    images = compile_tiny(folder, tmp_path / "of hub"), tmp_path / "of gguf"
    compile_image(source, images[1], CompileOptions(Mix.parse(TINY_MIX), context=64))
    manifests = [json.loads((image / MANIFEST).read_text()) for image in images]
    for manifest in manifests:
        del manifest["checkpoint"], manifest["manifest_sha256"]
    assert manifests[0] == manifests[1]


def test_a_text_is_as_good_as_a_path(tmp_path: Path):
    """Whatever reads or writes a folder or a file takes both."""
    folder = write_tiny_checkpoint(tmp_path / "hub", True, model_type="qwen2")
    file = str(write_gguf(folder, tmp_path / "model.gguf"))
    source = SafetensorsCheckpoint(str(folder))
    assert source.config == GgufCheckpoint(file).config == open_checkpoint(str(folder)).config
    image = str(tmp_path / "image")
    compile_image(source, image, CompileOptions(Mix.parse("6"), context=8))
    assert open_image(image).config == source.config
    assert is_image(image)
    assert SafetensorsFile(f"{image}/layer-000.safetensors").names
    assert shape_from_file(str(folder / "config.json"))[0].hidden == 64
