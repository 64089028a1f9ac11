"""Learn an image's masks, with its state on disk: interrupted, it goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emulator import __version__
from emulator.errors import UsageError
from emulator.learning.latents import STATE
from emulator.learning.llama import Llama
from emulator.learning.plan import Plan
from emulator.learning.student import Student
from emulator.learning.texts import Texts, write_arrays
from weights.learned_file import Change, Learned
from weights.rom import RomImage
from weights.safetensors_file import SafetensorsFile

SAVE_S = 240.0  # between two writes of the state, which has 3 bytes a weight
Progress = Callable[[int, int], None]  # (steps done, steps in all)
Distances = dict[str, float]  # mean KL of the held-out windows, by kind


@dataclass(slots=True)
class Learner:
    """A student, and the best that it was on the held-out windows."""

    student: Student
    teacher: Llama
    texts: Texts
    plan: Plan
    step: int = 0
    history: list[tuple[int, float, Distances]] = field(default_factory=list)  # step, loss, held
    best: dict[str, Change] = field(default_factory=dict)
    kept: int = 0  # which look at them was at the best
    losses: list[float] = field(default_factory=list)  # since the last look

    def look(self) -> None:
        """Measure the held-out windows; keep what is learned if it is the best so far."""
        held: Distances = {}
        for kind, windows in self.texts.held.items():
            kl = self.student.distance(self.teacher, torch.from_numpy(windows))
            held[kind] = float(kl.mean())
        least = min((mean(h) for _, _, h in self.history), default=np.inf)
        loss = float(np.mean(self.losses)) if self.losses else mean(held)
        self.history.append((self.step, loss, held))
        self.losses.clear()
        if mean(held) < least:
            self.best, self.kept = self.student.changes(), len(self.history) - 1

    def advance(self) -> None:
        """One step."""
        kl = self.student.learn(self.teacher, torch.from_numpy(self._windows()))
        self.losses.append(float(kl.mean()))
        self.student.step(self.plan.rate(self.step))
        self.step += 1

    def _windows(self) -> np.ndarray:
        """Those of the next step: pass after pass over all, each in an order of its own."""
        batch, count = self.plan.batch, self.texts.windows
        rows = range(self.step * batch, (self.step + 1) * batch)
        orders = {row // count: self.texts.order(self.plan.seed + row // count) for row in rows}
        return np.stack([orders[row // count][row % count] for row in rows])

    def save(self, path: Path, key: str) -> None:
        """Write all of it under a temporary name, then rename it. Raises UsageError."""
        arrays: dict[str, np.ndarray] = {}
        for name, latent in self.student.latents.items():
            arrays |= {f"{name}.{part}": getattr(latent, part) for part in STATE}
        for name, change in self.best.items():
            arrays |= {f"best.{name}.{part}": getattr(change, part) for part in PARTS}
        numbers = {"key": key, "step": self.step, "kept": self.kept}
        text = json.dumps({**numbers, "history": self.history, "losses": self.losses})
        write_arrays(path, arrays, {"state": text})

    def resume(self, path: Path, key: str) -> bool:
        """Go on from a saved state, if there is one of the same image, texts and plan."""
        if not path.exists():
            return False
        file = SafetensorsFile(path, UsageError)
        numbers = json.loads(file.metadata.get("state", "{}"))
        if numbers.get("key") != key:
            return False
        for name, latent in self.student.latents.items():
            for part in STATE:
                getattr(latent, part)[:] = file.view(f"{name}.{part}")
        changed = {n.removesuffix(".moves") for n in file.names if n.endswith(".moves")}
        self.best = {
            name.removeprefix("best."): Change(*(file.view(f"{name}.{p}").copy() for p in PARTS))
            for name in changed
        }
        self.step, self.kept, self.losses = numbers["step"], numbers["kept"], numbers["losses"]
        self.history = [tuple(entry) for entry in numbers["history"]]
        self.student.build()
        return True


PARTS = ("moves", "group_scale", "row_mantissa", "row_exponent")  # of a Change


def begin(learner: Learner, image: RomImage, state: Path, settle: Callable[[], None]) -> None:
    """Go on from the state, or measure the image's masks, round them by `settle` and save that."""
    if learner.resume(state, _key(learner, image)):
        return
    learner.look()
    settle()
    learner.student.build()
    learner.look()
    learner.save(state, _key(learner, image))


def learn(learner: Learner, image: RomImage, state: Path, progress: Progress) -> Learned:
    """Take all steps of the plan; `state` is written every few minutes and removed at the end.

    A plan with another number of steps goes on from the same state.
    """
    plan, key = learner.plan, _key(learner, image)
    first = learner.step  # what an earlier try did says nothing about the time that is left
    progress(0, plan.steps - first)
    saved = time.monotonic()
    while learner.step < plan.steps:
        learner.advance()
        progress(learner.step - first, plan.steps - first)
        if learner.step % plan.every == 0 or learner.step == plan.steps:
            learner.look()
        if time.monotonic() - saved > SAVE_S:
            learner.save(state, key)
            saved = time.monotonic()
    state.unlink(missing_ok=True)
    return Learned(_about(learner, image), learner.best)


def _key(learner: Learner, image: RomImage) -> str:
    """What a state belongs to; the number of steps may change."""
    settings = {k: v for k, v in learner.plan.to_json().items() if k != "steps"}
    return f"{image.digest} {learner.texts.digest} {json.dumps(settings, sort_keys=True)}"


def mean(held: Distances) -> float:
    """Every kind counts alike."""
    return float(np.mean(list(held.values())))


def _about(learner: Learner, image: RomImage) -> dict[str, Any]:
    texts, (kept_step, _, after) = learner.texts, learner.history[learner.kept]
    (_, _, before), *later = learner.history
    moved = sum(np.count_nonzero(change.moves) for change in learner.best.values())
    codes = sum(change.moves.size for change in learner.best.values())
    return {
        "tool": f"hardwired-llama {__version__}",
        "base": image.digest,
        "model": str(image.manifest["checkpoint"]["name"]),
        "mix": str(image.manifest["mix"]),
        "context": image.context,
        "plan": learner.plan.to_json(),
        "kept_step": kept_step,
        "texts_sha256": texts.digest,
        "windows": {name: len(windows) for name, windows in texts.learned.items()},
        "held_out_kl": {"before": before, "rounded": later[0][2], "after": after},
        "moved": float(moved / codes),
    }
