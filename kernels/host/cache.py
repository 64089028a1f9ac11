"""Where compiled kernels are kept between processes.

A folder for each combination of sources, numba, Python, CPU and body of `kernels.host.simd`:
numba's own cache sees neither a change in an imported file nor another choice of instructions. The
first process fills the folder and others that start meanwhile wait for it, since numba's index
files are not made for two writers.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numba
from numba.core import config
from numba.core.registry import cpu_target

from kernels.host import simd

try:
    import fcntl
except ImportError:  # no such lock on Windows: two first starts at once may both compile
    fcntl = None  # type: ignore[assignment]


def key() -> str:
    """Name of the folder: what the machine code depends on."""
    triple, cpu, features = cpu_target.target_context.codegen().magic_tuple()
    digest = hashlib.sha256(f"{triple} {cpu} {features}".encode())
    package = Path(__file__).parents[1]
    for source in sorted(
        package.rglob("*.py")
    ):  # all of it: a folder left out would serve stale code
        digest.update(source.relative_to(package).as_posix().encode())
        digest.update(source.read_bytes())
    python = f"py{sys.version_info[0]}{sys.version_info[1]}"
    return f"{cpu}-{simd.BODY}-{python}-numba{numba.__version__}-{digest.hexdigest()[:16]}"


def folder() -> Path:
    """NUMBA_CACHE_DIR, or `kernels` in HARDWIRED_HOME or the user's cache; then the key."""
    if os.environ.get("NUMBA_CACHE_DIR"):
        return Path(os.environ["NUMBA_CACHE_DIR"]) / key()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hardwired-llama"
    return Path(os.environ.get("HARDWIRED_HOME") or cache) / "kernels" / key()


@contextmanager
def filling() -> Iterator[None]:
    """Import the kernels inside: they compile, or are loaded if a process has been here before.

    A folder that cannot be written is replaced by one for this process alone.
    """
    place, before = folder(), config.CACHE_DIR
    done = place / "complete"
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = None if done.exists() else (place / "lock").open("a")
    except OSError:
        _temporary.append(tempfile.TemporaryDirectory(prefix="hardwired-kernels-"))
        place, lock = Path(_temporary[-1].name), None
    try:
        if lock is not None and fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        config.CACHE_DIR = str(place)
        yield
        if lock is not None:
            done.touch()
    finally:
        config.CACHE_DIR = before
        if lock is not None:
            lock.close()


_temporary: list[tempfile.TemporaryDirectory] = []  # lives as long as the process
