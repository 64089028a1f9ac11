"""What an error in a weight costs at the end: second derivatives of the KL divergence.

A matrix whose weights are off by E moves its output by E x for an input x. If g is the gradient of
ln p(y) by that output, y a token drawn from the original's own answer, the divergence grows by half
the mean of (g' E x)**2 (Fisher information). Two factors stand for all those tokens, as in K-FAC
(Martens and Grosse, arXiv 1503.05671):

    cost of E = trace(outputs E inputs E')
    inputs  = mean of |g|**2 x x', [columns, columns]    outputs = mean of |x|**2 g g', [rows, rows]

Each is weighted by the other's size: a token counts as much as the answer listens to it, which the
plain moments of `weights.calibrate` do not know.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from emulator.errors import UsageError
from emulator.learning.bits16 import raw
from emulator.learning.divergence import draw
from emulator.learning.llama import BF16, Layer, Llama, Weight
from emulator.learning.rounding import Cost
from emulator.learning.student import Places
from emulator.learning.team import each
from emulator.learning.texts import Texts, write_arrays
from weights.checkpoint import LAYER_MATRICES, tensor_shape
from weights.safetensors_file import SafetensorsFile

WINDOWS = 200  # of each kind, that costs are measured on
BATCH = 4  # windows that a thread takes at a time
PARTS = {"qkv": ("q", "k", "v"), "o": ("o",), "gate_up": ("gate", "up"), "down": ("down",)}
Progress = Callable[[int, int], None]  # (windows done, windows in all)


@dataclass(slots=True)
class Watched(Weight):
    """A weight whose backward adds to the factors of its matrices, and makes no gradient."""

    parts: dict[str, slice] = field(default_factory=dict)  # rows of each matrix, by its name
    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, weight: Weight, rows: Mapping[str, int]) -> Watched:
        """`rows` of each matrix that lies in the weight, by name, from the top."""
        found, at, columns = cls(weight.value, weight.gradient), 0, weight.value.shape[1]
        for name, count in rows.items():
            found.parts[name] = slice(at, at + count)
            found.inputs[name] = torch.zeros(columns, columns)
            found.outputs[name] = torch.zeros(count, count)
            at += count
        return found

    def take(self, x: Tensor, pull: Tensor) -> None:
        """Add tokens: inputs x [T, columns], gradients by outputs [T, rows]; any thread may."""
        long = x.float().square().mean(1).sqrt()[:, None].to(BF16)
        for name, part in self.parts.items():
            g = pull[:, part]
            size = g.float().square().mean(1).sqrt()[:, None].to(BF16)
            weighted, pulled = x * size, g * long
            inputs, outputs = weighted.T @ weighted, pulled.T @ pulled
            with self.lock:
                self.inputs[name] += inputs
                self.outputs[name] += outputs


def costs_of(places: Places, texts: Texts, seed: int, progress: Progress) -> dict[str, Cost]:
    """Costs by a matrix's name in an image, of the original's `places`, measured on the texts.

    Sums run in bfloat16 products on as many threads as there are, so they differ between hosts and
    a little between runs.
    """
    model = _watching(places.model)
    head, stream = (torch.zeros(model.config.hidden, model.config.hidden) for _ in range(2))
    chosen, loudness = _chosen(texts, seed)
    lock, done = threading.Lock(), 0

    def one(given: tuple[int, np.ndarray, np.ndarray]) -> None:
        nonlocal done
        number, windows, sizes = given
        ids = torch.from_numpy(windows)
        r = model.embed(ids).requires_grad_()
        x = model.final(r)
        logits = x.detach() @ model.head.value.T
        chance = np.random.default_rng((seed, number)).random(len(x), np.float32)
        loud = np.repeat(sizes, ids.shape[1])
        spread = draw(raw(logits), chance, loud)
        x.backward(logits @ model.head.value)
        assert r.grad is not None
        pull = r.grad.reshape(len(x), -1)
        seen = x.detach().float() * torch.from_numpy(loud * np.sqrt(spread))[:, None]
        into_head, into_stream = seen.T @ seen, pull.T @ pull
        with lock:
            head.add_(into_head)
            stream.add_(into_stream)
            done += len(windows)
            progress(done, len(chosen))

    starts = range(0, len(chosen), BATCH)
    progress(done, len(chosen))
    each(one, [(k, chosen[k : k + BATCH], loudness[k : k + BATCH]) for k in starts])
    return dict(_found(model, places.hadamard, head, stream))


def windows_in(texts: Texts) -> int:
    """How many windows costs are measured on."""
    return sum(min(WINDOWS, len(windows)) for windows in texts.learned.values())


def _chosen(texts: Texts, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows in any order, and what the gradients of each are multiplied by: kinds count alike."""
    random, chosen, sizes = np.random.default_rng(seed), [], []
    for name in sorted(texts.learned):
        some = random.permutation(texts.learned[name])[:WINDOWS]
        chosen.append(some)
        sizes.append(np.full(len(some), np.sqrt(WINDOWS / len(some)), np.float32))
    order = random.permutation(sum(map(len, chosen)))
    return np.concatenate(chosen)[order], np.concatenate(sizes)[order]


def _watching(model: Llama) -> Llama:
    """The same model with weights that are watched."""
    c = model.config
    rows = {name: tensor_shape(c, name)[0] for name in LAYER_MATRICES}
    layers = [
        Layer(*(Watched.of(getattr(layer, w), {n: rows[n] for n in PARTS[w]}) for w in PARTS))
        for layer in model.layers
    ]
    return Llama(c, layers, model.embedding, model.head, model.gain, model.turn)


def _found(
    model: Llama, hadamard: Tensor, head: Tensor, stream: Tensor
) -> Iterable[tuple[str, Cost]]:
    """Names and costs.

    An error in a token's row counts as often as the token comes, where it is read and, in a tied
    model, where it is guessed; so one matrix serves all rows, each of which stands alone.
    """
    if model.config.tied:
        yield "embedding", _cost(head + stream, None)
    else:
        yield "embedding", _cost(stream, None)
        yield "head", _cost(head, None)
    for number, layer in enumerate(model.layers):
        for weight in (layer.qkv, layer.o, layer.gate_up, layer.down):
            assert isinstance(weight, Watched)
            for name in weight.parts:
                inputs, outputs = weight.inputs[name], weight.outputs[name]
                if name == "down":  # the chip's input is the turned one
                    inputs = _turned(_turned(inputs, hadamard).T, hadamard).T
                yield f"layers.{number}.{name}", _cost(inputs, outputs)


def _turned(rows: Tensor, hadamard: Tensor) -> Tensor:
    return (rows.reshape(-1, len(hadamard)) @ hadamard.float()).reshape(rows.shape)


def _cost(inputs: Tensor, outputs: Tensor | None) -> Cost:
    bits = None if outputs is None else raw(_level(outputs).to(BF16))
    return Cost(_level(inputs).contiguous().numpy(), bits)


def _level(moments: Tensor) -> Tensor:
    """Divided by its mean diagonal; nothing seen costs alike everywhere."""
    mean = moments.diagonal().mean()
    return moments / mean if mean > 0 else torch.eye(len(moments))


def save_costs(path: Path, costs: Mapping[str, Cost]) -> None:
    """Keep costs for the next image of the same checkpoint. Raises UsageError."""
    inputs = {f"{name}.inputs": cost.inputs for name, cost in costs.items()}
    outputs = {f"{n}.outputs": c.outputs for n, c in costs.items() if c.outputs is not None}
    write_arrays(path, inputs | outputs)


def load_costs(path: Path) -> dict[str, Cost]:
    """Costs that were kept, as views of the file. Raises UsageError for a damaged one."""
    file, found = SafetensorsFile(path, UsageError), {}
    for name in (n.removesuffix(".inputs") for n in file.names if n.endswith(".inputs")):
        outputs = f"{name}.outputs"
        there = file.view(outputs) if outputs in file.names else None
        found[name] = Cost(file.view(f"{name}.inputs"), there)
    return found
