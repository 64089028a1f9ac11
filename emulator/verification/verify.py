"""The checks of `verify`: each a name, a verdict and one line of detail."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emulator import __version__
from emulator.chip import Chip
from emulator.errors import EmulatorError
from emulator.silicon.spec import load_spec
from emulator.timing.schedule import stage_cycles, token_cycles
from emulator.verification.golden import (
    GOLDEN,
    PROMPT_TOKENS,
    array_digest,
    cycles,
    golden_prompt,
    logits_digest,
    recorded,
    recorded_twin,
)
from emulator.verification.kernel_body import bodies, run_body
from emulator.verification.twins import disagreements
from weights.rom import MANIFEST, RomImage, open_image

PASS, FAIL, UNKNOWN = "pass", "FAIL", "none"
SPLIT_TOKENS = 6  # 2**5 ways to cut them into passes


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report. UNKNOWN is no failure: nothing was there to compare with."""

    name: str
    verdict: str
    detail: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return {
            "check": self.name,
            "verdict": self.verdict,
            "detail": self.detail,
            "seconds": round(self.seconds, 2),
        }


Outcome = tuple[str, str]  # verdict, detail


def verify(folder: Path | str, golden: Path = GOLDEN, seed: int = 0) -> Iterator[Check]:
    """All checks of an image in turn, on this machine. A damaged image ends the list.

    Yields; raises nothing but what is a fault of the program.
    """
    folder = Path(folder)
    began = time.perf_counter()
    try:
        image = open_image(folder)
    except EmulatorError as error:
        yield Check("image", FAIL, str(error), time.perf_counter() - began)
        return
    files = len(image.manifest["files"])
    detail = f"{MANIFEST} and the {files} files it lists as written, digest {image.digest[:16]}"
    yield Check("image", PASS, detail, time.perf_counter() - began)
    chip = Chip(image, context=max(PROMPT_TOKENS, 1024))
    logits = logits_digest(chip)
    checks: list[tuple[str, Callable[[], Outcome]]] = [
        ("golden logits", lambda: _golden(image, golden, logits)),
        ("threads", lambda: _threads(chip, logits)),
        ("prefill splits", lambda: _splits(chip)),
        *((f"body {body}", lambda b=body: _body(b, folder, logits)) for body in bodies()),  # type: ignore[misc]
        ("kernels and twins", lambda: _twins(chip, seed)),
        ("cycles", lambda: _cycles(chip, image, golden)),
    ]
    for name, check in checks:
        began = time.perf_counter()
        try:
            verdict, detail = check()
        except EmulatorError as error:
            verdict, detail = FAIL, str(error)
        yield Check(name, verdict, detail, time.perf_counter() - began)


def machine() -> dict[str, Any]:
    """What a reader of a report needs to know about this computer."""
    import numba

    from kernels import compiled
    from kernels.host import simd

    return {
        "program": f"hardwired-llama {__version__}",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "cpus": os.cpu_count(),
        "threads": compiled.team().threads,
        "body": simd.BODY,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
    }


def _golden(image: RomImage, golden: Path, logits: str) -> Outcome:
    entry = recorded(image, golden)
    if entry is None:
        twin = recorded_twin(image, golden)
        why = f"; its rom.json is not the one recorded, digest {twin[:16]}" if twin else ""
        return UNKNOWN, f"no golden is recorded for this image{why}; its logits hash is {logits}"
    if entry["logits"] != logits:
        return FAIL, f"logits hash {logits}, recorded is {entry['logits']}"
    return PASS, f"{PROMPT_TOKENS} tokens, logits hash {logits}"


def _threads(chip: Chip, logits: str) -> Outcome:
    from kernels import compiled

    most = max(os.cpu_count() or 1, 2)
    counts = sorted({*range(1, min(most, 8) + 1), most})
    before = compiled.team().threads
    try:
        for count in counts:
            compiled.team().resize(count)
            if logits_digest(chip) != logits:
                return FAIL, f"{count} threads give other logits than {before}"
    finally:
        compiled.team().resize(before)
    return PASS, f"the same hash with {', '.join(map(str, counts))} threads"


def _splits(chip: Chip) -> Outcome:
    """A set bit i of `cuts` ends a pass after token i."""
    tokens = golden_prompt(chip.image.config.vocabulary, SPLIT_TOKENS)
    hashes = {}
    for cuts in range(1 << (SPLIT_TOKENS - 1)):
        ends = [i + 1 for i in range(SPLIT_TOKENS - 1) if cuts >> i & 1]
        chip.rewind(0)
        passes = zip([0, *ends], [*ends, SPLIT_TOKENS], strict=True)
        rows = [chip.forward(tokens[a:b], all_logits=True).logits for a, b in passes]
        hashes[tuple(ends)] = array_digest(np.concatenate(rows))
        if hashes[tuple(ends)] != hashes[()]:
            return FAIL, f"{SPLIT_TOKENS} tokens cut after {ends} give other logits than uncut"
    return PASS, f"all {len(hashes)} ways to cut {SPLIT_TOKENS} tokens give the same logits"


def _body(body: str, folder: Path, logits: str) -> Outcome:
    answer = run_body(body, folder)
    if answer["body"] != body:
        return FAIL, f"the process ran {answer['body']}"
    if answer["logits"] != logits:
        return FAIL, f"logits hash {answer['logits']}, this process has {logits}"
    return PASS, "the same hash from a process of its own"


def _twins(chip: Chip, seed: int) -> Outcome:
    names = []
    for name, different in disagreements(chip, seed):
        if different is not None:
            return FAIL, f"{name}: {different} differs from the twin's (seed {seed})"
        names.append(name)
    return PASS, f"{len(names)} blocks, random input of seed {seed}"


def _cycles(chip: Chip, image: RomImage, golden: Path) -> Outcome:
    """Blocks and stages add up to the same, and to what is recorded."""
    silicon, now = load_spec(), cycles(chip)
    for context in map(int, now):
        by_block = sum(token_cycles(chip.stages, silicon, context, True).values())
        by_stage = sum(stage_cycles(chip.stages, silicon, context).values())
        if by_block != by_stage:
            return FAIL, f"{by_block} cycles by block, {by_stage} by stage at context {context}"
    text = ", ".join(f"{count:,} at context {n}" for n, count in now.items())
    entry = recorded(image, golden)
    if entry is None:
        return UNKNOWN, f"{text}; nothing is recorded"
    if entry["cycles"] != now:
        return FAIL, f"{text}; recorded are {entry['cycles']}"
    return PASS, f"{text} on {silicon.name}"
