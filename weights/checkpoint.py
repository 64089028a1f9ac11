"""The interface of every source of weights: one float32 tensor at a time, by its hub name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from emulator.config import LlamaConfig
from emulator.config.factors import Factors
from emulator.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a checkpoint came from, as the image records it."""

    name: str
    license: str
    files: tuple[tuple[str, int, str], ...]  # (name, bytes, SHA-256)
    repository: str = ""  # on the hub, "owner/repo"
    commit: str = ""  # of that repository


@dataclass(frozen=True, slots=True)
class Origin:
    """A commit of a hub repository, and what the hub states about it."""

    repository: str  # "owner/repo"
    commit: str
    license: str  # as the model card names it, or ""
    sha256: Mapping[str, str]  # of the large files, by name


class Checkpoint(Protocol):
    """A readable checkpoint. `tensor` reads and dequantises one tensor."""

    @property
    def config(self) -> LlamaConfig: ...

    @property
    def tokenizer_json(self) -> str: ...

    @property
    def chat_style(self) -> str: ...

    @property
    def chat_template(self) -> str:
        """Jinja, if it speaks of tools; else the style says all, and this is empty."""

    @property
    def chat_instructions(self) -> str:
        """Its default instructions, where only its own chat template has them; else ""."""

    @property
    def factors(self) -> Factors:
        """Constants that its family multiplies signals by."""

    @property
    def where(self) -> Path:
        """The file or folder that `weights.sources.open_checkpoint` opens."""

    @property
    def name(self) -> str:
        """Its usual name, also part of the image's folder name."""

    def provenance(self) -> Provenance:
        """Hash all files, once. Raises CheckpointError if a hash is not the stated one."""

    @property
    def digest(self) -> str:
        """`files_digest` of all files; stated hashes save reading them."""

    def tensor(self, name: str) -> NDArray[np.float32]: ...


LARGEST_WEIGHT = 1 << 15  # the range of Q15.16
LAYER_MATRICES = ("q", "k", "v", "o", "gate", "up", "down")
PASS_MATRICES = {"qkv": ("q", "k", "v"), "o": ("o",), "gate_up": ("gate", "up"), "down": ("down",)}
LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
HEAD_GAINS = {"q_gain": "self_attn.q_norm", "k_gain": "self_attn.k_norm"}  # Qwen3's
BIAS = "_bias"


def layer_vectors(config: LlamaConfig) -> tuple[str, ...]:
    """Short names of a layer's tensors besides matrices and norms: "q_bias", "q_gain", .."""
    biases = [m + BIAS for name in config.biases for m in PASS_MATRICES[name]]
    return (*biases, *(HEAD_GAINS if config.head_norm else ()))


def hub_name(name: str, layer: int | None = None) -> str:
    """Our short name ("q", "embedding", ..) -> the tensor's name in a hub checkpoint."""
    if layer is not None:
        stem = {**LAYER_TENSORS, **HEAD_GAINS}[name.removesuffix(BIAS)]
        return f"model.layers.{layer}.{stem}.{'bias' if name.endswith(BIAS) else 'weight'}"
    names = {"embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
    return f"{names[name]}.weight"


def tensor_shape(config: LlamaConfig, name: str) -> tuple[int, ...]:
    """Shape of the tensor with our short name, by the model's configuration."""
    if name.endswith(BIAS):
        return tensor_shape(config, name.removesuffix(BIAS))[:1]
    if name in HEAD_GAINS:
        return (config.head_dim,)
    q, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    return {
        "embedding": (config.vocabulary, config.hidden),
        "head": (config.vocabulary, config.hidden),
        "norm": (config.hidden,),
        "attn_norm": (config.hidden,),
        "ffn_norm": (config.hidden,),
        "q": (q, config.hidden),
        "k": (kv, config.hidden),
        "v": (kv, config.hidden),
        "o": (config.hidden, q),
        "gate": (config.ffn, config.hidden),
        "up": (config.ffn, config.hidden),
        "down": (config.hidden, config.ffn),
    }[name]


def read_tensor(source: Checkpoint, name: str, layer: int | None = None) -> NDArray[np.float32]:
    """Read the tensor with our short name, its family's factor folded in; check it.

    Raises CheckpointError for a wrong shape, a value that is not finite, or one beyond
    LARGEST_WEIGHT (so that gains and rotations cannot overflow float32 either).
    """
    hub = hub_name(name, layer)
    tensor = source.tensor(hub)
    expected = tensor_shape(source.config, name)
    if tensor.shape != expected:
        raise CheckpointError(f"tensor {hub} has shape {tensor.shape}, not {expected}")
    least, most = tensor.min(), tensor.max()  # NaN if any value is NaN
    if not (np.isfinite(least) and np.isfinite(most)):
        raise CheckpointError(f"tensor {hub} holds values that are not finite")
    if max(-least, most) > LARGEST_WEIGHT:
        raise CheckpointError(f"tensor {hub} holds values beyond +-{LARGEST_WEIGHT}")
    factors = source.factors
    if offset := factors.offset(name):
        tensor = tensor + np.float32(offset)
    factor = factors.of(name, source.config)
    return tensor if factor == 1 else tensor * np.float32(factor)


def files_digest(sha256: Mapping[str, str]) -> str:
    """One SHA-256 for many files: the hash of lines "SHA-256  NAME", sorted by name."""
    text = "".join(f"{sha256[name]}  {name}\n" for name in sorted(sha256))
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def file_record(path: Path) -> tuple[str, int, str]:
    """(name, bytes, SHA-256) of a checkpoint's file. Raises CheckpointError."""
    try:
        return path.name, path.stat().st_size, sha256_file(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
