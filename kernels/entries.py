"""Every module that has a kernel for Python to call; importing this compiles nothing."""

from __future__ import annotations

from kernels import narrow
from kernels.blocks import (
    attention,
    bias_add,
    embedding,
    head_norm,
    kv_sram,
    lora,
    other_gates,
    residual_add,
    rms_norm,
    rope,
    swiglu,
    top_k,
    weight_fabric,
)
from kernels.host import team
from kernels.host.entry import ENTRIES

__all__ = [
    "ENTRIES",
    "attention",
    "bias_add",
    "embedding",
    "head_norm",
    "kv_sram",
    "lora",
    "narrow",
    "other_gates",
    "residual_add",
    "rms_norm",
    "rope",
    "swiglu",
    "team",
    "top_k",
    "weight_fabric",
]
