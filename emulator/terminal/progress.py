"""What the program is doing while its user waits: on standard error, at once, with an estimate.

On a terminal a bar for each thing under way; anything else gets a plain line every few seconds, so
that a log shows that the program lives. Both come from threads of their own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import Any

LINE_S = 5.0  # between two lines without a terminal
TRUSTED = 0.2  # share of the work after which its speed says more than `about_s`


@dataclass(slots=True)
class Task:
    """One thing that takes a while."""

    what: str
    unit: str
    about_s: float | None  # what it takes on two cores, as far as is known beforehand
    done: int = 0
    total: int = 0
    begun: float = field(default_factory=time.monotonic)
    bar: Any = None  # rich's number of it

    def left(self) -> str:
        """ "about 20 s to go", or nothing if that cannot be told."""
        spent = time.monotonic() - self.begun
        if self.total and self.done >= TRUSTED * self.total:
            left = spent * (self.total - self.done) / self.done
        elif self.about_s is None:
            return ""
        elif spent < self.about_s:
            left = self.about_s - spent
        else:
            return f"usually {_duration(self.about_s)}"
        return f"about {_duration(left)} to go"

    def line(self) -> str:
        """ "compiling the masks, once: 37 of 211 matrices, 12 s, about 57 s to go"."""
        counted = f"{self.done} of {self.total} {self.unit}" if self.total else ""
        parts = (counted, _duration(time.monotonic() - self.begun), self.left())
        return f"{self.what}: {', '.join(filter(None, parts))}"


@contextmanager
def progress(
    what: str, unit: str = "", about_s: float | None = None
) -> Iterator[Callable[[int, int], None]]:
    """Say that `what` is under way; yields a function of (done, total) that may be called.

    Several may be under way at once, also from several threads.
    """
    task = Task(what, unit, about_s)
    _display.add(task)
    try:
        yield lambda done, total: _display.update(task, done, total)
    finally:
        _display.remove(task)


class _Display:
    """The process's standard error: all tasks share it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._tasks: list[Task] = []
        self._bars: Any = None  # rich's Progress, on a terminal
        self._ended: Event | None = None  # of the thread that writes lines

    def add(self, task: Task) -> None:
        with self._lock:
            self._tasks.append(task)
            if len(self._tasks) == 1:
                self._start()
            if self._bars is not None:
                task.bar = self._bars.add_task(task.what, total=None, unit=task.unit, task=task)

    def update(self, task: Task, done: int, total: int) -> None:
        task.done, task.total = done, total
        with self._lock:
            if self._bars is not None:
                self._bars.update(task.bar, completed=done, total=total)

    def remove(self, task: Task) -> None:
        with self._lock:
            self._tasks.remove(task)
            if self._bars is not None:
                self._bars.remove_task(task.bar)
            if not self._tasks:
                self._stop()

    def _start(self) -> None:
        self._bars = _bars() if sys.stderr.isatty() else None
        if self._bars is not None:
            self._bars.start()
            return
        self._ended = Event()
        Thread(target=self._write_lines, args=(self._ended,), daemon=True).start()

    def _stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        if self._ended is not None:
            self._ended.set()
            self._ended = None

    def _write_lines(self, ended: Event) -> None:
        while not ended.wait(LINE_S):
            with self._lock:
                tasks = [] if ended.is_set() else list(self._tasks)
            # What counts nothing holds others together, or says less than they do.
            counting = [task for task in tasks if task.total]
            for task in counting or tasks:
                print(task.line(), file=sys.stderr, flush=True)


_display = _Display()


def _bars() -> Any:
    """Rich's bars, which leave the screen when all is done; None for a screen without a cursor."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TimeElapsedColumn
    from rich.text import Text

    class Count(ProgressColumn):
        def render(self, task: Any) -> Text:
            ours: Task = task.fields["task"]
            counted = f"{ours.done} of {ours.total} {ours.unit}, " if ours.total else ""
            return Text(counted + ours.left())

    console = Console(stderr=True)
    if console.is_dumb_terminal:
        return None
    columns = (SpinnerColumn(), "{task.description}", BarColumn(20), TimeElapsedColumn(), Count())
    return Progress(*columns, console=console, transient=True)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
