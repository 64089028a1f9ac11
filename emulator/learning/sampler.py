"""Text that a model says of itself, many sequences side by side, to learn from.

The model's own words are what its masks will be asked for, there is no end of them, and they need
no licence. Sequences differ in temperature: at 1 tokens are as common as the model thinks, but a
small model soon talks nonsense there, which no user reads.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch import Tensor

from emulator.learning.llama import BF16, Llama, down_factor, turned
from emulator.learning.norm import Norm

TEMPERATURES = (0.7, 1.0)  # of the first sequence of a run and of the last
ABREAST = 96  # sequences at a time: more share a read of the weights, and hold more KV cache


@torch.no_grad()
def sampled(
    model: Llama,
    prompts: list[list[int]],
    length: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """int64[prompts, length]: each prompt's tokens and then the model's own."""
    random = torch.Generator().manual_seed(seed)
    runs = [prompts[at : at + ABREAST] for at in range(0, len(prompts), ABREAST)]
    found = []
    for number, run in enumerate(runs):
        ids = torch.zeros(len(run), length, dtype=torch.int64)
        known = torch.tensor([len(prompt) for prompt in run])
        for row, prompt in enumerate(run):
            ids[row, : len(prompt)] = torch.tensor(prompt[:length])
        cache = _Cache(model, len(run), length)
        cold = 1 / torch.linspace(*TEMPERATURES, len(run))[:, None]
        for at in range(length - 1):
            progress(number * length + at, len(runs) * length)
            x = cache.final(ids[:, at], at)
            if at + 1 < int(known.min()):
                continue
            logits = (x @ model.head.value.T).float()
            drawn = torch.multinomial(torch.softmax(logits * cold, -1), 1, generator=random)[:, 0]
            ids[:, at + 1] = torch.where(at + 1 < known, ids[:, at + 1], drawn)
        found.append(ids)
    return torch.cat(found)


class _Cache:
    """Keys and values of some sequences, and the pass of a token of each."""

    def __init__(self, model: Llama, sequences: int, length: int) -> None:
        c = model.config
        self.model = model
        shape = (c.layers, 2, sequences, c.kv_heads, length, c.head_dim)
        self.held = torch.empty(shape, dtype=BF16)

    def final(self, ids: Tensor, at: int) -> Tensor:
        """bfloat16[sequences, hidden], the head's input, of a token [sequences] at a position."""
        c = self.model.config
        r = self.model.embedding.value[ids].float()
        for layer, (keys, values) in zip(self.model.layers, self.held, strict=True):
            x = Norm.apply(r, c.rms_epsilon)
            q, k, v = (
                (x @ layer.qkv.value.T)
                .view(len(ids), -1, c.head_dim)
                .split([c.heads, c.kv_heads, c.kv_heads], 1)
            )
            cosine, sine = self.model.turns[:, at]
            q, keys[:, :, at] = turned(q, cosine, sine), turned(k, cosine, sine)
            values[:, :, at] = v
            q = q.reshape(len(ids), c.kv_heads, -1, c.head_dim)
            a = F.scaled_dot_product_attention(q, keys[:, :, : at + 1], values[:, :, : at + 1])
            r = r + a.reshape(len(ids), -1) @ layer.o.value.T
            x = Norm.apply(r, c.rms_epsilon)
            gate, up = (x @ layer.gate_up.value.T).float().chunk(2, -1)
            h = (down_factor(c) * F.silu(gate) * up).to(BF16)
            r = r + h @ layer.down.value.T
        return self.model.head_input(r)
