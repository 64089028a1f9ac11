"""The server's side of the processes that follow grammars, `emulator.serve.grammar_worker`."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection

from emulator.serve.body import RequestError
from emulator.serve.grammar_worker import BUILD_SECONDS, ENDED, FAILED, MEMORY_BYTES, STEP_SECONDS

WORKER = "emulator.serve.grammar_worker"
PROGRAM = f"import sys; sys.path[:] = {{path!r}}; from {WORKER} import main; main()"
TOO_MUCH = f"it takes more than {{}} s or {MEMORY_BYTES >> 20} MiB"


class Nursery:
    """The process that holds the tokenizer; it starts with the first grammar, and again if it died.

    All methods may be called from any thread.
    """

    def __init__(self, tokenizer_json: str, vocabulary: int, end_ids: Sequence[int]) -> None:
        order = {"tokenizer": tokenizer_json, "vocabulary": vocabulary, "ends": list(end_ids)}
        self._order = json.dumps(order).encode()
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def connection(self) -> Connection:
        """To a new process with the tokenizer in memory. Raises OSError if none can be started."""
        ours, theirs = socket.socketpair()
        with ours, theirs, self._lock:
            try:
                socket.send_fds(self._started(), [b"+"], [theirs.fileno()])
            except OSError:
                self._control = None  # it died: once more
                socket.send_fds(self._started(), [b"+"], [theirs.fileno()])
            return Connection(ours.detach())

    def _started(self) -> socket.socket:
        if self._control is None:
            ours, theirs = socket.socketpair()
            command = [sys.executable, "-c", PROGRAM.format(path=sys.path)]
            quiet = subprocess.DEVNULL
            with theirs:
                self._process = subprocess.Popen(
                    command, stdin=theirs.fileno(), stdout=quiet, stderr=quiet
                )
            ours.sendall(b"%d\n" % len(self._order) + self._order)
            self._control = ours
        return self._control


class Follower:
    """A process that has built one grammar. It ends when nobody holds this object any more."""

    def __init__(self, nursery: Nursery, grammar: str) -> None:
        """Build the grammar; `problem` says what is wrong with it, or is empty.

        Raises RequestError if no process can be started.
        """
        # Again by the same thread: collecting garbage in the middle of a step may end an answer.
        self._lock, self._numbers = threading.RLock(), itertools.count()
        try:
            self._orders = nursery.connection()
        except OSError as error:
            message = f"no process for a grammar: {error.strerror}"
            raise RequestError(message, 503, code="overloaded") from None
        try:
            self._orders.send_bytes(grammar.encode())
            self.problem = self._orders.recv_bytes().decode()
        except (EOFError, OSError):
            self.problem = TOO_MUCH.format(f"{BUILD_SECONDS:g}")

    def number(self) -> int:
        """Of an answer of its own."""
        return next(self._numbers)

    def step(self, answer: int, took: list[int]) -> bytes | None:
        """The bits of the tokens that may follow after `took`; None at the grammar's end.

        Raises EOFError if the process has gone, RequestError if the grammar cannot be followed.
        """
        order = json.dumps({"answer": answer, "took": took}).encode()
        with self._lock:
            try:
                self._orders.send_bytes(order)
                told = self._orders.recv_bytes()
            except OSError:
                raise EOFError from None
        if told[:1] == FAILED:
            raise cannot_follow(told[1:].decode("utf-8", "replace"))
        return None if told[:1] == ENDED else told[1:]

    def end(self, answer: int) -> None:
        """Forget an answer."""
        with self._lock, contextlib.suppress(OSError):  # it has gone already
            self._orders.send_bytes(json.dumps({"answer": answer, "end": True}).encode())


def cannot_follow(problem: str = "") -> RequestError:
    """The error of an answer whose grammar takes too much, or has another `problem`."""
    problem = problem or TOO_MUCH.format(f"{STEP_SECONDS:g}")
    return RequestError(f"the schema or expression cannot be followed: {problem}")
