"""Fold norm gains and rotations into the chip's matrices, in float32.

Afterwards the residual stream is in the basis R1, value heads in R2 (a Hadamard transform of
head_dim, in blocks where that is no power of two), and the input of the down projection in R4.
See `weights.rotate`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emulator.fixedpoint import power_of_two_block
from weights.checkpoint import BIAS, LAYER_MATRICES, Checkpoint, layer_vectors, read_tensor
from weights.rotate import hadamard_rows, in_pieces, rotate_inputs, rotate_outputs, signs

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Fold:
    """Folds one checkpoint, tensor by tensor."""

    source: Checkpoint
    seed: int

    def layer(self, layer: int) -> dict[str, Float32]:
        """All matrices of a layer by name (LAYER_MATRICES), each [outputs, inputs]."""
        return {name: self.layer_matrix(name, layer) for name in LAYER_MATRICES}

    def layer_matrix(self, name: str, layer: int) -> Float32:
        """Matrix `name` (one of LAYER_MATRICES) of a layer, [outputs, inputs]."""
        w = self.turn_inputs(name, layer, read_tensor(self.source, name, layer))
        return self.turn_outputs(name, w)

    def turn_inputs(self, name: str, layer: int, w: Float32) -> Float32:
        """[any, inputs of the matrix] -> the same, reading the input in the chip's basis."""
        if name in ("q", "k", "v"):
            return self._read_residual(w, read_tensor(self.source, "attn_norm", layer))
        if name in ("gate", "up"):
            return self._read_residual(w, read_tensor(self.source, "ffn_norm", layer))
        config = self.source.config
        block = power_of_two_block(config.head_dim if name == "o" else config.ffn)
        return in_pieces(lambda rows: hadamard_rows(rows, block), w)

    def turn_outputs(self, name: str, w: Float32) -> Float32:
        """[outputs of the matrix, any] -> the same, writing the output in the chip's basis."""
        if name == "v":
            block = power_of_two_block(self.source.config.head_dim)
            return np.ascontiguousarray(hadamard_rows(w.T, block).T)
        return rotate_outputs(w, self._signs()) if name in ("o", "down") else w

    def layer_vectors(self, layer: int) -> dict[str, Float32]:
        """Biases and gains of a layer by name (`weights.checkpoint.layer_vectors`).

        A bias is in the basis of the outputs that it is added to. Head gains stay as they are:
        they come before RoPE, and R3 after it.
        """
        config = self.source.config
        vectors = {}
        for name in layer_vectors(config):
            vector = read_tensor(self.source, name, layer)
            if name == "v" + BIAS:
                block = power_of_two_block(config.head_dim)
                vector = hadamard_rows(vector[None], block)[0]
            elif name in ("o" + BIAS, "down" + BIAS):
                vector = rotate_inputs(vector[None], self._signs())[0]
            vectors[name] = vector
        return vectors

    def embedding(self) -> Float32:
        """The embedding table, [vocabulary, hidden]; its rows enter the residual stream."""
        return self._read_residual(read_tensor(self.source, "embedding"))

    def head(self) -> Float32:
        """The output matrix of an untied model, with the final gain folded in."""
        return self._read_residual(
            read_tensor(self.source, "head"), read_tensor(self.source, "norm")
        )

    def final_gain(self) -> Float32:
        """The final norm's gain, [hidden]; a tied model multiplies by it on the chip."""
        return read_tensor(self.source, "norm")

    def _read_residual(self, w: Float32, gain: Float32 | None = None) -> Float32:
        signs = self._signs()
        return rotate_inputs(w, signs if gain is None else gain * signs)

    def _signs(self) -> Float32:
        return signs(self.source.config.hidden, self.seed)
