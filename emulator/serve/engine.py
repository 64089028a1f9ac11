"""The cards' queue, and the host's thread that runs their passes.

A card has one token in flight and one answer at a time, like HC1. On this computer one pass runs a
token of every card that answers, and pieces of prompts beside them. Every job gets the same tokens
as it would alone, since its card's rows of the KV SRAM are its own, rewound to the prefix that its
prompt shares with the card's previous job, and random bits depend only on its seed and positions.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from emulator.board import Board, Run
from emulator.chip import Chip
from emulator.errors import EmulatorError
from emulator.serve.body import RequestError
from emulator.serve.cards import Card
from emulator.serve.jobs import Done, Job
from emulator.serve.lines import Lines
from emulator.serve.pace import Pace
from emulator.serve.pieces import Pieces
from emulator.silicon.spec import ChipSpec

LOG = logging.getLogger("emulator.serve")
RECENT_JOBS = 16  # whose times give the estimate of a wait
MOST_RETRY_SECONDS = 60
LATE_SECONDS, LATE_SHARE = 0.1, 0.05  # behind the chip's pace by more than this is worth a word


class Clock:
    """The host's time, and how to wait for it."""

    def now(self) -> float:
        return time.monotonic()

    def wait(self, changed: threading.Condition, seconds: float | None) -> None:
        """Until somebody notifies, or for so long."""
        changed.wait(seconds)


class Engine:
    """Cards and the queue before them. All methods may be called from any thread."""

    def __init__(
        self,
        board: Board,
        spec: ChipSpec,
        places: int,
        policy: str = "one-queue",
        pace: Pace | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.board, self.spec, self.places, self.pace = board, spec, places, pace
        keeps = policy == "sticky"
        self.cards = [Card(i, chip, spec, pace, keeps) for i, chip in enumerate(board.chips)]
        self.last_sign_at = 0.0  # time.monotonic() of the last pass, or of the start of an answer
        self.on_done: Callable[[Job], None] = lambda job: None  # in the host's thread
        self.on_death: Callable[[], None] = lambda: None  # the same, as the last that it does
        self.check_masks: Callable[[], None] = lambda: None  # raises ImageError if they changed
        self.died = False
        self._clock = clock or Clock()
        self._pieces = Pieces()
        self._lines = Lines(self.cards, policy)
        self._changed = threading.Condition()
        self._tasks: deque[tuple[Future[None], Callable[[Card], None]]] = deque()
        self._draining = self._stopped = self._was_late = False
        self._recent: deque[float] = deque(maxlen=RECENT_JOBS)  # seconds of jobs
        self._thread = threading.Thread(target=self._supervised, name="host", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def chip(self) -> Chip:
        """The first card's: all have the same masks, context and stages."""
        return self.cards[0].chip

    @property
    def waiting(self) -> int:
        """Jobs that have not begun."""
        return len(self._lines)

    def waiting_before(self, card: int) -> int:
        """Those that wait for this card alone."""
        return self._lines.before(card)

    @property
    def busy(self) -> int:
        """Cards at work."""
        return sum(card.job is not None for card in self.cards)

    @property
    def computing(self) -> bool:
        """Whether this computer has a pass to run."""
        return any(card.computes for card in self.cards)

    def probe_prompt(self) -> list[int]:
        """A prompt for one pass that keeps the contents of a KV SRAM."""
        room = self.chip.context - 2
        return [*self.chip.tokens[:room], 0]

    def submit(self, jobs: list[Job]) -> None:
        """Queue all of these or none. Raises RequestError 429, or 503 while shutting down."""
        with self._changed:
            self.check_room(len(jobs), jobs[0].client if jobs else "")
            for job in jobs:
                job.queued_at = self._clock.now()
                self._lines.add(job)
            self._changed.notify()

    @property
    def share(self) -> int:
        """Places that one client may have: half, so that there are some for the next."""
        return max(1, self.places // 2)

    def check_room(self, count: int, client: str = "") -> None:
        """Raise RequestError as `submit` does; for asking before work is put into the jobs.

        A client with a name has at most its share of the places.
        """
        if self.died:
            raise _dead()
        if self._draining:
            raise RequestError("the server is shutting down", 503, code="shutting_down")
        taken = self._lines.waiting_of(client) if client else 0
        if client and taken + count > self.share:
            own = f"at most {self.share} of {self.places} places, and {taken} of its jobs wait"
            message = f"one client has {own}"
        elif self.waiting + count > self.places:
            message = f"the queue has {self.places} places and {self.waiting} jobs wait in it"
        else:
            return
        retry = {"retry-after": str(self.retry_seconds())}
        raise RequestError(message, 429, code="queue_full", headers=retry)

    def retry_seconds(self) -> int:
        """Estimate when there will be room: the waiting jobs, at the pace of recent ones."""
        mean = sum(self._recent) / len(self._recent) if self._recent else 1.0
        ahead = (self.waiting + 1) / len(self.cards)
        return min(MOST_RETRY_SECONDS, max(1, round(mean * ahead)))

    def cancel(self, job: Job) -> None:
        """Take a job out of the queue, or end it before its card's next pass."""
        with self._changed:
            if job.done_at and self._clock.now() >= job.done_at:
                return
            job.cancelled = True
            waited = self._lines.remove(job)
            self._changed.notify()
        if waited:
            job.finish()

    def between_answers(self, work: Callable[[Card], None]) -> Future[None]:
        """Do `work` with every card, when none is in the middle of an answer, and before new ones.

        It runs in the host's thread; the future has its error, if any. Raises RequestError 503
        while shutting down.
        """
        future: Future[None] = Future()
        with self._changed:
            if self._draining:
                raise RequestError("the server is shutting down", 503, code="shutting_down")
            self._tasks.append((future, work))
            self._changed.notify()
        return future

    def drain(self) -> None:
        """Accept no more jobs and refuse those that wait; the answers in hand go on."""
        with self._changed:
            self._draining = True
            left = self._lines.clear()
        for job in left:
            job.tell(Done(RequestError("the server is shutting down", 503, code="shutting_down")))

    def stop(self, patience: float) -> None:
        """Drain, then end the thread; cut the answers in hand after `patience` seconds."""
        self.drain()
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(patience)
        for job in [card.job for card in self.cards if card.job is not None]:
            self.cancel(job)
        self._thread.join(patience)

    def _supervised(self) -> None:
        """Whatever ends the work but the end of the server: say so, and let everybody go."""
        try:
            self._work()
        except BaseException as error:  # a panic of a library is no Exception
            known = isinstance(error, EmulatorError)
            LOG.critical("the chip's thread died: %s", error, exc_info=None if known else error)
            with self._changed:
                self.died = self._draining = True
                left = [*self._lines.clear(), *(c.job for c in self.cards if c.job is not None)]
            for job in left:
                job.tell(Done(_dead()))
            while self._tasks:
                future, _ = self._tasks.popleft()
                if future.set_running_or_notify_cancel():
                    future.set_exception(_dead())
            self.on_death()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._free_cards()
                working = [card for card in self.cards if card.computes]
                tasks = [] if working else [self._tasks.popleft() for _ in range(len(self._tasks))]
                begun = [] if self._tasks or tasks else self._assign()
                if not begun and not tasks and not working:
                    if self._stopped and not self.busy:
                        return
                    self._clock.wait(self._changed, self._seconds_to_next())
                    continue
            for future, work in tasks:
                self._finish(future, work)
            for card, job, at in begun:
                self.last_sign_at = self._clock.now()
                self._guarded(card, job, partial(card.begin, job, at, self._clock.now))
            if working:
                self.check_masks()
                self._pass(working)

    def _finish(self, future: Future[None], work: Callable[[Card], None]) -> None:
        """Do the work, if somebody still waits for it; its error is the future's."""
        if not future.set_running_or_notify_cancel():
            return
        try:
            for card in self.cards:
                work(card)
        except Exception as error:  # told to the one who waits
            future.set_exception(error)
        else:
            future.set_result(None)

    def _free_cards(self) -> None:
        """Let go of jobs that are computed and, at the chip's pace, given."""
        now = self._clock.now()
        for card in self.cards:
            job = card.job
            if job is None or card.computes or not job.done_at:
                continue
            if job.cancelled:  # nobody waits for the rest of what the chip would give
                job.done_at = card.free_at = min(card.free_at, now)
            if card.free_at <= now:
                card.job = None
                self._recent.append(card.free_at - job.started_at)
                self.on_done(job)

    def _assign(self) -> list[tuple[Card, Job, float]]:
        """Give free cards their next jobs; card, job and when it started."""
        begun = []
        while (pair := self._lines.next_pair()) is not None:
            card, job = pair
            card.job = job
            paced = self.pace is not None and job.paced
            at = max(job.queued_at, card.free_at) if paced else self._clock.now()
            begun.append((card, job, at))
        return begun

    def _seconds_to_next(self) -> float | None:
        """Until the next card has given its answer; None when nobody works."""
        ends = [card.free_at for card in self.cards if card.job is not None]
        return max(0.0, min(ends) - self._clock.now()) if ends else None

    def _pass(self, working: list[Card]) -> None:
        """One pass over tokens of the cards at work; a bug in it ends all their answers."""
        chosen, begin = self._pieces.of(working), time.perf_counter()
        outcomes: list[Callable[[], None]]
        try:
            passed = self.board.forward([Run(card.number, *asked) for card, asked in chosen])
            outcomes = [partial(c.took, w) for (c, _), w in zip(chosen, passed, strict=True)]
        except Exception as error:
            outcomes = [partial(_fail, error)] * len(chosen)
        self._pieces.took(time.perf_counter() - begin)
        self.last_sign_at = self._clock.now()
        for (card, _), outcome in zip(chosen, outcomes, strict=True):
            if card.job is not None:
                self._guarded(card, card.job, outcome)

    def _guarded(self, card: Card, job: Job, act: Callable[[], None]) -> None:
        """Do one step of a job; after its last, or a failure, end it."""
        error: EmulatorError | None = None
        try:
            act()
        except EmulatorError as problem:
            error = problem
        except MemoryError:
            LOG.error("out of memory in an answer")
            card.chip.rewind(0)
            error = RequestError("this computer has no memory left", 503, code="overloaded")
        except Exception:  # a bug: report it, clear the KV SRAM, serve the next job
            LOG.exception("a job failed")
            card.chip.rewind(0)
            error = RequestError("the emulator failed; see its log", 500)
        if error is None and card.computes:
            return
        card.end()
        job.finish(error)
        card.free_at = job.done_at
        if error is None and not job.cancelled:
            self._check_pace(job)

    def _check_pace(self, job: Job) -> None:
        """Say once that this computer cannot keep the pace."""
        now, due = self._clock.now(), job.due(len(job.answer.token_ids))
        if not due or self._was_late:
            return
        assert self.pace is not None
        takes = due - job.started_at
        if now - due > LATE_SECONDS + LATE_SHARE * takes:
            self._was_late = True
            enough = self.pace.slow * (now - job.started_at) / takes
            LOG.warning(
                "this computer is slower than %d cards slowed %g times, and answers come late: "
                "try --slow %.2g",
                len(self.cards), self.pace.slow, 1.5 * enough,
            )  # fmt: skip


def _dead() -> RequestError:
    return RequestError("the emulator stopped; its log says why", 500)


def _fail(error: Exception) -> None:
    raise error
