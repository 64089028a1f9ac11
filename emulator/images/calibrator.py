"""Run calibration text through the chip, layer by layer, while its masks are being made."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from emulator.blocks.block import Block
from emulator.blocks.embedding import Embedding
from emulator.blocks.kv_sram import KvSram
from emulator.blocks.layer import layer_blocks
from emulator.blocks.lm_head import final_norm
from emulator.blocks.wires import Int32, Wires
from emulator.chat.template import ChatFormat, chat_format
from emulator.config import LlamaConfig
from emulator.terminal.kernels import load_kernels
from emulator.text import read_text, windows_of
from kernels.rom.pack import PackedMatrix
from weights.calibrate import DEFAULT_TEXT, Collected, Collector, Moments
from weights.checkpoint import Checkpoint
from weights.rope_table import rope_tables

WINDOW = 512  # tokens that attend to each other
WINDOWS = 32


def calibrator_of(source: Checkpoint, text: Path | None = None) -> ChipCalibrator:
    """A calibrator over windows of a UTF-8 text, by default the one that ships.

    If the checkpoint has a chat format, every second window is a conversation.
    Raises UsageError if the text cannot be read or is shorter than one window.
    """
    path = text or DEFAULT_TEXT
    words = read_text(path)
    chat = chat_format(source.tokenizer_json, source.chat_style)
    length = min(WINDOW, source.config.context)
    windows = np.array(windows_of(chat.encode(words), length, path)[:WINDOWS])
    for i in range(1, len(windows), 2):
        windows[i] = _conversation(chat, windows[i])
    return ChipCalibrator(source.config, windows)


def _conversation(chat: ChatFormat, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Make the first half of a window a question and the second its answer."""
    half = ids.size // 2
    question = chat.question(chat.decode(ids[:half].tolist()))
    return np.array([*chat.opening(None), *question, *ids[half:], *ids])[: ids.size]


@dataclass(slots=True)
class ChipCalibrator:
    """A `weights.calibrate.Calibrator` that holds each window of text as a residual stream."""

    config: LlamaConfig
    windows: NDArray[np.int64]  # [windows, tokens]
    ops: ModuleType = field(default_factory=load_kernels)
    residual: list[Int32] = field(default_factory=list)  # one per window, [tokens, hidden] Q15.16

    def embed(self, table: PackedMatrix) -> None:
        """Start each residual stream with the text's embeddings."""
        for ids in self.windows:
            wires = Wires(ids, 0, all_logits=True)
            Embedding(table).run(self.ops, wires)
            self.residual.append(wires.residual)

    def layer(
        self,
        layer: int,
        matrices: dict[str, PackedMatrix],
        vectors: dict[str, NDArray],
        into: Collector = Moments,
    ) -> dict[str, Collected]:
        """Run the next layer; return what was collected of each fabric pass's input, by name."""
        length = self.windows.shape[1]
        sram = KvSram.of(self.config, length)
        rope = rope_tables(self.config, length)
        return self._run(layer_blocks(self.config, layer, matrices, vectors, rope, sram), into)

    def head(
        self,
        gain: NDArray[np.int16] | None,
        exponent: int,
        mixer: NDArray[np.int16] | None,
        into: Collector = Moments,
    ) -> Collected:
        """What was collected of the head's input, [tokens, hidden]."""
        collected = into(self.config.hidden)
        norm = final_norm(self.config, gain, exponent, mixer)
        for ids, residual in zip(self.windows, self.residual, strict=True):
            wires = Wires(ids, 0, all_logits=True, residual=residual)
            norm.run(self.ops, wires)
            collected.add(wires.x, wires.x_scale)
        return collected

    def provenance(self) -> dict[str, object]:
        """Shape and hash of the text's tokens."""
        windows, length = self.windows.shape
        return {"windows": windows, "window": length, "tokens_sha256": self.digest}

    @property
    def digest(self) -> str:
        """SHA-256 of the text's tokens."""
        return hashlib.sha256(self.windows.astype("<i8").tobytes()).hexdigest()

    def _run(self, blocks: list[Block], into: Collector) -> dict[str, Collected]:
        collected: dict[str, Collected] = {}
        for i, ids in enumerate(self.windows):
            wires = Wires(ids, 0, all_logits=True, residual=self.residual[i])
            for block in blocks:
                if "x" in block.reads:
                    name = block.name.removeprefix("fabric_")
                    if name not in collected:
                        collected[name] = into(wires.x.shape[1])
                    collected[name].add(wires.x, wires.x_scale)
                block.run(self.ops, wires)
            self.residual[i] = wires.residual
        return collected
