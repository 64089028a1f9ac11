"""Tensors that a family stores as one: Phi-3's q, k and v, and its gate and up."""

from __future__ import annotations

from emulator.config import LlamaConfig
from weights.checkpoint import tensor_shape

FUSED = {
    "self_attn.q_proj": ("self_attn.qkv_proj", "q", ("q", "k", "v")),
    "self_attn.k_proj": ("self_attn.qkv_proj", "k", ("q", "k", "v")),
    "self_attn.v_proj": ("self_attn.qkv_proj", "v", ("q", "k", "v")),
    "mlp.gate_proj": ("mlp.gate_up_proj", "gate", ("gate", "up")),
    "mlp.up_proj": ("mlp.gate_up_proj", "up", ("gate", "up")),
}


def fused_part(config: LlamaConfig, name: str) -> tuple[str, slice] | None:
    """Of a tensor's hub name: the name under which it is stored with others, and its rows there."""
    for alone, (together, wanted, parts) in FUSED.items():
        if f".{alone}." in name:
            begin = 0
            for part in parts:
                rows = tensor_shape(config, part)[0]
                if part == wanted:
                    return name.replace(alone, together), slice(begin, begin + rows)
                begin += rows
    return None
