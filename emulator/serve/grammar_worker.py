"""The processes that follow grammars: one holds the tokenizer and forks another for each grammar.

A grammar comes from a client and may take any time and any memory to build, and to follow. So each
sits in a process of its own, which the kernel ends when it takes too much: no thread of the server
waits for its end, and its memory goes back with it. Nothing of the project is imported here.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import time
from multiprocessing.connection import Connection
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

BUILD_SECONDS, STEP_SECONDS = 2.0, 1.0  # of CPU: until the first mask, then for each
ANSWER_SECONDS = 10.0  # of CPU: all steps of an answer
WALL_SECONDS = 60.0  # the same on a machine that has no time for us
MEMORY_BYTES = 512 << 20  # beyond what the tokenizer takes
IDLE_SECONDS = 60.0  # without an answer to follow
LIMITS = LLParserLimits(max_grammar_size=200_000, initial_lexer_fuel=500_000)
MASK, ENDED, FAILED = b"m", b"e", b"f"  # the first byte of a reply


def main() -> None:
    """Take the tokenizer from standard input, a socket; then fork for each socket that comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the server, which then lets go
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a child ended
    control = socket.socket(fileno=0)
    order = json.loads(_received(control))
    tokens = LLTokenizer(order["tokenizer"], n_vocab=order["vocabulary"], eos_token=order["ends"])
    while True:
        data, files, _, _ = socket.recv_fds(control, 1, 1)
        if not data:
            return
        if os.fork() == 0:
            control.close()
            follow(Connection(files[0]), tokens)
            os._exit(0)
        os.close(files[0])


def _received(control: socket.socket) -> bytes:
    """A message whose first line is its length."""
    with control.makefile("rb", buffering=0) as file:
        left, parts = int(file.readline()), []
        while left > 0 and (part := file.read(left)):
            parts.append(part)
            left -= len(part)
    return b"".join(parts)


def follow(orders: Connection, tokens: LLTokenizer) -> None:
    """Build the grammar that comes first, then answer orders, until the server lets go."""
    _limit_memory()
    try:
        _let_run(BUILD_SECONDS)
        first = LLMatcher(tokens, orders.recv_bytes().decode(), limits=LIMITS)
        if not first.is_error():
            first.deep_copy().compute_bitmask()  # its lexer grows with the first mask
        _rest()
        orders.send_bytes(_problem(first).encode())
        answers: dict[int, Following] = {}
        while not first.is_error():
            if not answers and not orders.poll(IDLE_SECONDS):
                return
            order = json.loads(orders.recv_bytes())
            answer = answers.setdefault(order["answer"], Following(first.deep_copy()))
            if order.get("end"):
                del answers[order["answer"]]
            else:
                orders.send_bytes(answer.step(order["took"]))
    except (EOFError, OSError):
        pass


class Following:
    """An answer on its way through the grammar."""

    def __init__(self, matcher: Any) -> None:
        self._matcher, self._seconds = matcher, 0.0

    def step(self, took: list[int]) -> bytes:
        """Advance by the tokens; what may come next."""
        begin = time.process_time()
        _let_run(STEP_SECONDS)
        told = self._step(took)
        _rest()
        self._seconds += time.process_time() - begin
        return told if self._seconds < ANSWER_SECONDS else FAILED + b"it takes too long to follow"

    def _step(self, took: list[int]) -> bytes:
        matcher = self._matcher
        if took and not matcher.is_stopped():
            matcher.consume_tokens(took)
        if not matcher.is_error() and matcher.is_stopped():
            return ENDED
        mask = b"" if matcher.is_error() else matcher.compute_bitmask()
        if matcher.is_error():
            return FAILED + _problem(matcher).partition("\n")[0].encode()
        return MASK + bytes(mask)


def _problem(matcher: Any) -> str:
    return str(matcher.get_error()) if matcher.is_error() else ""


def _let_run(cpu_seconds: float) -> None:
    """From now on the kernel ends this process after so much time of CPU, or WALL_SECONDS."""
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)


def _rest() -> None:
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)


def _limit_memory() -> None:
    """Let this process take MEMORY_BYTES more than it has; an allocation beyond aborts it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[0])
    except OSError:  # not on Linux: the time alone is limited
        return
    most = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main()
