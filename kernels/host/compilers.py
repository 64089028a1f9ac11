"""Processes that compile the kernels side by side: numba compiles one at a time in each.

A process reads the name of a kernel, compiles it to the folder, answers, and reads the next name.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from kernels.host.entry import ENTRIES

PROCESSES = 2  # the longest takes as long as all others together
LONGEST = "kernels.blocks.weight_fabric.fabric_tiles"  # so it goes first
PROGRAM = "import sys; sys.path[:] = {path!r}; from kernels.host.compilers import work; work()"


def compile_all(place: Path, show: Callable[[int, int], None] | None = None) -> bool:
    """Compile every kernel to the folder; `show` is told (done, in all), first with none done.

    False if a process broke off, which leaves some undone.
    """
    import kernels.entries  # noqa: F401  (it fills ENTRIES)

    names: queue.SimpleQueue[str] = queue.SimpleQueue()
    for name in sorted((entry.name for entry in ENTRIES), key=lambda name: name != LONGEST):
        names.put(name)
    total, lock, done = len(ENTRIES), Lock(), 0

    def tell(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            if show is not None:
                show(done, total)

    tell(0)
    count = min(PROCESSES, os.cpu_count() or 1)
    command = [sys.executable, "-c", PROGRAM.format(path=sys.path)]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(place)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    compilers = [
        subprocess.Popen(command, env=environment, text=True, **pipes)  # type: ignore[call-overload]
        for _ in range(count)
    ]
    try:
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(lambda compiler: _feed(compiler, names, tell), compilers))
    finally:
        for compiler in compilers:
            compiler.kill()
            compiler.communicate()
    return done == total


def _feed(
    compiler: subprocess.Popen[str], names: queue.SimpleQueue[str], tell: Callable[[int], None]
) -> None:
    """Hand names to one process until there are none, or it has gone."""
    assert compiler.stdin is not None
    assert compiler.stdout is not None
    while True:
        try:
            name = names.get_nowait()
            compiler.stdin.write(f"{name}\n")
            compiler.stdin.flush()
        except (queue.Empty, OSError):
            return
        if not compiler.stdout.readline():
            return
        tell(1)


def work() -> None:
    """What such a process does, with NUMBA_CACHE_DIR as its folder."""
    import signal

    import kernels.entries  # noqa: F401

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the one that waits
    by_name = {entry.name: entry for entry in ENTRIES}
    for line in sys.stdin:
        by_name[line.strip()].ready(cached=True)
        print("done", flush=True)
