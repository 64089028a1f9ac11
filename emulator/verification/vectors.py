"""Golden vectors for RTL: what each block of a running chip is given and what it answers.

A token runs through the chip; the wanted block is written with everything that it needs, so that
a test bench (or `replay`) wants neither the image nor the blocks before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.blocks.attention import Attention
from emulator.blocks.embedding import Embedding
from emulator.blocks.kv_sram import KvSram
from emulator.blocks.lm_head import LastToken
from emulator.blocks.residual_add import ResidualAdd
from emulator.blocks.rms_norm import FinalGain, RmsNorm
from emulator.blocks.rope import Rope
from emulator.blocks.swiglu import SwiGlu
from emulator.blocks.top_k import TopK
from emulator.blocks.weight_fabric import WeightFabric
from emulator.blocks.wires import Block, Wires
from emulator.chip import Chip
from emulator.errors import UsageError
from emulator.verification.golden import array_digest
from emulator.verification.ports import (
    MEMORY,
    PORTS,
    cut_block,
    first_rows,
    fresh_wires,
    memory_of,
    with_memory,
)
from emulator.verification.vector_files import Vector
from kernels.rom.pack import PackedMatrix, pack_codes, tile_rows, unpack_codes, untile_rows

Arrays = dict[str, NDArray[Any]]
SIMPLE: dict[str, Any] = {  # blocks that are numbers and arrays only
    "rms_norm": RmsNorm,
    "rope": Rope,
    "residual_add": ResidualAdd,
    "swiglu": SwiGlu,
    "head_select": LastToken,
    "final_norm": FinalGain,
    "top_k": TopK,
}
MATRIX_ARRAYS = ("codes", "group_scale", "row_mantissa", "row_exponent", "alphabet")


def vectors(
    chip: Chip, tokens: list[int], block: str | None, layer: int, rows: int
) -> Iterator[Vector]:
    """Vectors of the last of `tokens`, run one by one: of one kind of block, or of all (None).

    Blocks of a layer come from layer `layer`. A fabric keeps about `rows` outputs a matrix.
    Raises UsageError for a block or a layer that the chip does not have.
    """
    names = {b.name for stage in chip.stages for b in stage.blocks}
    if block is not None and block not in names:
        raise UsageError(f"no block {block!r}; the chip has {', '.join(sorted(names))}")
    if not 0 <= layer < chip.image.config.layers:
        raise UsageError(f"no layer {layer}; the model has {chip.image.config.layers}")
    chip.rewind(0)
    for token in tokens[:-1]:
        chip.forward([token])
    wires = Wires(np.array(tokens[-1:], np.int64), chip.position, False)
    done: set[str] = set()
    for stage in chip.stages:
        number = int(stage.name.split()[1]) if stage.name.startswith("layer ") else None
        for one in stage.blocks:
            wanted = block in (None, one.name) and one.name not in done
            if wanted and number in (None, layer):
                done.add(one.name)
                yield _observed(chip.ops, one, wires, number, rows)
            else:
                one.run(chip.ops, wires)
    chip.tokens.append(tokens[-1])


def commit_log(chip: Chip, tokens: list[int]) -> Iterator[str]:
    """One line a block and signal, for the last of `tokens`: step, stage, block, signal, hash.

    The hash is the first 16 hex digits of the SHA-256 of the values, little-endian.
    """
    chip.rewind(0)
    for token in tokens[:-1]:
        chip.forward([token])
    position = chip.position
    wires = Wires(np.array(tokens[-1:], np.int64), position, False)
    step = 0
    for stage in chip.stages:
        for block in stage.blocks:
            block.run(chip.ops, wires)
            ports, place = PORTS[block.name], stage.name.replace(" ", "_")
            outputs = {name: getattr(wires, name) for name in ports.writes}
            sram = memory_of(block)
            if ports.writes_memory and sram is not None:
                outputs |= {f"sram.{n}": getattr(sram, n)[position : position + 1] for n in MEMORY}
            for name, array in outputs.items():
                shape = ",".join(map(str, array.shape))
                digest = array_digest(array)[:16]
                yield f"{step:05} {place} {block.name} {name} {array.dtype.name}[{shape}] {digest}"
            step += 1
    chip.tokens.append(tokens[-1])


def replay(vector: Vector, ops: ModuleType) -> Arrays:
    """Run a block that is made of its own vector; the outputs by "role.name".

    Raises UsageError for a block that is not known or arrays that do not fit it.
    """
    try:
        block = _rebuilt(vector)
        signals = dict(vector.arrays["in"])
        if isinstance(block, Embedding):  # the vector holds the rows that are looked up
            listed = vector.arrays["rom"]["row_numbers"]
            signals["tokens"] = np.searchsorted(listed, signals["tokens"])
        memory = vector.arrays["memory"]
        start, count = vector.parameters["start"], vector.parameters["tokens"]
        block = with_memory(block, memory)
        wires = fresh_wires(count, start, signals)
        block.run(ops, wires)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UsageError(f"block {vector.block}: its vector is not whole: {error!r}") from None
    return _outputs(block, wires, start, start + count)


def expected(vector: Vector) -> Arrays:
    """The responses that a vector holds, by "role.name"."""
    return {
        f"{role}.{name}": array
        for role in ("out", "memory_out")
        for name, array in vector.arrays[role].items()
    }


def _observed(ops: ModuleType, block: Block, wires: Wires, layer: int | None, rows: int) -> Vector:
    """Run the block and note what it was given and what it answered."""
    ports, part = PORTS[block.name], cut_block(block, rows)
    vector = Vector(block.name, layer, _parameters(part, wires))
    vector.arrays["in"] = {name: getattr(wires, name).copy() for name in ports.reads}
    vector.arrays["rom"] = _rom(part, block, wires)
    start, end = wires.start, wires.start + wires.tokens.size
    sram = memory_of(block)
    if sram is not None:  # what was there before
        vector.arrays["memory"] = {n: getattr(sram, n)[:end].copy() for n in MEMORY}
    block.run(ops, wires)
    for name, array in _outputs(block, wires, start, end).items():
        role, signal = name.split(".", 1)
        vector.arrays[role][signal] = _kept(part, signal, array).copy()
    return vector


def _outputs(block: Block, wires: Wires, start: int, end: int) -> Arrays:
    ports = PORTS[block.name]
    outputs = {f"out.{name}": getattr(wires, name) for name in ports.writes}
    sram = memory_of(block)
    if ports.writes_memory and sram is not None:
        outputs |= {f"memory_out.{n}": getattr(sram, n)[start:end] for n in MEMORY}
    return outputs


def _kept(part: Block, signal: str, array: NDArray[Any]) -> NDArray[Any]:
    """The outputs of the rows that the vector's fabric has."""
    if not isinstance(part, WeightFabric):
        return array
    rows = part.matrices[signal].rows
    return array[:, : rows // part.head_dim] if part.head_dim else array[:, :rows]


def _parameters(block: Block, wires: Wires) -> dict[str, int]:
    """Plain numbers: those of the pass, and the block's own."""
    numbers = {"start": wires.start, "tokens": int(wires.tokens.size)}
    for item in fields(block):  # type: ignore[arg-type]
        value = getattr(block, item.name)
        if type(value) is int:
            numbers[item.name] = value
    sram = memory_of(block)
    if isinstance(block, Attention) and sram is not None:
        numbers |= {"heads": sram.heads, "head_dim": sram.head_dim}
    if isinstance(block, WeightFabric):
        numbers |= {f"{name}.bits": m.bits for name, m in block.matrices.items()}
        numbers |= {f"{name}.group": m.group for name, m in block.matrices.items()}
    if isinstance(block, Embedding):
        numbers |= {"table.bits": block.table.bits, "table.group": block.table.group}
    return numbers


def _rom(part: Block, block: Block, wires: Wires) -> Arrays:
    """What is in the masks: constants, tables, and the codes of matrices as plain rows."""
    if isinstance(part, WeightFabric):
        rom: Arrays = {}
        for name, matrix in part.matrices.items():
            rom |= {f"{name}.{key}": array for key, array in _plain(matrix).items()}
        return rom
    if isinstance(block, Embedding):
        numbers = np.unique(wires.tokens)
        rom = {f"table.{key}": array for key, array in _rows(block.table, numbers).items()}
        return {"row_numbers": numbers, **rom}
    if isinstance(part, Rope):  # the positions up to the last one of the pass
        end = wires.start + wires.tokens.size
        return {"cosine": part.cosine[:end], "sine": part.sine[:end]}
    arrays = {}
    source = memory_of(part) if isinstance(part, KvSram) else part
    for item in fields(source):  # type: ignore[arg-type]
        value = getattr(source, item.name)
        if isinstance(value, np.ndarray) and item.name not in MEMORY:
            arrays[item.name] = value
    return arrays


def _plain(matrix: PackedMatrix) -> Arrays:
    """Codes and group scales by row, as docs/rom-image.md writes the formula of a weight."""
    return {
        "codes": unpack_codes(matrix.codes, matrix.rows, matrix.bits),
        "group_scale": untile_rows(matrix.group_scale, matrix.rows),
        "row_mantissa": matrix.row_mantissa,
        "row_exponent": matrix.row_exponent,
        "alphabet": matrix.alphabet,
    }


def _rows(matrix: PackedMatrix, numbers: NDArray[np.int64]) -> Arrays:
    """`_plain` of some rows: the table is large, the rows are few."""
    plain = _plain(first_rows(matrix, int(numbers.max()) + 1))
    return {k: a if k == "alphabet" else a[numbers] for k, a in plain.items()}


def _matrix(vector: Vector, name: str) -> PackedMatrix:
    parts = {key: vector.arrays["rom"][f"{name}.{key}"] for key in MATRIX_ARRAYS}
    rows, columns = parts["codes"].shape
    bits, group = (vector.parameters[f"{name}.{key}"] for key in ("bits", "group"))
    packed = {
        **parts,
        "codes": pack_codes(parts["codes"], bits),
        "group_scale": tile_rows(parts["group_scale"]),
    }
    return PackedMatrix(rows, columns, bits, group, **packed)


def _rebuilt(vector: Vector) -> Block:
    """The block, from its vector alone."""
    name, numbers, rom = vector.block, vector.parameters, vector.arrays["rom"]
    if name == "embedding":
        return Embedding(_matrix(vector, "table"))
    if name.startswith("fabric_"):
        wires = PORTS[name].writes
        matrices = {wire: _matrix(vector, wire) for wire in wires}
        return WeightFabric(name, matrices, numbers["head_dim"])
    if name in ("kv_sram", "attention"):
        memory = vector.arrays["memory"]
        constants = rom.get("constants", np.zeros((3, 2), np.int32))
        parts: dict[str, Any] = {n: memory[n] for n in MEMORY}
        sram = KvSram(numbers["heads"], numbers["head_dim"], constants=constants, **parts)
        return sram if name == "kv_sram" else Attention(sram, rom["constant"])
    if name not in SIMPLE:
        raise UsageError(f"no block {name!r}; known are {', '.join(sorted(PORTS))}")
    kind = SIMPLE[name]
    keys = [item.name for item in fields(kind) if item.name != "name"]
    block: Block = kind(**{key: rom[key] if key in rom else numbers[key] for key in keys})
    return block
