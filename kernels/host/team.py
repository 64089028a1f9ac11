"""A team of threads that share out the chunks of one job after another.

numba's parallel regions cost tens of microseconds each, which a small model cannot pay 120 times
a token. Here the workers wait in compiled code: they spin for a moment, then yield the core, and
after some milliseconds without work they go to sleep in Python, until they are woken.

A job is a range of chunks, each done wholly by one thread, so no result depends on how many there
are or on who was first. Chunks are claimed one by one: a thread that was interrupted, or still
sleeps, holds nobody up. Several jobs in a row are done without a return to Python.
"""

from __future__ import annotations

import os
import threading

import numpy as np
from llvmlite import ir
from numba.core import config, types
from numba.core.extending import intrinsic
from numpy.typing import NDArray

from kernels.host.entry import entry, inner
from kernels.host.job import CHUNK, CHUNKS, JOB_WORDS, PREPARE, call, words
from kernels.host.job import THREADS as JOB_THREADS
from kernels.host.simd import I64, X86, _call, _pointer

# Words of the shared array; those that threads write often have a cache line of their own.
TURN = 0  # number of the job << 32 | next chunk
FINISHED = 8  # chunks done
ASLEEP = 16  # bit w is set while worker w has to be woken
JOB, CLAIMABLE, THREADS, SCRATCH, SCRATCH_BYTES = range(24, 29)  # the job's address, its chunks
WORDS = 32

SPINS = 2000  # about 0.1 ms on Intel, less elsewhere
YIELDS = 4000  # some milliseconds

_YIELD = "sched_yield" if os.name == "posix" else "SwitchToThread"
_yield_core = types.ExternalFunction(_YIELD, types.int32())


@intrinsic
def atomic_load(typing, address):
    def code(context, builder, signature, args):
        pointer = _pointer(builder, args[0], I64)
        return builder.load_atomic(pointer, "seq_cst", 8)

    return types.int64(types.int64), code


def _atomic_store(ordering):
    @intrinsic
    def store(typing, address, value):
        def code(context, builder, signature, args):
            pointer = _pointer(builder, args[0], I64)
            builder.store_atomic(args[1], pointer, ordering, 8)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), code

    return store


atomic_store = _atomic_store("seq_cst")
store_after = _atomic_store("release")  # what was written before is seen before


@intrinsic
def atomic_add(typing, address, value):
    def code(context, builder, signature, args):
        return builder.atomic_rmw("add", _pointer(builder, args[0], I64), args[1], "seq_cst")

    return types.int64(types.int64, types.int64), code


@intrinsic
def compare_exchange(typing, address, expected, value):
    """Whether the word held `expected`; it then holds `value`."""

    def code(context, builder, signature, args):
        pointer = _pointer(builder, args[0], I64)
        pair = builder.cmpxchg(pointer, args[1], args[2], "seq_cst", "seq_cst")
        return builder.extract_value(pair, 1)

    return types.boolean(types.int64, types.int64, types.int64), code


@intrinsic
def _pause(typing):
    def code(context, builder, signature, args):
        if X86:
            _call(builder, "llvm.x86.sse2.pause", ir.VoidType())
        return context.get_dummy_value()

    return types.void(), code


@inner
def wait_a_moment(waited):
    """The `waited`-th moment of a wait: first keep the core, then offer it to others."""
    if waited < SPINS:
        _pause()
    else:
        _yield_core()


@inner
def claim(shared, job):
    """The next chunk of job number `job`, or -1 when none is left or the job is over."""
    address = shared.ctypes.data + 8 * TURN
    while True:
        turn = atomic_load(address)
        chunk = turn & 0xFFFFFFFF
        if turn >> 32 != job or chunk >= shared[CLAIMABLE]:
            return np.int64(-1)
        # It succeeds only while the job is the present one and this chunk is unclaimed, so the
        # words of the job stay as they are until the chunk is done.
        if compare_exchange(address, turn, turn + 1):
            return chunk


@inner
def finish(shared):
    atomic_add(shared.ctypes.data + 8 * FINISHED, 1)


@inner
def work(shared, number, worker):
    """Do chunks of job `number` until none is left."""
    scratch = shared[SCRATCH] + worker * shared[SCRATCH_BYTES]
    while True:
        chunk = claim(shared, number)
        if chunk < 0:
            return
        job = words(shared[JOB])
        call(job[CHUNK], shared[JOB], chunk, scratch)
        finish(shared)


@inner
def lead(shared, place):
    """Do the job at an address, with whoever comes to help; a single chunk needs nobody."""
    job = words(place)
    job[JOB_THREADS] = shared[THREADS]
    if job[PREPARE] != 0:
        behind = shared[SCRATCH] + shared[THREADS] * shared[SCRATCH_BYTES]  # each thread's own
        call(job[PREPARE], place, 0, behind)
    if job[CHUNKS] == 1 or shared[THREADS] == 1:
        for chunk in range(job[CHUNKS]):
            call(job[CHUNK], place, chunk, shared[SCRATCH])
        return
    number = open_job(shared, place, job[CHUNKS])
    work(shared, number, 0)
    close_job(shared, job[CHUNKS])


@inner
def open_job(shared, place, chunks):
    """Offer the chunks of the job at an address; its number."""
    address = shared.ctypes.data
    number = (atomic_load(address + 8 * TURN) >> 32) + 1
    # First close the old job for good: a worker may still be looking at it.
    atomic_store(address + 8 * TURN, (number - 1) << 32 | 0xFFFFFFFF)
    atomic_store(address + 8 * FINISHED, 0)
    shared[JOB] = place
    # ARM may show a plain store before the old job's end: who still looks there would claim more.
    store_after(address + 8 * CLAIMABLE, chunks)
    atomic_store(address + 8 * TURN, number << 32)
    return number


@inner
def close_job(shared, chunks):
    """Wait for the chunks that other threads have claimed."""
    waited = 0
    while atomic_load(shared.ctypes.data + 8 * FINISHED) < chunks:
        wait_a_moment(waited)
        waited += 1


@inner
def next_job(shared, last, worker):
    """Number of the first job after `last`, or -1 when it is time to sleep."""
    address = shared.ctypes.data
    for waited in range(SPINS + YIELDS):
        job = atomic_load(address + 8 * TURN) >> 32
        if worker >= shared[THREADS]:
            break
        if job != last:
            return job
        wait_a_moment(waited)
    return np.int64(-1)


@inner
def fall_asleep(shared, worker):
    atomic_add(shared.ctypes.data + 8 * ASLEEP, 1 << worker)


@entry("void(int64[::1], int64)")
def serve(shared, worker):
    """What the other threads do between two sleeps."""
    number = np.int64(-1)
    while True:
        number = next_job(shared, number, worker)
        if number < 0:
            break
        work(shared, number, worker)
    fall_asleep(shared, worker)


@entry("void(int64[::1], int64[::1], int64)")
def serve_jobs(shared, jobs, count):
    """Thread 0 does jobs in a row, int64[count * JOB_WORDS]."""
    for i in range(count):
        lead(shared, jobs.ctypes.data + 8 * JOB_WORDS * i)


@entry("void(int64[::1], int64)")
def wake_up(shared, workers):
    atomic_add(shared.ctypes.data + 8 * ASLEEP, -workers)


class Team:
    """The calling thread, worker 0, and the others."""

    MOST = 32  # threads

    def __init__(self) -> None:
        self.threads = int(config.NUMBA_NUM_THREADS)
        self._start()
        if hasattr(os, "register_at_fork"):  # a child has no workers
            os.register_at_fork(after_in_child=self._start)

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._wake: dict[int, threading.Semaphore] = {}  # of the workers that were started
        self._scratch = np.empty(0, np.uint8)
        self.shared = _shared_words()
        self.resize(self.threads)

    def resize(self, threads: int) -> None:
        """Use 1 to 32 threads from the next job on; no result depends on it."""
        if threads < 1:
            raise ValueError(f"a team has at least one thread, not {threads}")
        with self._lock:
            self.threads = min(threads, self.MOST)  # that share a job, the calling one included
            self.shared[THREADS] = self.threads
            self._workers = (1 << self.threads) - 2

    def run(self, jobs: NDArray[np.int64], count: int, own: int, common: int) -> None:
        """Do `count` jobs in a row, int64[count * JOB_WORDS]; see `kernels.host.job`.

        `own` bytes of memory for each thread, `common` for all. A second caller, while jobs are
        under way, does its own alone.
        """
        if not self._lock.acquire(blocking=False):
            shared, scratch = _shared_words(), np.empty(own + common, np.uint8)
            shared[SCRATCH], shared[SCRATCH_BYTES] = scratch.ctypes.data, own
            serve_jobs(shared, jobs, count)
            return
        try:
            shared = self.shared
            need = own * self.threads + common
            if self._scratch.size < need:
                self._scratch = np.empty(need, np.uint8)
                shared[SCRATCH] = self._scratch.ctypes.data
            shared[SCRATCH_BYTES] = own
            asleep = int(shared[ASLEEP]) & self._workers
            if asleep:
                self._wake_up(asleep)
            serve_jobs(shared, jobs, count)
        finally:
            self._lock.release()

    def _wake_up(self, workers: int) -> None:
        wake_up(self.shared, workers)
        for worker in range(1, self.threads):
            if workers >> worker & 1:
                if worker not in self._wake:
                    self._wake[worker] = threading.Semaphore(0)
                    work = threading.Thread(target=self._work, args=(worker,), daemon=True)
                    work.start()
                self._wake[worker].release()

    def _work(self, worker: int) -> None:
        wake, shared = self._wake[worker], self.shared
        while True:
            wake.acquire()
            serve(shared, worker)


def _shared_words() -> NDArray[np.int64]:
    """The words of a team of one, on a cache line."""
    words = np.zeros(WORDS + 8, np.int64)
    words = words[-(words.ctypes.data // 8) % 8 :][:WORDS]
    words[THREADS] = 1
    words[ASLEEP] = -1
    return words
