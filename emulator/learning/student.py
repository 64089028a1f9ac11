"""The model that learns, and its teacher: the same forward pass, other weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from torch import Tensor

from emulator.config import LlamaConfig
from emulator.fixedpoint import power_of_two_block
from emulator.learning.bits16 import raw
from emulator.learning.divergence import divergence
from emulator.learning.latents import Latents, Rate
from emulator.learning.llama import BF16, Layer, Llama, Weight, down_factor
from emulator.learning.rounding import Cost, settle
from emulator.learning.team import each, threads
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
        return cls(model, square)

    def twin(self) -> Places:
        """The same weights with gradients of their own."""
        model = self.model
        embedding = model.embedding.twin()
        head = embedding if model.config.tied else model.head.twin()
        layers = [
            Layer(*(w.twin() for w in (layer.qkv, layer.o, layer.gate_up, layer.down)))
            for layer in model.layers
        ]
        twin = Llama(model.config, layers, embedding, head, model.gain, model.turn)
        return Places(twin, self.hadamard)

    def clear(self) -> None:
        """Set all gradients to zero."""
        for layer in self.model.layers:
            for weight in (layer.qkv, layer.o, layer.gate_up, layer.down):
                weight.gradient.zero_()
        self.model.embedding.gradient.zero_()
        self.model.head.gradient.zero_()

    def put(self, name: str) -> Tensor:
        """A buffer that takes the weights of a matrix as the masks hold them; see `settle`."""
        buffer = self._of(name, "value")
        return torch.empty_like(buffer) if name.endswith(".down") else buffer

    def settle(self, name: str, weights: Tensor) -> None:
        """After a matrix was put: a down matrix is turned back."""
        if name.endswith(".down"):
            self._turn(weights, self._of(name, "value"))

    def gradient(self, name: str) -> Tensor:
        """The gradient by a matrix's weights as the masks hold them."""
        found = self._of(name, "gradient")
        if not name.endswith(".down"):
            return found
        turned = torch.empty_like(found)
        self._turn(found, turned)
        return turned

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
    """An image's masks while they are learned.

    Each thread takes a part of the sequences, or of the matrices, from start to end: threads that
    share every product wait for each other hundreds of times a step, which on a busy machine
    doubles its time.
    """

    places: list[Places]  # of each thread: the same weights, gradients of its own
    latents: dict[str, Latents]

    @classmethod
    def of(cls, image: RomImage) -> Student:
        gain = FloatModel.of_image(image).final_gain if image.config.tied else None
        latents = {name: Latents.of(matrix) for name, matrix in image.matrices.items()}
        first = Places.empty(image.config, gain)
        student = cls([first, *(first.twin() for _ in range(1, threads()))], latents)
        student.build()
        return student

    @property
    def model(self) -> Llama:
        return self.places[0].model

    def build(self) -> None:
        """Make the weights that masks would hold."""
        each(self._build, self.latents)

    def settle(
        self,
        image: RomImage,
        originals: Mapping[str, np.ndarray],
        costs: Mapping[str, Cost],
        progress: Callable[[int, int], None],
    ) -> None:
        """Round the masks of the image, which these are, at the least cost to the answer."""
        done = count(1)  # whose next number two threads cannot take twice

        def one(name: str) -> None:
            settle(image.matrices[name], originals[name], costs[name], self.latents[name])
            progress(next(done), len(self.latents))

        progress(0, len(self.latents))
        each(one, self.latents)

    def step(self, rate: Rate) -> None:
        """Follow the gradients, then make the weights anew."""

        def one(name: str) -> None:
            first, *others = (place.gradient(name) for place in self.places)
            for other in others:
                first.add_(other)
            self.latents[name].step(raw(first), rate)
            self._build(name)

        each(one, self.latents)

    def _build(self, name: str) -> None:
        self.latents[name].weights(raw(weights := self.places[0].put(name)))
        self.places[0].settle(name, weights)

    def changes(self) -> dict[str, Change]:
        """What was learned so far."""
        return {
            name: Change(latent.moves(), *latent.stored_scales())
            for name, latent in self.latents.items()
        }

    def distance(self, teacher: Llama, ids: Tensor) -> np.ndarray:
        """KL from the teacher by position, float32[B T], for tokens [B, T]."""

        @torch.no_grad()
        def one(part: int) -> np.ndarray:
            some = ids[part :: len(self.places)]
            if not len(some):
                return np.empty(0, np.float32)
            wanted = teacher.final(teacher.embed(some))
            x = self.model.final(self.model.embed(some))
            return self._compare(wanted, teacher, x, ids.numel())[0]

        return np.concatenate(each(one, range(len(self.places))))

    def learn(self, teacher: Llama, ids: Tensor) -> np.ndarray:
        """The same, and the mean's gradient by every weight."""

        def one(part: int) -> np.ndarray:
            model, some = self.places[part].model, ids[part :: len(self.places)]
            if not len(some):
                self.places[part].clear()
                return np.empty(0, np.float32)
            with torch.no_grad():
                wanted = teacher.final(teacher.embed(some))
            r = model.embed(some).requires_grad_()
            x = model.final(r)
            kl, pull = self._compare(wanted, teacher, x.detach(), ids.numel())
            torch.mm(pull.T, x.detach(), out=model.head.gradient)
            x.backward(pull @ model.head.value)
            assert r.grad is not None
            rows = r.grad.reshape(len(x), -1).to(BF16)
            if model.head is not model.embedding:
                model.embedding.gradient.zero_()
            model.embedding.gradient.index_add_(0, some.reshape(-1), rows)
            return kl

        return np.concatenate(each(one, range(len(self.places))))

    def _compare(
        self, wanted: Tensor, teacher: Llama, x: Tensor, positions: int
    ) -> tuple[np.ndarray, Tensor]:
        """KL of each position, and the gradient of their share of the mean by the logits."""
        vocabulary = self.model.config.vocabulary
        given = torch.empty(len(x), vocabulary, dtype=BF16)
        theirs = torch.empty(min(CHUNK, len(x)), vocabulary, dtype=BF16)
        found = []
        for start in range(0, len(x), CHUNK):
            end = min(start + CHUNK, len(x))
            ours, their = given[start:end], theirs[: end - start]
            torch.mm(x[start:end], self.model.head.value.T, out=ours)
            torch.mm(wanted[start:end], teacher.head.value.T, out=their)
            found.append(divergence(raw(their), raw(ours), 1 / positions))
        return np.concatenate(found), given
