"""What happens inside a worker: a job arrives as bytes, runs alone, and leaves as bytes.

A worker that runs another version of the project would give other bits, so the sources' hash
travels with every job and is compared before anything of the job is read.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
from functools import cache
from pathlib import Path
from threading import Lock

from emulator.errors import InstallationError

PACKAGES = ("emulator", "kernels", "weights")
SUFFIXES = (".py", ".toml", ".json", ".txt")
_one_at_a_time = Lock()  # kernels use all threads of a process


@cache
def build_id() -> str:
    """SHA-256 of all sources and data files of the project: equal ids, equal bits."""
    root, digest = Path(__file__).parents[2], hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*")):
            if path.suffix in SUFFIXES:
                data = path.read_bytes()
                digest.update(f"{path.relative_to(root).as_posix()} {len(data)}\n".encode())
                digest.update(data)
    return digest.hexdigest()


def run(build: str, payload: bytes) -> bytes:
    """Run a pickled (function, arguments) and return its pickled result.

    Raises InstallationError if this worker's project is not the one with that `build_id`, and
    whatever the function raises.
    """
    if build != build_id():
        raise InstallationError(
            f"worker on {socket.gethostname()} runs another version of the project "
            f"({build_id()[:8]}, not {build[:8]}): install the same one there"
        )
    with _one_at_a_time:
        function, arguments = pickle.loads(payload)
        return pickle.dumps(function(*arguments), pickle.HIGHEST_PROTOCOL)


def start_process(threads: int) -> None:
    """First call in a process of ours: its share of the cores, before numba counts them."""
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
