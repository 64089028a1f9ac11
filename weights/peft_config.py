"""`adapter_config.json` of PEFT: which modules a LoRA changes, its ranks and its scaling.

What this chip cannot do is refused by name: an option that changes what an adapter computes must
be known here, or be off.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.config import LlamaConfig
from emulator.errors import AdapterError
from emulator.fields import Fields, read_object, shown
from kernels.sram_matrix import MOST_RANK
from weights.checkpoint import LAYER_MATRICES, LAYER_TENSORS

CONFIG = "adapter_config.json"
MAX_CONFIG_BYTES = 1 << 20
LARGEST_ALPHA = 1 << 15
MODULES = {LAYER_TENSORS[name].rsplit(".", 1)[1]: name for name in LAYER_MATRICES}  # q_proj: q
ALL_LINEAR = "all-linear"
KEY = re.compile(r"\^?[A-Za-z0-9_.]{1,200}\$?", re.ASCII)  # of a pattern: a name, no more
# Options that must be off, and what they are; a false, null or empty value is off.
REFUSED = {
    "use_dora": "DoRA, which scales whole columns of the masks",
    "use_qalora": "QALoRA, which pools the inputs",
    "use_bdlora": "block-diagonal LoRA",
    "modules_to_save": "whole new modules (embeddings or heads), which are in the masks",
    "trainable_token_indices": "new embeddings, which are in the masks",
    "target_parameters": "single parameters instead of modules",
    "layer_replication": "replicated layers",
    "alora_invocation_tokens": "an activated LoRA, which begins at a token",
    "lora_bias": "a bias of B",
    "fan_in_fan_out": "transposed weights, which no Llama has",
    "megatron_config": "Megatron's layers",
    "arrow_config": "a router of adapters",
    "velora_config": "VeLoRA",
    "monteclora_config": "MonteCLoRA",
    "kasa_config": "KaSA",
}
PLAIN_STARTS = (True, False, "gaussian", "eva", "orthogonal")  # B A alone is what was learnt


@dataclass(frozen=True, slots=True)
class PeftConfig:
    """What the tensors must be like."""

    rank: int
    alpha: float
    rs_lora: bool  # scaling alpha / sqrt(rank), not alpha / rank
    rank_pattern: dict[str, int]
    alpha_pattern: dict[str, float]
    targets: tuple[str, ...] | None  # names of MODULES; None: what the file has
    layers: tuple[int, ...] | None  # numbers; None: all

    def rank_of(self, module: str) -> int:
        """Of "model.layers.3.self_attn.q_proj"."""
        return int(_matching(self.rank_pattern, module, self.rank))

    def scaling_of(self, module: str) -> float:
        alpha, rank = _matching(self.alpha_pattern, module, self.alpha), self.rank_of(module)
        return alpha / (math.sqrt(rank) if self.rs_lora else rank)


def read_config(folder: Path, model: LlamaConfig) -> PeftConfig:
    """Raises AdapterError, in one line, for what is malformed or beyond this chip."""
    fields = read_object(folder / CONFIG, MAX_CONFIG_BYTES, AdapterError)
    if fields.values.get("peft_type") != "LORA":
        fields.refuse("peft_type", "LORA")
    for key, what in REFUSED.items():
        if fields.values.get(key) not in (None, False, [], {}, ""):
            raise AdapterError(f"{fields.where}: {key}: the chip cannot hold {what}")
    if fields.values.get("bias", "none") != "none":
        fields.refuse("bias", "'none': biases would be in the masks")
    start = fields.values.get("init_lora_weights", True)
    if not any(start is plain or start == plain for plain in PLAIN_STARTS):
        raise AdapterError(
            f"{fields.where}: init_lora_weights {shown(start)} may have changed the base weights; "
            "save it converted to a plain LoRA"
        )
    return PeftConfig(
        rank=fields.whole("r", 1, MOST_RANK),
        alpha=fields.real("lora_alpha", 0, LARGEST_ALPHA),
        rs_lora=fields.truth("use_rslora") if fields.has("use_rslora") else False,
        rank_pattern=_pattern(fields, "rank_pattern", whole=True),
        alpha_pattern=_pattern(fields, "alpha_pattern", whole=False),
        targets=_targets(fields),
        layers=_layers(fields, model),
    )


def _targets(fields: Fields) -> tuple[str, ...] | None:
    """Names of MODULES. A regular expression is not run: it came with the file."""
    value = fields.values.get("target_modules")
    if isinstance(value, str):
        return tuple(MODULES) if value == ALL_LINEAR else None
    names = [name.rsplit(".", 1)[-1] for name in fields.texts("target_modules")]
    for name in names:
        if name not in MODULES:
            known = ", ".join(MODULES)
            raise AdapterError(f"{fields.where}: no target {shown(name)}; a chip has {known}")
    if not names:
        fields.refuse("target_modules", "at least one module")
    return tuple(names)


def _layers(fields: Fields, model: LlamaConfig) -> tuple[int, ...] | None:
    if not fields.has("layers_to_transform"):
        return None
    return fields.wholes("layers_to_transform", 0, model.layers - 1)


def _pattern(fields: Fields, key: str, whole: bool) -> dict[str, Any]:
    """Module names, or their ends, and a number each; of regular expressions only plain names."""
    if not fields.has(key):
        return {}
    own = fields.object(key)
    for name in own.values:
        if not KEY.fullmatch(name):
            raise AdapterError(f"{own.where}: {shown(name)} is no plain module name")
    read = (
        (lambda name: own.whole(name, 1, MOST_RANK))
        if whole
        else (lambda name: own.real(name, 0, LARGEST_ALPHA))
    )
    return {name: read(name) for name in own.values}


def _matching(pattern: dict[str, Any], module: str, otherwise: float) -> float:
    """The first entry whose name is the module's, or ends it after a dot, as PEFT has it."""
    for key, value in pattern.items():
        name = key.removeprefix("^").removesuffix("$")
        if module == name or (not key.startswith("^") and module.endswith(f".{name}")):
            return float(value)
    return otherwise
