"""A chat's first start: answer within a minute, and make the calibrated masks meanwhile.

The default masks of a small model take minutes, quick ones seconds. A chat may begin on quick
masks and says so; a process of low priority makes the default ones, and the chat changes over when
its user begins a new conversation. What that process has finished when the chat ends, the next
start does not repeat. Only `chat` does this: whoever reports figures waits for the default masks.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from emulator.images.folder import is_image
from emulator.images.make import ensure, reading, resolve
from emulator.images.recipe import quick_recipe, recipe_of
from emulator.terminal.kernels import compile_kernels

PRIORITY = 10  # of the process that compiles, where 0 is the usual and 19 the lowest


def first_image(model: str) -> tuple[Path, Path | None]:
    """Folder of the image to begin with, and that of the default one if it is still to be made.

    The kernels are compiled beside the image. Raises what `images.make.resolve` raises.
    """
    with reading(model):
        found = resolve(model)
        if isinstance(found, Path):
            return found, None
        recipe = recipe_of(found, model)
    if is_image(recipe.folder):
        return recipe.folder, None
    if recipe.options.quantiser == "fast":
        return ensure(recipe), None
    quick = quick_recipe(recipe, model)
    with ThreadPoolExecutor(1) as pool:
        kernels = pool.submit(compile_kernels)
        folder = ensure(quick)
        kernels.result()
    return folder, recipe.folder


class BetterMasks:
    """A process that compiles the default image of a model while a chat goes on."""

    def __init__(self, model: str, folder: Path) -> None:
        self.folder = folder
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        command = [sys.executable, "-m", "emulator", "compile", "--json", "--", model]
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            start_new_session=True,  # Ctrl+C is for the chat
        )
        with contextlib.suppress(AttributeError, OSError):  # no priorities here
            os.setpriority(os.PRIO_PROCESS, self._process.pid, PRIORITY)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def ready(self) -> bool:
        return not self.running and is_image(self.folder)

    @property
    def problem(self) -> str:
        """The last line that a process without success wrote."""
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else f"ended with {self._process.returncode}"

    def end(self) -> None:
        """End the process; what it has finished stays for the next one."""
        if self.running:
            self._process.terminate()
            self._process.wait()
        self._said.close()
