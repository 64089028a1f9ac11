"""What the benchmarks share: the machine, its read bandwidth, models, medians, tables."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numba
import numpy as np
from numba.core.registry import cpu_target

import kernels
from emulator.blocks.kv_sram import KvSram
from emulator.board import Board, Run
from emulator.chip import Chip
from kernels.host import simd
from kernels.rom.pack import PackedMatrix
from weights.rom import RomImage, open_image

MODELS = ("smollm2", "8b")


def parser(description: str, models: bool = True) -> argparse.ArgumentParser:
    """Options that all benchmarks have."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    if models:
        made.add_argument("--model", choices=(*MODELS, "both"), default="both")
        made.add_argument("--layers", type=int, default=32, help="depth of the synthetic 8B image")
    return made


def numbers(text: str) -> list[int]:
    """A comma-separated option."""
    return [int(part) for part in text.split(",")]


def chosen(args: argparse.Namespace) -> tuple[str, ...]:
    return MODELS if args.model == "both" else (args.model,)


def machine() -> dict[str, Any]:
    """What figures depend on."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    target = cpu_target.target_context.codegen().magic_tuple()[1]
    return {
        "cpu": name,
        "target": target,
        "cores": os.cpu_count(),
        "body": simd.BODY,
        "python": platform.python_version(),
        "numba": numba.__version__,
        "load_average": round(os.getloadavg()[0], 2),
    }


@numba.njit(nogil=True)
def _read(values):
    total = np.int64(0)
    for i in range(values.size):
        total += values[i]
    return total


def read_bandwidth(threads: int, repeats: int = 5, megabytes: int = 1024) -> float:
    """Bytes a second, the best of some sequential reads of a buffer larger than caches."""
    values = np.ones(megabytes << 17, np.int64)
    _read(values[:8])
    best = 0.0
    for _ in range(repeats):
        parts = [
            threading.Thread(target=_read, args=(part,)) for part in np.array_split(values, threads)
        ]
        begin = time.perf_counter()
        for part in parts:
            part.start()
        for part in parts:
            part.join()
        best = max(best, values.nbytes / (time.perf_counter() - begin))
    return best


@contextmanager
def image_of(model: str, layers: int) -> Iterator[RomImage]:
    """The small model's image, or a synthetic one with the shape of Llama 3.1 8B."""
    if model == "smollm2":
        from emulator.images.make import image_folder
        from emulator.images.recipe import EMBEDDED

        yield open_image(image_folder(EMBEDDED))
        return
    from benchmarks.synthetic import write_8b

    with TemporaryDirectory(prefix="hardwired-8b-") as folder:
        yield open_image(write_8b(Path(folder) / "image", layers), check_hashes=False)


def fill_kv(chip: Chip, position: int) -> None:
    """Put the chip at a position, with random keys and values before it."""
    rng = np.random.default_rng(0)
    for stage in chip.stages:
        for block in stage.blocks:
            if isinstance(block, KvSram):
                shape = block.k[:position].shape
                block.k[:position] = rng.integers(-127, 128, shape, np.int8)
                block.v[:position] = rng.integers(-127, 128, shape, np.int8)
                block.k_scale[:position] = block.v_scale[:position] = (40000, 22)
    chip.tokens = [0] * position


def decode_seconds(chip: Chip, position: int, tokens: int) -> float:
    """Median time of a decode step after `position` tokens."""
    times = []
    for i in range(tokens):
        chip.rewind(position)
        begin = time.perf_counter()
        chip.forward([100 + i])
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def sequence_seconds(
    board: Board, counts: list[int], position: int, tokens: int, best: bool = False
) -> dict[int, float]:
    """Median, or best, time of a pass over one token of each of so many sequences."""
    pick, found = min if best else statistics.median, {}
    for chip in board.chips[: max(counts)]:
        fill_kv(chip, position)
    for count in counts:
        times = []
        for i in range(tokens):
            for chip in board.chips[:count]:
                chip.rewind(position)
            begin = time.perf_counter()
            board.forward([Run(n, [100 + i]) for n in range(count)])
            times.append(time.perf_counter() - begin)
        found[count] = pick(times)
    return found


def prefill_seconds(chip: Chip, tokens: int) -> float:
    """Time of one pass over `tokens` tokens from position 0."""
    chip.rewind(0)
    prompt = np.random.default_rng(1).integers(0, chip.image.config.vocabulary, tokens).tolist()
    begin = time.perf_counter()
    chip.forward(prompt)
    return time.perf_counter() - begin


def use_threads(threads: int) -> None:
    """Threads of the compiled kernels from now on."""
    kernels.load().team().resize(threads)


def multiplied(image: RomImage) -> list[PackedMatrix]:
    """The matrices that a decode step reads whole: all but an embedding only looked up in."""
    tables = {"embedding"} if not image.config.tied else set()
    return [m for name, m in image.matrices.items() if name not in tables]


def code_bytes(image: RomImage) -> int:
    """Packed codes and group scales that one decode step reads."""
    return sum(m.codes.nbytes + m.group_scale.nbytes for m in multiplied(image))


def show(title: str, rows: list[dict[str, Any]], as_json: bool, **more: Any) -> None:
    """Print rows of equal keys."""
    about = machine()
    if as_json:
        print(json.dumps({"schema": 1, "benchmark": title, "machine": about, **more, "rows": rows}))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(", ".join(f"{key} {value}" for key, value in {**about, **more}.items()))
    table = Table(title=title)
    for key in rows[0] if rows else []:
        table.add_column(key.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()))
    console.print(table)


def best_seconds(action: Callable[[], Any], at_least: float = 0.3) -> float:
    """The shortest of repeated runs, over at least so many seconds."""
    action()
    best, end = float("inf"), time.perf_counter() + at_least
    while time.perf_counter() < end:
        begin = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - begin)
    return best
