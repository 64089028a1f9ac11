"""One chip, one queue: a thread owns the chip and answers one job after another.

Like HC1 it has one token in flight and one FIFO queue. Every job gets the same tokens as it would
alone: the KV SRAM is rewound to the prefix that its prompt shares with the previous job, and random
bits depend only on the job's own seed and positions.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

from emulator.chat.answer import Answer
from emulator.chat.generate import generate
from emulator.chat.text_stream import TextStream
from emulator.chip import Chip
from emulator.errors import AdapterError, EmulatorError
from emulator.serve.body import RequestError
from emulator.serve.samplers import Recorder, TokenChances
from emulator.silicon.spec import ChipSpec

LOG = logging.getLogger("emulator.serve")
RECENT_JOBS = 16  # whose times give the estimate of a wait
MOST_RETRY_SECONDS = 60


class Piece(NamedTuple):
    """What one token adds to an answer; its text may come with a later token."""

    text: str
    tokens: int  # of the answer so far
    chip_seconds: float  # of the answer so far, prompt included
    chances: list[TokenChances]  # of the tokens that the text is made of


class Done(NamedTuple):
    """The last event of a job, with an `error` if it failed."""

    error: EmulatorError | None = None


class Job:
    """A prompt in the queue, then its answer. `tell` gets the events, in the chip's thread."""

    def __init__(
        self,
        prompt: list[int],
        max_tokens: int,
        sampler: Recorder,
        stream: TextStream,
        tell: Callable[[Piece | Done], None],
    ) -> None:
        self.prompt, self.max_tokens, self.sampler = prompt, max_tokens, sampler
        self.stream, self.tell = stream, tell
        self.answer = Answer(len(prompt))
        self.cached = 0  # prompt tokens that were in the KV SRAM already
        self.adapter = ""  # name of the one that answers
        self.cancelled = False
        self.queued_at = time.monotonic()
        self.started_at = self.first_token_at = self.done_at = 0.0  # time.monotonic()
        self._unshown: list[TokenChances] = []

    def on_token(self, token: int) -> bool:
        """Pass one token on; return true at a stop text."""
        self.first_token_at = self.first_token_at or time.monotonic()
        text = self.stream.feed(token)
        self._unshown += self.sampler.taken()
        if self.stream.stopped:
            self._unshown = []
        self._pass_on(text)
        return self.stream.stopped

    def finish(self) -> None:
        """Send the rest of the text, then the end."""
        self.done_at = time.monotonic()
        self._pass_on(self.stream.finish())
        self.tell(Done())

    def _pass_on(self, text: str) -> None:
        chances, self._unshown = ([], self._unshown) if self.stream.holding else (self._unshown, [])
        answer = self.answer
        self.tell(Piece(text, len(answer.token_ids), answer.chip_seconds, chances))


class Engine:
    """The chip's thread and the queue before it. All methods may be called from any thread."""

    def __init__(self, chip: Chip, spec: ChipSpec, places: int) -> None:
        self.chip, self.spec, self.places = chip, spec, places
        self.last_sign_at = 0.0  # time.monotonic() when a token was made
        self.on_done: Callable[[Job], None] = lambda job: None  # in the chip's thread
        self._queue: deque[Job] = deque()
        self._changed = threading.Condition()
        self._tasks: deque[tuple[Future[None], Callable[[], None]]] = deque()
        self._draining = self._stopped = False
        self._running: Job | None = None
        self._recent: deque[float] = deque(maxlen=RECENT_JOBS)  # seconds of jobs
        self._thread = threading.Thread(target=self._work, name="chip", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Jobs that have not begun."""
        return len(self._queue)

    @property
    def busy(self) -> bool:
        return self._running is not None

    def probe_prompt(self) -> list[int]:
        """A prompt for one pass that keeps the contents of the KV SRAM."""
        room = self.chip.context - 2
        return [*self.chip.tokens[:room], 0]

    def submit(self, jobs: list[Job]) -> None:
        """Queue all of these or none. Raises RequestError 429, or 503 while shutting down."""
        with self._changed:
            if self._draining:
                raise RequestError("the server is shutting down", 503, code="shutting_down")
            if len(self._queue) + len(jobs) > self.places:
                raise RequestError(
                    f"the queue has {self.places} places and {len(self._queue)} jobs wait in it",
                    429,
                    code="queue_full",
                    headers={"retry-after": str(self.retry_seconds())},
                )
            self._queue.extend(jobs)
            self._changed.notify()

    def retry_seconds(self) -> int:
        """Estimate when there will be room: the waiting jobs, at the pace of recent ones."""
        mean = sum(self._recent) / len(self._recent) if self._recent else 1.0
        return min(MOST_RETRY_SECONDS, max(1, round(mean * (len(self._queue) + 1))))

    def cancel(self, job: Job) -> None:
        """Take a job out of the queue, or end it before the chip's next pass."""
        job.cancelled = True
        with self._changed:
            if job not in self._queue:
                return
            self._queue.remove(job)
        job.finish()

    def between_jobs(self, work: Callable[[], None]) -> Future[None]:
        """Do `work` in the chip's thread before the next job; the future has its error, if any."""
        future: Future[None] = Future()
        with self._changed:
            if self._draining:
                raise RequestError("the server is shutting down", 503, code="shutting_down")
            self._tasks.append((future, work))
            self._changed.notify()
        return future

    def drain(self) -> None:
        """Accept no more jobs and refuse those that wait; the current answer goes on."""
        with self._changed:
            self._draining = True
            left, self._queue = list(self._queue), deque()
        for job in left:
            job.tell(Done(RequestError("the server is shutting down", 503, code="shutting_down")))

    def stop(self, patience: float) -> None:
        """Drain, then end the thread; cut the current answer after `patience` seconds."""
        self.drain()
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(patience)
        if (job := self._running) is not None:
            job.cancelled = True
            self._thread.join(patience)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._tasks or self._queue or self._stopped)
                tasks, self._tasks = self._tasks, deque()
                if not tasks and not self._queue:
                    return
                job = self._running = None if tasks else self._queue.popleft()
            for future, work in tasks:
                _finish(future, work)
            if job is None:
                continue
            try:
                self._answer(job)
            except EmulatorError as error:
                job.tell(Done(error))
            except Exception:  # a bug: report it, clear the KV SRAM, serve the next job
                LOG.exception("a job failed")
                self.chip.rewind(0)
                job.tell(Done(RequestError("the emulator failed; see its log", 500)))
            finally:
                self._running = None

    def _answer(self, job: Job) -> None:
        """Run one job. The last token of the prompt always runs, since its logits are needed."""
        job.started_at = time.monotonic()
        try:
            self.chip.use(job.adapter)
        except AdapterError as error:  # dropped while the job waited
            raise RequestError(str(error), 404, "model", "model_not_found") from None
        job.cached = self.chip.resume(job.prompt)

        def on_token(token: int) -> bool:
            self.last_sign_at = time.monotonic()
            return job.on_token(token)

        generate(
            self.chip,
            self.spec,
            job.prompt,
            job.max_tokens,
            job.sampler,
            on_token,
            cached=job.cached,
            should_continue=lambda: not job.cancelled,
            answer=job.answer,
        )
        if job.answer.token_ids:
            self.last_sign_at = time.monotonic()
        job.finish()
        self._recent.append(job.done_at - job.started_at)
        self.on_done(job)


def _finish(future: Future[None], work: Callable[[], None]) -> None:
    """Do the work; its error is the future's."""
    try:
        work()
    except Exception as error:  # told to the one who waits
        future.set_exception(error)
    else:
        future.set_result(None)
