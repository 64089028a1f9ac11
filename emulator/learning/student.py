"""The model that learns, and its teacher: the same forward pass, other weights."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from emulator.config import LlamaConfig
from emulator.fixedpoint import power_of_two_block
from emulator.learning.bits16 import raw
from emulator.learning.divergence import divergence
from emulator.learning.latents import Latents, Rate
from emulator.learning.llama import BF16, Layer, Llama, Weight, down_factor
from emulator.quality.float_model import FloatModel
from weights.checkpoint import LAYER_MATRICES
from weights.learned_file import Change
from weights.rom import RomImage
from weights.rotate import hadamard_rows, mix_rows

CHUNK = 256  # positions whose logits of the teacher are held at a time


@dataclass(slots=True)
class Places:
    """Where each matrix's weights lie in the buffers of a Llama."""

    model: Llama
    hadamard: Tensor  # bfloat16[block, block] of +-2**-n, turns the down matrix back
    scratch: Weight  # a down matrix as the masks hold it

    @classmethod
    def empty(cls, config: LlamaConfig, gain: np.ndarray | None) -> Places:
        """Buffers for a model of this shape; `gain` is a tied model's final gain."""
        queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
        hidden, ffn = config.hidden, config.ffn
        layers = [
            Layer(
                Weight.empty(queries + 2 * keys, hidden),
                Weight.empty(hidden, queries),
                Weight.empty(2 * ffn, hidden),
                Weight.empty(hidden, ffn),
            )
            for _ in range(config.layers)
        ]
        embedding = Weight.empty(config.vocabulary, hidden)
        head = embedding if config.tied else Weight.empty(config.vocabulary, hidden)
        turn, own = None, None
        if gain is not None:
            one = np.eye(hidden, dtype=np.float32)
            turn = torch.from_numpy(hadamard_rows(mix_rows(one), power_of_two_block(hidden)))
            own = torch.from_numpy(gain.copy())
        block = power_of_two_block(ffn)
        square = torch.from_numpy(hadamard_rows(np.eye(block, dtype=np.float32), block))
        square = (square / down_factor(config)).to(BF16)
        model = Llama(config, layers, embedding, head, own, turn)
        return cls(model, square, Weight.empty(hidden, ffn))

    def put(self, name: str) -> Tensor:
        """The buffer that takes the weights of a matrix; see `settle`."""
        return self.scratch.value if name.endswith(".down") else self._of(name, "value")

    def settle(self, name: str) -> None:
        """After a down matrix was put: turn it back."""
        if name.endswith(".down"):
            self._turn(self.scratch.value, self._of(name, "value"))

    def gradient(self, name: str) -> Tensor:
        """The gradient by a matrix's weights as the masks hold them."""
        found = self._of(name, "gradient")
        if not name.endswith(".down"):
            return found
        self._turn(found, self.scratch.gradient)
        return self.scratch.gradient

    def _turn(self, given: Tensor, out: Tensor) -> None:
        block = len(self.hadamard)
        torch.mm(given.view(-1, block), self.hadamard, out=out.view(-1, block))

    def _of(self, name: str, part: str) -> Tensor:
        if name in ("embedding", "head"):
            found: Tensor = getattr(getattr(self.model, name), part)
            return found
        _, number, short = name.split(".")
        layer, c = self.model.layers[int(number)], self.model.config
        queries, keys = c.heads * c.head_dim, c.kv_heads * c.head_dim
        where = {
            "q": (layer.qkv, 0, queries),
            "k": (layer.qkv, queries, queries + keys),
            "v": (layer.qkv, queries + keys, queries + 2 * keys),
            "o": (layer.o, 0, c.hidden),
            "gate": (layer.gate_up, 0, c.ffn),
            "up": (layer.gate_up, c.ffn, 2 * c.ffn),
            "down": (layer.down, 0, c.hidden),
        }
        weight, first, last = where[short]
        rows: Tensor = getattr(weight, part)[first:last]
        return rows


def teacher_of(original: FloatModel) -> Places:
    """The original model, folded, in bfloat16."""
    gain = original.final_gain if original.config.tied else None
    places = Places.empty(original.config, gain)
    for name, weight in matrices_of(original).items():
        places.put(name).copy_(torch.from_numpy(weight))
        if name.endswith(".down"):  # in float32, and rounded once
            block = len(places.hadamard)
            turned = hadamard_rows(weight, block) / np.float32(down_factor(original.config))
            places._of(name, "value").copy_(torch.from_numpy(turned))
    return places


def matrices_of(model: FloatModel) -> dict[str, np.ndarray]:
    """A folded model's matrices by their names in an image."""
    named = {"embedding": model.embedding}
    if not model.config.tied:
        named["head"] = model.head
    for number, layer in enumerate(model.layers):
        named |= {f"layers.{number}.{name}": layer[name] for name in LAYER_MATRICES}
    return named


@dataclass(slots=True)
class Student:
    """An image's masks while they are learned."""

    places: Places
    latents: dict[str, Latents]
    given: Tensor = field(init=False)  # [positions, vocabulary], logits and then their gradient

    @classmethod
    def of(cls, image: RomImage, original: FloatModel, lean: float) -> Student:
        gain = FloatModel.of_image(image).final_gain if image.config.tied else None
        originals = matrices_of(original)
        latents = {
            name: Latents.of(matrix, originals[name], lean)
            for name, matrix in image.matrices.items()
        }
        student = cls(Places.empty(image.config, gain), latents)
        student.build()
        return student

    def __post_init__(self) -> None:
        self.given = torch.empty(0, self.places.model.config.vocabulary, dtype=BF16)

    def build(self) -> None:
        """Make the weights that masks would hold."""
        for name, latent in self.latents.items():
            latent.weights(raw(self.places.put(name)))
            self.places.settle(name)

    def changes(self) -> dict[str, Change]:
        """What was learned so far."""
        return {
            name: Change(latent.moves(), *latent.stored_scales())
            for name, latent in self.latents.items()
        }

    def step(self, rate: Rate) -> None:
        """Follow the gradients, then make the weights anew."""
        for name, latent in self.latents.items():
            latent.step(raw(self.places.gradient(name)), rate)
        self.build()

    @torch.no_grad()
    def distance(self, wanted: Tensor, teacher: Llama, ids: Tensor) -> np.ndarray:
        """KL by position, float32[B T]; `wanted` is what the teacher's head reads."""
        model = self.places.model
        x = model.final(model.embed(ids))
        return self._compare(wanted, teacher, x)

    def learn(self, wanted: Tensor, teacher: Llama, ids: Tensor) -> np.ndarray:
        """The same, and the mean's gradient by every weight."""
        model = self.places.model
        r = model.embed(ids).requires_grad_()
        x = model.final(r)
        kl = self._compare(wanted, teacher, x.detach())
        pull = self.given[: len(x)]
        torch.mm(pull.T, x.detach(), out=model.head.gradient)
        x.backward(pull @ model.head.value)
        assert r.grad is not None
        rows = r.grad.reshape(len(x), -1).to(BF16)
        if model.head is not model.embedding:
            model.embedding.gradient.zero_()
        model.embedding.gradient.index_add_(0, ids.reshape(-1), rows)
        return kl

    def _compare(self, wanted: Tensor, teacher: Llama, x: Tensor) -> np.ndarray:
        if len(self.given) < len(x):
            self.given = self.given.new_empty(len(x), self.given.shape[1])
        theirs = torch.empty(min(CHUNK, len(x)), self.given.shape[1], dtype=BF16)
        found = []
        for start in range(0, len(x), CHUNK):
            end = min(start + CHUNK, len(x))
            ours, their = self.given[start:end], theirs[: end - start]
            torch.mm(x[start:end], self.places.model.head.value.T, out=ours)
            torch.mm(wanted[start:end], teacher.head.value.T, out=their)
            found.append(divergence(raw(their), raw(ours), 1 / len(x)))
        return np.concatenate(found)
