"""Who is next, and on which card: the policies of `emulator.traffic.server`, for running cards.

Among clients whose jobs wait in one line, the one that was served longest ago is next, so that
nobody waits for all that another has queued; the jobs of one client keep their order.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque

from emulator.serve.cards import Card
from emulator.serve.jobs import Job

SESSIONS = 10_000  # whose cards are remembered
CLIENTS = 10_000  # whose last turns are


class Lines:
    """Jobs that wait: one line before all cards, or one before each.

    Its owner holds a lock around every call.
    """

    def __init__(self, cards: list[Card], policy: str) -> None:
        self._cards, self._policy = cards, policy
        count = 1 if policy == "one-queue" else len(cards)
        self._lines: list[deque[Job]] = [deque() for _ in range(count)]
        self._last = -1  # card of the last job, round robin
        self._homes: OrderedDict[str, int] = OrderedDict()  # card of a session
        self._waiting: Counter[str] = Counter()  # jobs of a client
        self._served: OrderedDict[str, int] = OrderedDict()  # number of a client's last turn
        self._turn = 0

    def __len__(self) -> int:
        return sum(map(len, self._lines))

    def before(self, card: int) -> int:
        """Jobs that wait for this card alone."""
        return 0 if self._policy == "one-queue" else len(self._lines[card])

    def waiting_of(self, client: str) -> int:
        """Jobs of a client."""
        return self._waiting[client]

    def add(self, job: Job) -> None:
        """At the end of its line."""
        self._lines[self._line_of(job)].append(job)
        self._waiting[job.client] += 1

    def remove(self, job: Job) -> bool:
        """Whether it waited."""
        for line in self._lines:
            if job in line:
                line.remove(job)
                self._left(job)
                return True
        return False

    def clear(self) -> list[Job]:
        """Take all jobs out."""
        left = [job for line in self._lines for job in line]
        for line in self._lines:
            line.clear()
        self._waiting.clear()
        return left

    def next_pair(self) -> tuple[Card, Job] | None:
        """The next job that can begin, taken out, and a card that is free for it."""
        if self._policy == "one-queue":
            free = [card for card in self._cards if card.job is None]
            if not free or not self._lines[0]:
                return None
            job = self._next_of(self._lines[0])
            return min(free, key=lambda card: _preference(card, job)), job
        for card, line in zip(self._cards, self._lines, strict=True):
            if card.job is None and line:
                return card, self._next_of(line)
        return None

    def _next_of(self, line: deque[Job]) -> Job:
        """Take out the first job of the client that was served longest ago, or never."""
        job = line[0]
        if len(self._waiting) > 1:
            job = min(line, key=lambda one: self._served.get(one.client, -1))
        line.remove(job)
        self._left(job)
        self._turn += 1
        self._served[job.client] = self._turn
        self._served.move_to_end(job.client)
        if len(self._served) > CLIENTS:
            self._served.popitem(last=False)
        return job

    def _left(self, job: Job) -> None:
        self._waiting[job.client] -= 1
        if not self._waiting[job.client]:
            del self._waiting[job.client]

    def _line_of(self, job: Job) -> int:
        if self._policy == "one-queue":
            return 0
        if self._policy == "round-robin":
            self._last = (self._last + 1) % len(self._cards)
            return self._last
        if self._policy == "sticky" and job.session in self._homes:
            self._homes.move_to_end(job.session)
            return self._homes[job.session]
        least = min(range(len(self._cards)), key=self._work_before)
        if self._policy == "sticky" and job.session:
            self._homes[job.session] = least
            if len(self._homes) > SESSIONS:
                self._homes.popitem(last=False)
        return least

    def _work_before(self, number: int) -> float:
        """When the card gets free, if it keeps the chip's pace; else the tokens it has to run.

        Answers are taken to be as long as they may get.
        """
        card, line = self._cards[number], self._lines[number]
        if card.pace is not None:
            return card.free_at + sum(card.chip_seconds(job, 0, job.max_tokens) for job in line)
        jobs = [*line, *filter(None, [card.job])]
        return sum(job.tokens_to_go for job in jobs)


def _preference(card: Card, job: Job) -> tuple[float, float, int]:
    """Lowest for the card that has been free longest; at the host's pace, first of all for the
    one that holds most of the prompt."""
    if card.pace is not None:
        return 0, card.free_at, card.number
    if card.chip.adapter != job.adapter:  # whose keys and values are of no use to it
        return 0, card.free_at, card.number
    held = 0
    for have, want in zip(card.chip.tokens, job.prompt, strict=False):
        if have != want:
            break
        held += 1
    return -held, card.free_at, card.number
