"""Runs the whole chip in the simulator, and writes its commit log as the emulator writes one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from emulator.blocks.wires import SIGNALS
from emulator.chip import Stage
from emulator.errors import EmulatorError
from emulator.rtl.chip import ChipRtl
from emulator.rtl.pipeline import Port
from emulator.rtl.rom import word_of
from emulator.rtl.simulate import run_bench, values_of
from emulator.verification.golden import array_digest


@dataclass(frozen=True)
class ChipRun:
    """What a simulated chip did."""

    tokens: list[int]  # that went in, prompt first; the last one came out
    cycles: int  # from the first token in to the last one out
    seen: dict[tuple[str, str], list[np.ndarray]]  # of every block and signal, in order


def _probes(chip: ChipRtl) -> list[tuple[str, list[str], Port]]:
    """Block, the signals that its port carries, port."""
    kv = [(n, [f"sram.{n[5:]}"]) for n in ("sram_k", "sram_k_scale", "sram_v", "sram_v_scale")]
    found: list[tuple[str, list[str], Port]] = [
        ("embedding", ["residual"], chip.embedding.port("residual")),
        ("rms_norm", ["x"], chip.norm.port("x")),
        ("rms_norm", ["x_scale"], chip.norm.port("x_scale")),
        ("rope", ["q", "k"], chip.rope.outputs[0]),
        ("kv_sram", ["q8"], chip.kv.port("q8")),
        ("kv_sram", ["q8_scale"], chip.kv.port("q8_scale")),
        *(("kv_sram", names, chip.kv.port(port)) for port, names in kv),
        ("attention", ["x"], chip.attention.port("x")),
        ("attention", ["x_scale"], chip.attention.port("x_scale")),
        ("residual_add", ["residual"], chip.add.port("sum")),
        (chip.gate.block.name, ["x"], chip.gate.port("x")),
        (chip.gate.block.name, ["x_scale"], chip.gate.port("x_scale")),
        ("final", ["x"], chip.final.port("x")),
        ("final", ["x_scale"], chip.final.port("x_scale")),
        ("fabric_head", ["logits"], chip.head.outputs[0]),
        ("top_k", ["top"], chip.top_k.port("top")),
    ]
    for name, fabrics in chip.fabrics.items():
        found += [(name, list(fabric.matrices), fabric.outputs[0]) for fabric in fabrics]
    return found


def run_chip(chip: ChipRtl, prompt: list[int], limit: int = 200_000) -> ChipRun:
    """From the prompt to the last position. Raises EmulatorError when the chip does not end."""
    seen: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    probes, tokens, end = _probes(chip), [], 0

    async def bench(ctx: Any) -> None:
        nonlocal end
        ctx.set(chip.prompt.data, word_of(prompt, 32))
        ctx.set(chip.prompt.valid, 1)
        for cycle in range(limit):
            for block, names, port in probes:
                if ctx.get(port.valid):
                    _note(chip, seen, block, names, values_of(port, [ctx.get(port.data)]))
            if ctx.get(chip.token.valid):
                tokens.append(ctx.get(chip.token.data))
                if len(tokens) == chip.context + 1:
                    end = cycle
                    return
            await ctx.tick()
            if cycle == 0:
                ctx.set(chip.prompt.valid, 0)
        raise EmulatorError(f"the chip made {len(tokens)} of {chip.context + 1} tokens")

    run_bench(chip, bench)
    return ChipRun(tokens, end, seen)


def _note(
    chip: ChipRtl, seen: dict[tuple[str, str], list[np.ndarray]], block: str, names: list[str],
    values: np.ndarray,
) -> None:  # fmt: skip
    sizes = {"q": chip.rope.block.values}
    if names == ["q", "k"]:
        cut = chip.attention.width
        seen[block, "q"].append(values[:cut])
        seen[block, "k"].append(values[cut : sizes["q"]])
    elif len(names) == 1:
        seen[block, names[0]].append(values)
    elif names == ["gate", "up"]:
        seen[block, "gate"].append(values[::2])
        seen[block, "up"].append(values[1::2])
    else:
        fabric = chip.fabrics[block][0]
        at = 0
        for name, matrix in fabric.matrices.items():
            seen[block, name].append(values[at : at + matrix.rows])
            at += matrix.rows


def commit_lines(run: ChipRun, stages: list[Stage], prompt: int) -> Iterator[list[str]]:
    """The log of each token, as `emulator.verification.vectors.commit_log` writes it.

    A prompt token but the last does not reach the head, so its log ends before it.
    """
    queues = {key: iter(arrays) for key, arrays in run.seen.items()}
    for position in range(len(run.tokens) - 1):
        lines, step = [], 0
        residual = np.zeros(0, np.int64)
        for stage in stages:
            if stage.name == "head" and position < prompt - 1:
                continue
            for block in stage.blocks:
                own = "final" if stage.name == "head" and "norm" in block.name else block.name
                names = [*block.writes, *(f"sram.{n}" for n in block.memory if block.writes_memory)]
                for name in names:
                    wire = block.name == "head_select"
                    array = residual if wire else next(queues[own, name])
                    if name == "residual":
                        residual = array
                    lines.append(_line(step, stage.name, block, name, array))
                step += 1
        yield lines


def _line(step: int, stage: str, block: Any, name: str, values: np.ndarray) -> str:
    if name.startswith("sram."):
        like = block.memory[name[5:]]
        array = values.reshape(1, *like.shape[1:]).astype(like.dtype)
    else:
        signal = SIGNALS[name]
        array = values.astype(signal.format.dtype)
        shape = _shape(block, name, array.size)
        array = array.reshape(shape)
    shape_text = ",".join(map(str, array.shape))
    place = stage.replace(" ", "_")
    digest = array_digest(array)[:16]
    return f"{step:05} {place} {block.name} {name} {array.dtype.name}[{shape_text}] {digest}"


def _shape(block: Any, name: str, size: int) -> tuple[int, ...]:
    if name == "top":
        return (size,)
    if name == "q8_scale":
        return (1, size // 2, 2)
    if name in ("q", "k", "v", "q8"):
        dim = block.head_dim if hasattr(block, "head_dim") else 2 * block.cosine.shape[1]
        return (1, size // dim, dim)
    return (1, size)
