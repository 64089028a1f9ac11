"""Where compiled kernels are kept between processes.

A folder for each combination of sources, numba, Python, CPU and body of `kernels.host.simd`:
numba's own cache sees neither a change in an imported file nor another choice of instructions. The
first process fills the folder and others that start meanwhile wait for it, since numba's index
files are not made for two writers of one kernel.

Inside, numba keeps its entries by the path and the time of a source. So does the mark that says
that all are there: a copy of the sources elsewhere, or a file that was written again, has none.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numba
from numba.core import config
from numba.core.registry import cpu_target

from kernels.host import simd
from kernels.host.entry import ENTRIES

try:
    import fcntl
except ImportError:  # no such lock on Windows: two first starts at once may both compile
    fcntl = None  # type: ignore[assignment]

PACKAGE = Path(__file__).parents[1]
Progress = Callable[[int, int], None]  # (kernels done, kernels in all)


def key() -> str:
    """Name of the folder: what the machine code depends on."""
    triple, cpu, features = cpu_target.target_context.codegen().magic_tuple()
    digest = hashlib.sha256(f"{triple} {cpu} {features}".encode())
    for source in _sources():  # all of them: a folder left out would serve stale code
        digest.update(source.relative_to(PACKAGE).as_posix().encode())
        digest.update(source.read_bytes())
    python = f"py{sys.version_info[0]}{sys.version_info[1]}"
    return f"{cpu}-{simd.BODY}-{python}-numba{numba.__version__}-{digest.hexdigest()[:16]}"


def folder() -> Path:
    """NUMBA_CACHE_DIR, or `kernels` in HARDWIRED_HOME or the user's cache; then the key."""
    if os.environ.get("NUMBA_CACHE_DIR"):
        return Path(os.environ["NUMBA_CACHE_DIR"]) / key()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hardwired-llama"
    return Path(os.environ.get("HARDWIRED_HOME") or cache) / "kernels" / key()


def complete(place: Path) -> Path:
    """The mark in a folder: whether all kernels of these very files are there."""
    digest = hashlib.sha256(str(PACKAGE.resolve()).encode())
    for source in _sources():
        status = source.stat()
        digest.update(f" {status.st_size} {status.st_mtime_ns}".encode())
    return place / f"complete-{digest.hexdigest()[:16]}"


def is_filled() -> bool:
    """Whether the kernels of this program, on this machine, have been compiled."""
    return complete(folder()).exists()


def fill(show: Progress | None = None) -> bool:
    """Compile the kernels to the folder if they are not there; false if it cannot be written.

    Two processes share the work. Another process that does it already is waited for.
    """
    from kernels.host.compilers import compile_all

    place = folder()
    done = complete(place)
    if done.exists():
        return True
    try:
        place.mkdir(parents=True, exist_ok=True)
        with (place / "lock").open("a") as lock:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                compile_all(place, show)
                done.touch()
    except OSError:
        return False
    return True


def load() -> None:
    """Make every kernel callable: from the folder, or compiled for this process alone."""
    cached, before = fill(), config.CACHE_DIR
    try:
        if cached:
            config.CACHE_DIR = str(folder())
        for entry in ENTRIES:
            entry.ready(cached)
    finally:
        config.CACHE_DIR = before


def _sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))
