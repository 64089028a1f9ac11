"""The chip: embedding, layers, head. Tokens in, logits and eight best ids out; integers only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from types import ModuleType

import numpy as np

from emulator.blocks.block import Block
from emulator.blocks.embedding import Embedding
from emulator.blocks.kv_sram import KvSram, check_fits
from emulator.blocks.layer import layer_blocks
from emulator.blocks.lm_head import head_blocks
from emulator.blocks.top_k import TopK
from emulator.blocks.wires import Arrays, Int64, Wires
from emulator.errors import AdapterError, ContextError, UsageError
from emulator.recorded_pass import Recorder
from emulator.terminal.kernels import load_kernels
from kernels.sram_matrix import SramMatrix
from weights.checkpoint import LAYER_MATRICES
from weights.layer_vectors import of_layer
from weights.lora import Adapter
from weights.rom import RomImage

NO_ADAPTER = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """Blocks that belong together in a report: the embedding, one layer, or the head."""

    name: str
    blocks: list[Block]
    layer: int | None = None  # number of a layer


def build_stages(
    image: RomImage,
    context: int,
    side: Mapping[str, SramMatrix] | None = None,
    srams: Sequence[KvSram] | None = None,
) -> list[Stage]:
    """The stages of the chip in the order of the datapath. Run and timing both walk this list.

    `side` is what the adapter SRAM adds, by the names of the image's matrices; `srams` are the KV
    SRAMs of the layers where they are there already.
    """
    config, side = image.config, side or {}
    rope = image.vectors["rope_cosine"], image.vectors["rope_sine"]
    layers = []
    for i in range(config.layers):
        matrices = {name: image.matrices[f"layers.{i}.{name}"] for name in LAYER_MATRICES}
        own = {name: f"layers.{i}.{name}" for name in LAYER_MATRICES}
        added = {name: side[key] for name, key in own.items() if key in side}
        vectors = of_layer(image.vectors, i)
        sram = srams[i] if srams else KvSram.of(config, context)
        blocks = layer_blocks(config, i, matrices, vectors, rope, sram, added)
        layers.append(Stage(f"layer {i}", blocks, i))
    entry = Stage("embedding", [Embedding(image.matrices["embedding"])])
    head = Stage("head", [*head_blocks(image), TopK(config.vocabulary)])
    return [entry, *layers, head]


@dataclass(frozen=True, slots=True)
class KvContents:
    """A copy of what a KV SRAM holds of one sequence."""

    tokens: list[int]
    layers: list[Arrays]  # by name, each [len(tokens), ..]
    adapter: str  # that made them


class Chip:
    """A running image, with the KV SRAM of one sequence and the adapters beside it.

    One adapter, or none, is in use; keys and values that another one made are forgotten. What
    adapters take of the SRAM is missing in positions. `srams`: its layers' KV SRAMs, of a board.
    """

    def __init__(
        self,
        image: RomImage,
        context: int | None = None,
        ops: ModuleType | None = None,
        adapters: Iterable[Adapter] = (),
        srams: Sequence[KvSram] | None = None,
    ) -> None:
        if context is not None and context < 1:
            raise UsageError(f"a chip has at least 1 position, not {context}")
        self.image = image
        self.positions = min(context or image.context, image.context)  # without adapters
        check_fits(image.config, self.positions)
        self.ops = ops or load_kernels()
        self.stages = build_stages(image, self.positions, srams=srams)
        # Bits of SRAM that the keys and values of one position take, over all layers.
        self.position_bits = sum(sram.stored_bits for sram in self._kv_srams())
        self.tokens: list[int] = []  # whose keys and values are in the KV SRAM, in order
        self.adapters: dict[str, Adapter] = {}
        self._recorder = Recorder()
        self.adapter = NO_ADAPTER  # the name of the one in use
        self._stages = {NO_ADAPTER: self.stages}
        for adapter in adapters:
            self.load(adapter)

    @property
    def context(self) -> int:
        """Positions that the adapters leave."""
        taken = sum(adapter.stored_bits for adapter in self.adapters.values())
        return self.positions - -(-taken // self.position_bits)

    def load(self, adapter: Adapter) -> None:
        """Put an adapter into the SRAM; one of the same name is replaced.

        Raises AdapterError, and changes nothing, where it leaves no room for a position.
        """
        others = [a.stored_bits for name, a in self.adapters.items() if name != adapter.name]
        bits = adapter.stored_bits
        room = self.positions * self.position_bits - sum(others)
        if bits > room - 2 * self.position_bits:
            raise AdapterError(
                f"adapter {adapter.name} takes {bits / 8e6:.2f} MB of SRAM, and "
                f"{max(room, 0) / 8e6:.2f} MB are left for it and for keys and values"
            )
        stages = build_stages(self.image, self.positions, adapter.matrices, self._kv_srams())
        if adapter.name in self.adapters:
            self.drop(adapter.name)
        self.adapters[adapter.name] = adapter
        self._stages[adapter.name] = stages
        if self.position > self.context:
            self.rewind(0)

    def drop(self, name: str) -> None:
        """Take an adapter out of the SRAM. Raises AdapterError if there is none of this name."""
        self._check(name)
        if self.adapter == name:
            self.use(NO_ADAPTER)
        del self.adapters[name], self._stages[name]

    def use(self, name: str = NO_ADAPTER) -> None:
        """Run with this adapter from now on, "" for none; keys and values of another go.

        Raises AdapterError if there is none of this name.
        """
        if name == self.adapter:
            return
        if name != NO_ADAPTER:
            self._check(name)
        self.rewind(0)
        self.adapter, self.stages = name, self._stages[name]

    def _check(self, name: str) -> None:
        if name not in self.adapters:
            held = ", ".join(self.adapters) or "none"
            raise AdapterError(f"no adapter {name!r} in the SRAM; loaded: {held}")

    @property
    def position(self) -> int:
        """Number of tokens in the KV SRAM, and position of the next one."""
        return len(self.tokens)

    def forward(self, tokens: list[int], all_logits: bool = False) -> Wires:
        """Run tokens at the next positions. All at once or one by one, the bits are the same.

        Returns the wires: `logits` int32[T or 1, vocabulary] Q15.16 and `top` int64[8].
        Raises ContextError if they do not fit, and UsageError for no tokens or an id outside the
        vocabulary; the KV SRAM then stays as it was.
        """
        wires = self.enter(tokens, all_logits)
        self.finish(wires)
        return wires

    def enter(self, tokens: list[int], all_logits: bool = False) -> Wires:
        """The wires before a pass over tokens at the next positions. Raises as `forward` does."""
        ids = self._ids(tokens)
        end = self.position + len(tokens)
        if end > self.context:
            raise ContextError(f"{end} tokens do not fit the chip's {self.context} positions")
        return Wires(ids, self.position, all_logits)

    def finish(self, wires: Wires) -> None:
        """Run a pass that `enter` began."""
        self._recorder.run(self.ops, self.stages, wires)
        self.tokens += wires.tokens.tolist()

    def each_token(self, wires: Wires) -> Iterator[Wires]:
        """A pass with all logits as passes over its tokens one by one: logits and top of each."""
        if wires.tokens.size == 1:
            yield wires
            return
        search = self.stages[-1].blocks[-1]
        for i, token in enumerate(wires.tokens):
            one = Wires(token[None], wires.start + i, True, logits=wires.logits[i : i + 1])
            search.run(self.ops, one)
            yield one

    def resume(self, prompt: list[int], rest: int = 1) -> int:
        """Keep what the KV SRAM holds of the prompt, forget the rest; return the number kept.

        At least the last `rest` tokens are left to run, since the caller needs their logits.
        Running them gives the same bits as a run from position 0.
        """
        kept = 0
        for held, token in zip(self.tokens, prompt[: max(len(prompt) - rest, 0)], strict=False):
            if held != token:
                break
            kept += 1
        self.rewind(kept)
        return kept

    def rewind(self, position: int) -> None:
        """Forget all tokens from `position` on. Raises UsageError below 0."""
        if position < 0:
            raise UsageError(f"the chip cannot go back to position {position}")
        del self.tokens[position:]

    def kv_contents(self) -> KvContents:
        """Copy what the KV SRAM holds."""
        end = self.position
        layers = [{n: a[:end].copy() for n, a in kv.memory.items()} for kv in self._kv_srams()]
        return KvContents(list(self.tokens), layers, self.adapter)

    def restore(self, contents: KvContents) -> None:
        """Put a copy back, made on a chip with the same image and adapters, and use its adapter."""
        self.use(contents.adapter)
        for kv, held in zip(self._kv_srams(), contents.layers, strict=True):
            for name, array in kv.memory.items():
                array[: len(contents.tokens)] = held[name]
        self.tokens = list(contents.tokens)

    def _kv_srams(self) -> list[KvSram]:
        return [b for stage in self.stages for b in stage.blocks if isinstance(b, KvSram)]

    def _ids(self, tokens: list[int]) -> Int64:
        """The tokens as int64[T]: whole numbers, at least one, all inside the vocabulary."""
        if len(tokens) == 0:
            raise UsageError("a pass needs at least one token")
        vocabulary = self.image.config.vocabulary
        for token in tokens:
            if not isinstance(token, Integral) or not 0 <= token < vocabulary:
                raise UsageError(f"token {token!r} is outside the vocabulary of {vocabulary}")
        return np.array(tokens, np.int64)
