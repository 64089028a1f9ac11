"""Where compiled kernels are kept between processes.

A folder for each combination of sources, numba, Python, CPU and body of `kernels.host.simd`:
numba's own cache sees neither a change in an imported file nor another choice of instructions. The
first process fills the folder and others that start meanwhile wait for it, since numba's index
files are not made for two writers of one kernel.

Inside, each copy of the sources has a folder of its own, since numba keeps its entries by the path
and the time of a source. So does the mark that says that all are there. It holds the hash of every
file: numba unpickles them, so a file that is not as it was written is never shown to it, and the
folder is filled anew. That is against damage: whoever may write the folder may run code as its
owner. After an edit, what it leaves unchanged comes from the folder before (`kernels.host.reuse`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numba
from numba.core import config
from numba.core.registry import cpu_target

from kernels.host import reuse, simd
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
    """NUMBA_CACHE_DIR, or `kernels` in HARDWIRED_HOME or the user's cache; then the key.

    Raises OSError for a user who has none.
    """
    if os.environ.get("NUMBA_CACHE_DIR"):
        return Path(os.environ["NUMBA_CACHE_DIR"]) / key()
    if home := os.environ.get("HARDWIRED_HOME"):  # a user without an entry has no other
        return Path(home) / "kernels" / key()
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise OSError(str(error)) from None
    return cache / "hardwired-llama" / "kernels" / key()


def complete(place: Path) -> Path:
    """The mark in a folder: whether all kernels of these very files are there."""
    copy = hashlib.sha256(str(PACKAGE.resolve()).encode()).hexdigest()[:16]
    digest = hashlib.sha256()
    for source in _sources():
        status = source.stat()
        digest.update(f" {status.st_size} {status.st_mtime_ns}".encode())
    return place / f"copy-{copy}" / f"complete-{digest.hexdigest()[:16]}"


def is_filled() -> bool:
    """Whether the kernels of this program, on this machine, have been compiled."""
    try:
        return complete(folder()).exists()
    except OSError:
        return False


def intact(mark: Path) -> bool:
    """Whether there is a mark, and every file is ours and as it was when the mark was made."""
    try:
        stated = json.loads(mark.read_text("utf-8"))
        own = hasattr(os, "getuid") and mark.stat().st_uid in (0, os.getuid())
        return bool(stated) and (own or os.name == "nt") and stated == _hashes(mark.parent)
    except (OSError, ValueError):
        return False


def _hashes(place: Path) -> dict[str, str]:
    """SHA-256 of numba's files in a folder."""
    files = sorted(path for path in place.rglob("*") if path.suffix in (".nbi", ".nbc"))
    return {
        path.relative_to(place).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def fill(show: Progress | None = None) -> bool:
    """Compile the kernels to the folder if they are not there; false if it cannot be written.

    Two processes share the work. Another process that does it already is waited for.
    """
    from kernels.host.compilers import compile_all

    try:
        place = folder()
        done = complete(place)
        if intact(done):
            return True
        place.mkdir(parents=True, exist_ok=True)
        with (place / "lock").open("a") as lock:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not intact(done):
                shutil.rmtree(done.parent, ignore_errors=True)
                done.parent.mkdir()
                sources = reuse.closures(PACKAGE)  # an edit meanwhile must not count as compiled
                reuse.take_over(sources, done.parent, intact)
                if not compile_all(done.parent, show):  # a full disk, for one
                    shutil.rmtree(done.parent, ignore_errors=True)
                    return False
                reuse.note(sources, done.parent)
                part = done.with_suffix(".part")
                part.write_text(json.dumps(_hashes(done.parent)), "utf-8")
                part.replace(done)
    except OSError:
        return False
    return True


def load() -> None:
    """Make every kernel callable: from the folder, or compiled for this process alone."""
    cached, before = fill(), config.CACHE_DIR
    try:
        if cached:
            config.CACHE_DIR = str(complete(folder()).parent)
        for entry in ENTRIES:
            entry.ready(cached)
    finally:
        config.CACHE_DIR = before


def _sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))
