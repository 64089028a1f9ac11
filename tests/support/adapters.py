"""LoRA adapters made by hand: written as PEFT writes them, from fixed seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from emulator.config import LlamaConfig
from weights.checkpoint import LAYER_MATRICES, LAYER_TENSORS, tensor_shape

CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "bias": "none",
    "fan_in_fan_out": False,
    "init_lora_weights": True,
    "modules_to_save": None,
    "use_dora": False,
    "use_rslora": False,
    "rank_pattern": {},
    "alpha_pattern": {},
}
Tensors = dict[str, np.ndarray]


def tensors(
    model: LlamaConfig, rank: int, names: Iterable[str] = LAYER_MATRICES, strength: float = 0.2
) -> Tensors:
    """Random A and B, by PEFT's names; B A is about `strength` times as large as a weight."""
    rng, found = np.random.default_rng(11), {}
    for layer in range(model.layers):
        for name in names:
            rows, columns = tensor_shape(model, name)
            stem = f"base_model.model.model.layers.{layer}.{LAYER_TENSORS[name]}"
            a = rng.normal(0, columns**-0.5, (rank, columns))
            b = rng.normal(0, strength * rank**-0.5, (rows, rank))
            found[f"{stem}.lora_A.weight"] = a.astype(np.float32)
            found[f"{stem}.lora_B.weight"] = b.astype(np.float32)
    return found


def write_adapter(
    folder: Path,
    model: LlamaConfig,
    rank: int = 4,
    names: Iterable[str] = LAYER_MATRICES,
    change: Callable[[dict[str, Any], Tensors], Any] | None = None,
    strength: float = 0.2,
) -> Path:
    """A folder as PEFT saves it, after `change` has had its way with config and tensors."""
    folder.mkdir(parents=True)
    modules = [LAYER_TENSORS[name].rsplit(".", 1)[1] for name in names]
    config = {**CONFIG, "r": rank, "lora_alpha": rank, "target_modules": modules}
    held = tensors(model, rank, names, strength)
    if change is not None:
        change(config, held)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(held, folder / "adapter_model.safetensors")
    return folder
