"""Workers behind `concurrent.futures`: processes of this computer, or a Dask cluster.

Dask's client is a `concurrent.futures.Executor` already (`Client.get_executor`); protocol,
retries, heartbeats and security are Dask's own.
"""

from __future__ import annotations

import multiprocessing
import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from typing import Any

from emulator.errors import EmulatorError, InstallationError, UsageError, WorkersLostError
from emulator.host import cores
from emulator.workers.job import build_id, run, start_process

AHEAD = 2  # jobs a worker that are in hand or on their way to it
KEPT = 64  # results a worker that may lie here until an earlier one is there
CONNECT_S = 10  # to reach a scheduler
FIRST_WORKER_S = 60  # until a scheduler has a worker
AGAIN = "run the same command again: what was finished is kept where the command keeps it"
MOST = 1024  # processes


class Workers(Executor):
    """An executor that runs jobs in workers and counts what travels."""

    def __init__(self, inner: Executor, count: int, name: str, dashboard: str = "") -> None:
        self._inner, self.count, self.name = inner, count, name
        self.dashboard = dashboard  # where Dask shows what its workers do
        self.jobs, self.bytes_moved = 0, 0

    def submit(self, job: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Hand out `job(*args)`; a function of a module, with arguments that can be pickled."""
        if kwargs:
            raise TypeError("jobs take positional arguments")
        payload = pickle.dumps((job, args), pickle.HIGHEST_PROTOCOL)
        outer: Future[Any] = Future()
        try:
            inner = self._inner.submit(run, build_id(), payload)
        except Exception as error:
            raise _in_one_line(error, self.name) from error
        self.bytes_moved += len(payload)
        inner.add_done_callback(lambda done: self._finish(done, outer))
        return outer

    def _finish(self, inner: Future[bytes], outer: Future[Any]) -> None:
        try:
            result = inner.result()
            self.jobs += 1
            self.bytes_moved += len(result)
            outer.set_result(pickle.loads(result))
        except BaseException as error:
            outer.set_exception(_in_one_line(error, self.name))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the workers go; a cluster's own stay where they are."""
        self._inner.shutdown(wait=wait)

    @property
    def closing_line(self) -> str:
        """What was done, and the bytes that went to workers and back."""
        return f"{self.jobs} jobs on {self.name}, {self.bytes_moved / 1e6:,.1f} MB moved"


def in_order(
    workers: Executor | None,
    job: Callable[..., Any],
    arguments: Iterable[tuple[Any, ...]],
) -> Iterator[Any]:
    """Results of `job(*args)` in the order of the arguments, whoever finishes first.

    Without workers the jobs run here. Few are handed out ahead and few results lie here, so memory
    stays bounded; behind a slow worker the others go on until KEPT results wait for its own.
    """
    waiting: deque[Future[Any]] = deque()
    count = getattr(workers, "count", 1)
    for args in arguments:
        if workers is None:
            yield job(*args)
            continue
        waiting.append(workers.submit(job, *args))
        while waiting and (waiting[0].done() or len(waiting) >= KEPT * count):
            yield waiting.popleft().result()
        running = [future for future in waiting if not future.done()]
        if len(running) >= AHEAD * count:
            wait(running, return_when=FIRST_COMPLETED)
    while waiting:
        yield waiting.popleft().result()


@contextmanager
def open_workers(where: str) -> Iterator[Workers]:
    """`where`: a number of processes here, or the address of a Dask scheduler.

    Raises UsageError for anything else, InstallationError if Dask is not installed or a worker has
    another version of the project.
    """
    if where.isascii() and where.isdigit():
        count = int(where)
        if not 1 <= count <= MOST:
            raise UsageError(f"--workers {where}: 1 to {MOST} processes, or tcp://HOST:PORT")
        with _processes(count) as workers:
            yield workers
    elif "://" in where:
        with _cluster(where) as workers:
            yield workers
    else:
        raise UsageError(f"--workers {where}: a number of processes, or tcp://HOST:PORT")


@contextmanager
def _processes(count: int) -> Iterator[Workers]:
    threads = max(1, cores() // count)
    pool = ProcessPoolExecutor(
        count, multiprocessing.get_context("spawn"), start_process, (threads,)
    )
    try:
        yield Workers(pool, count, f"{count} processes")
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    else:
        pool.shutdown()


@contextmanager
def _cluster(address: str) -> Iterator[Workers]:
    try:
        from distributed import Client
    except ImportError:
        raise InstallationError(
            "--workers tcp://... needs Dask: pip install distributed fsspec"
        ) from None
    with ExitStack() as stack:
        try:
            client = stack.enter_context(Client(address, timeout=CONNECT_S, set_as_default=False))
            client.wait_for_workers(1, timeout=FIRST_WORKER_S)
        except OSError:  # a time-out too
            raise UsageError(_nobody(address)) from None
        except ValueError as error:
            raise UsageError(f"--workers {address}: {_first_line(error)}") from None
        count = len(client.scheduler_info(n_workers=-1)["workers"])
        name = f"{count} workers of {address}"
        inner = client.get_executor(pure=False)
        workers = Workers(inner, count, name, client.dashboard_link)
        _same_build(client)
        yield workers


def _same_build(client: Any) -> None:
    """Ask every worker that is there; one that joins later is asked with its first job."""
    found = client.run(_try_build_id, on_error="return")
    for worker, build in found.items():
        if build != build_id():
            short = build[:8] if isinstance(build, str) else "none that can be loaded"
            raise InstallationError(
                f"worker {worker} runs another version of the project ({short}, not "
                f"{build_id()[:8]}): install the same one there"
            )


def _try_build_id() -> str:
    return build_id()


def _nobody(address: str) -> str:
    return (
        f"--workers {address}: no scheduler answers, or it has no worker; "
        f"start them: dask scheduler; dask worker {address} --nthreads 1"
    )


def _in_one_line(error: BaseException, name: str) -> BaseException:
    """What a worker or the way to it broke on, as an error of ours; our own stay as they are."""
    if isinstance(error, (EmulatorError, KeyboardInterrupt)):
        return error
    if isinstance(error, BrokenProcessPool):
        return WorkersLostError(f"a worker process died (out of memory?); {AGAIN}")
    if type(error).__name__ == "KilledWorker":
        return WorkersLostError(f"{name}: a job killed its worker again and again: {AGAIN}")
    if isinstance(error, CancelledError) or "Cancel" in type(error).__name__:
        return WorkersLostError(f"{name}: the scheduler went away; {AGAIN}")
    if isinstance(error, OSError):
        return WorkersLostError(f"{name}: a worker failed: {_first_line(error)}; {AGAIN}")
    return error


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
