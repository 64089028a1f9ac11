"""The importance matrix that llama.cpp is given: mean squares of what each matrix reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.importance import mean_squares
from emulator.quality.float_model import FloatModel
from weights.safetensors_source import SafetensorsCheckpoint

WINDOWS = np.random.default_rng(2).integers(0, 256, (3, 20)).tolist()
COLUMNS = {
    "attn_q": 64, "attn_k": 64, "attn_v": 64, "attn_output": 128,
    "ffn_gate": 64, "ffn_up": 64, "ffn_down": 96,
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> FloatModel:
    return FloatModel.of_checkpoint(SafetensorsCheckpoint(tiny_checkpoint))


def test_every_matrix_of_the_layers(model: FloatModel):
    """By its name in a GGUF file; the embedding and the head are not among them."""
    found = mean_squares(model, WINDOWS)
    assert {name: len(mean) for name, mean in found.items()} == {
        f"blk.{layer}.{name}.weight": n for layer in range(2) for name, n in COLUMNS.items()
    }
    assert all(mean.dtype == np.float32 and (mean > 0).all() for mean in found.values())


def test_first_layer_against_a_sum_written_out(model: FloatModel):
    """The first norm of all tokens, its gain included, and SwiGLU of a single one."""
    r = model.embedding[np.ravel(WINDOWS)].astype(np.float64)
    x = r / np.sqrt((r * r).mean(axis=-1, keepdims=True) + model.config.rms_epsilon)
    w = model.layers[0]
    expected = np.square(x * w["attn_norm"]).mean(axis=0)
    found = mean_squares(model, WINDOWS)
    assert found["blk.0.attn_q.weight"] == pytest.approx(expected, rel=1e-4)
    one = mean_squares(model, [[7]])  # attends to itself alone: attention's output is its value
    x = model.embedding[7].astype(np.float64)
    x = x / np.sqrt((x * x).mean() + model.config.rms_epsilon) * w["attn_norm"]
    value = np.repeat((w["v"] @ x).reshape(2, 32), 2, axis=0).ravel()  # 4 heads share 2
    assert one["blk.0.attn_output.weight"] == pytest.approx(value**2, rel=1e-3)
    r = model.embedding[7] + w["o"] @ value
    x = r / np.sqrt((r * r).mean() + model.config.rms_epsilon) * w["ffn_norm"]
    gate = w["gate"] @ x
    hidden = gate / (1 + np.exp(-gate)) * (w["up"] @ x)
    assert one["blk.0.ffn_down.weight"] == pytest.approx(hidden**2, rel=1e-3)


def test_windows_count_by_their_tokens(model: FloatModel):
    """A mean over all positions, not of the windows' means."""
    short, long = WINDOWS[0][:5], WINDOWS[1]
    both = mean_squares(model, [short, long])["blk.1.ffn_down.weight"]
    alone = [mean_squares(model, [ids])["blk.1.ffn_down.weight"] for ids in (short, long)]
    assert both == pytest.approx((5 * alone[0] + 20 * alone[1]) / 25, rel=1e-4)
