"""GGUF files that ask for another model than their shapes do: a key or a tensor that nobody reads.

llama.cpp honours each of these. Leaving one out would give wrong logits without a word.
"""

from __future__ import annotations

import json
import struct
import time
from typing import Any

import gguf
import numpy as np
import pytest

from emulator.config import Linear
from emulator.errors import CheckpointError, UnsupportedError
from tests.support.refusals import refused
from tests.support.write_gguf import write_gguf
from tests.weights.test_malformed_gguf import METADATA
from tests.weights.test_malformed_gguf import write_gguf as write_metadata
from weights.gguf_source import GgufCheckpoint

KEYS: dict[str, Any] = {
    "llama.rope.scale_linear": 2.0,
    "llama.rope.dimension_sections": [1, 2, 3],
    "llama.rope.dimension_count": 16,
    "llama.rope.dimension_count_swa": 16,
    "llama.rope.freq_base_swa": 5e5,
    "llama.rope.scaling.type": "longrope",
    "llama.rope.scaling.yarn_log_multiplier": 0.1,
    "llama.rope.scaling.alpha": 50.0,
    "llama.attention.value_length": 16,
    "llama.attention.key_length_mla": 192,
    "llama.attention.clamp_kqv": 8.0,
    "llama.attention.max_alibi_bias": 8.0,
    "llama.attention.scale": 0.1,
    "llama.attention.causal": False,
    "llama.attention.layer_norm_epsilon": 1e-5,
    "llama.attention.group_norm_groups": 4,
    "llama.attention.output_scale": 2.0,
    "llama.attention.temperature_scale": 0.5,
    "llama.attention.sinks": True,
    "llama.attn_logit_softcapping": 50.0,
    "llama.final_logit_softcapping": 30.0,
    "llama.logit_scale": 0.5,
    "llama.embedding_scale": 12.0,
    "llama.residual_scale": 0.2,
    "llama.expert_count": 8,
    "llama.leading_dense_block_count": 1,
    "llama.nextn_predict_layers": 1,
    "llama.pooling_type": 1,
    "llama.use_parallel_residual": True,
    "llama.decoder_start_token_id": 1,
    "llama.ssm.state_size": 16,
    "llama.activation": "gelu",
    "tokenizer.ggml.add_eos_token": True,
    "tokenizer.ggml.add_sep_token": True,
    "tokenizer.ggml.suppress_tokens": [1, 2],
    "tokenizer.ggml.normalizer.lowercase": True,
    "tokenizer.other": "x",
    "general.type": "adapter",
    "adapter.lora.alpha": 16.0,
    "clip.has_vision_encoder": True,
}


@pytest.mark.parametrize("key", KEYS)
def test_keys_that_change_the_model(tmp_path, key):
    write_metadata(tmp_path / "a.gguf", METADATA | {key: KEYS[key]})
    short = key.removeprefix("llama.").split(".")[-1]
    refused(UnsupportedError, short, lambda: GgufCheckpoint(tmp_path / "a.gguf").config)


@pytest.mark.parametrize("factor", [0.0, 1.0, 4.0])
def test_a_factor_without_a_type_is_linear(tmp_path, factor):
    """As in llama.cpp, where 0 means none."""
    write_metadata(tmp_path / "a.gguf", METADATA | {"llama.rope.scaling.factor": factor})
    expected = Linear(4.0) if factor == 4 else None
    assert GgufCheckpoint(tmp_path / "a.gguf").config.rope_scaling == expected


def test_a_turn_and_a_message_end_an_answer_too(tmp_path):
    more = {"tokenizer.ggml.eot_token_id": 5, "tokenizer.ggml.eom_token_id": 2}
    write_metadata(tmp_path / "a.gguf", METADATA | more)
    assert GgufCheckpoint(tmp_path / "a.gguf").config.end_ids == (2, 5)


@pytest.fixture
def gguf_file(checkpoint, tmp_path):
    return write_gguf(checkpoint, tmp_path / "a.gguf")


def rewritten(path, change):
    """The file with other tensors: `change` gets them by name."""
    reader = gguf.GGUFReader(path)
    tensors = {t.name: np.array(t.data) for t in reader.tensors}
    change(tensors)
    writer = gguf.GGUFWriter(path.with_name("b.gguf"), "llama")
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            kind, *inner = field.types
            writer.add_key_value(key, field.contents(), kind, inner[0] if inner else None)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return GgufCheckpoint(path.with_name("b.gguf"))


ONE = np.ones(64, np.float32)
TENSORS = {
    "a bias of q in layer 1 alone": ("blk.1.attn_q.bias", ONE),
    "a bias of k alone": ("blk.0.attn_k.bias", ONE),
    "a bias of v alone": ("blk.0.attn_v.bias", ONE),
    "a bias of up alone": ("blk.0.ffn_up.bias", ONE),
    "a bias of the norm": ("blk.0.attn_norm.bias", ONE),
    "a bias of the head": ("output.bias", ONE),
    "a second norm": ("blk.0.post_attention_norm.weight", ONE),
    "a third norm": ("blk.0.post_ffw_norm.weight", ONE),
    "experts": ("blk.0.ffn_gate_inp.weight", ONE),
    "sinks": ("blk.0.attn_sinks.weight", ONE),
    "fused q, k and v": ("blk.0.attn_qkv.weight", ONE),
    "a scale": ("blk.0.attn_output.scale", ONE),
    "a third layer": ("blk.2.attn_q.weight", ONE),
    "layer 01": ("blk.01.attn_q.weight", ONE),
    "positions": ("position_embd.weight", ONE),
    "a norm of embeddings": ("token_embd_norm.weight", ONE),
    "a classifier": ("cls.weight", ONE),
    "no name of ours": ("x", ONE),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_nobody_reads(gguf_file, name):
    tensor, values = TENSORS[name]
    source = rewritten(gguf_file, lambda tensors: tensors.update({tensor: values}))
    refused(UnsupportedError, "what it does to the model is not known", lambda: source.config)


@pytest.mark.parametrize("part", ["attn_q", "attn_k"])
@pytest.mark.parametrize("rows", [1, 127, 129])
def test_rows_that_heads_cannot_share(gguf_file, part, rows):
    name = f"blk.0.{part}.weight"
    source = rewritten(gguf_file, lambda t: t.update({name: np.ones((rows, 64), np.float32)}))
    hub = f"model.layers.0.self_attn.{part[-1]}_proj.weight"
    refused(CheckpointError, f"{rows} rows, which", lambda: source.tensor(hub))


def test_the_same_values_as_the_package(gguf_file):
    """Header and tensors are read by us, and give what `gguf` gives."""
    ours, theirs = GgufCheckpoint(gguf_file), gguf.GGUFReader(gguf_file)
    for key, field in theirs.fields.items():
        if not key.startswith("GGUF."):
            assert ours._metadata.values[key] == field.contents(), key
    for tensor in theirs.tensors:
        assert np.array_equal(ours._dequantised(ours._tensors[tensor.name]), tensor.data)


def test_arrays_stay_in_the_file(tmp_path):
    """A million numbers of a byte, which nobody asks for, take no time and no memory."""
    count = 1 << 20
    key = b"general.padding"
    pair = struct.pack("<Q", len(key)) + key + struct.pack("<IIQ", 9, 0, count) + bytes(count)
    arch = b"general.architecture"
    text = struct.pack("<Q", len(arch)) + arch + struct.pack("<IQ", 8, 5) + b"llama"
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + text + pair + bytes(64))
    begin = time.process_time()
    GgufCheckpoint(path)
    assert time.process_time() - begin < 1  # the package takes 10 s
    more = pair.replace(b"padding", b"pedding")
    third = pair.replace(b"padding", b"podding")
    data = text + pair + more + third + bytes(64)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 4) + data)
    refused(CheckpointError, "elements of 'general.podding' claimed", lambda: GgufCheckpoint(path))


def test_metadata_is_json_at_the_end(gguf_file):
    """What the tokenizer's text holds goes through the same whitelist."""
    assert json.loads(GgufCheckpoint(gguf_file).tokenizer_json)["model"]["type"] == "BPE"
