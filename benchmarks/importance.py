"""llama.cpp's importance matrix, from the float model in place of llama.cpp's own tool.

For each matrix of the layers: the mean square of each of its input columns over a text, run in
windows of 512 tokens. The embedding and the head have none, as in that tool by default.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from emulator.quality.float_model import Float32, FloatModel
from emulator.quality.tap_points import Exact

WINDOW = 512  # tokens that see each other
READERS = {  # place in the float model -> the matrices that read it, as GGUF names them
    "qkv_input": ("attn_q", "attn_k", "attn_v"),
    "o_input": ("attn_output",),
    "gate_up_input": ("ffn_gate", "ffn_up"),
    "down_input": ("ffn_down",),
}


class Squares(Exact):
    """Sums of squares of what one layer's matrices read, by place, while nothing changes."""

    def __init__(self) -> None:
        self.sums: dict[str, NDArray[np.float64]] = {}

    def wire(self, place: str, x: Float32) -> Float32:
        if place in READERS:
            sums = np.square(x, dtype=np.float64).sum(axis=0)
            self.sums[place] = self.sums.get(place, 0) + sums
        return x


def mean_squares(model: FloatModel, windows: list[list[int]]) -> dict[str, Float32]:
    """GGUF name of each matrix of the layers -> mean square of its input columns, [columns].

    `model` has the original weights (`FloatModel.of_checkpoint`), so that columns are the file's.
    """
    result = {}
    tokens = sum(map(len, windows))
    residuals = [model.embedding[ids] for ids in windows]
    for layer in range(len(model.layers)):
        squares = Squares()
        watched = replace(model, places=squares)
        residuals = [watched.layer(layer, r) for r in residuals]
        for place, names in READERS.items():
            mean = (squares.sums[place] / tokens).astype(np.float32)
            result.update({f"blk.{layer}.{name}.weight": mean for name in names})
    return result
