"""A card: a chip with a KV SRAM of its own, and the answer that it is at.

All cards share the masks in memory. A card runs no pass itself: it says which tokens it wants to
run and takes what came out, so that whoever runs the passes may run those of many cards at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from emulator.blocks.wires import Wires
from emulator.chat.drafts import Drafts, Lookup
from emulator.chat.generate import Asked, Passes, following, passes
from emulator.chip import NO_ADAPTER, Chip, KvContents
from emulator.serve.body import RequestError
from emulator.serve.jobs import Job
from emulator.serve.pace import Pace
from emulator.silicon.spec import ChipSpec


class Card:
    """One card of a server; it is free when it has no job."""

    def __init__(
        self, number: int, chip: Chip, spec: ChipSpec, pace: Pace | None, keeps: bool
    ) -> None:
        self.number, self.chip, self.spec, self.pace = number, chip, spec, pace
        self.job: Job | None = None
        self.free_at = 0.0  # since when it is free; while it has a job: until then at most
        self.asked = Asked([])  # what has to run next; nothing once the answer is computed
        self._run: Passes | None = None
        self._keeps = keeps  # the KV of sessions that went to another for a while
        self._session = ""  # whose KV is in the chip
        self._kept: OrderedDict[str, KvContents] = OrderedDict()  # others', the oldest first

    def begin(self, job: Job, at: float, now: Callable[[], float]) -> None:
        """Take a job that starts at `at`. Raises ContextError if its prompt does not fit.

        Raises RequestError 404 if its adapter was dropped while it waited.
        """
        job.card, job.started_at, job.now = self.number, at, now
        job.keeps = self._keeps
        if job.adapter != NO_ADAPTER and job.adapter not in self.chip.adapters:
            message = f"the adapter {job.adapter} is gone"
            raise RequestError(message, 404, "model", "model_not_found")
        if self._keeps:
            self._change_session(job)
        self.chip.use(job.adapter)
        if job.reader is None:
            job.cached = self.chip.resume(job.prompt)
        else:
            self.chip.rewind(0)
        if self.pace is not None and job.paced:
            known = job.cached if self._keeps else 0
            job.due = lambda token: at + self.chip_seconds(job, known, token)
            self.free_at = job.due(job.max_tokens)
        self._run = passes(
            self.chip,
            self.spec,
            job.prompt,
            job.max_tokens,
            job.sampler,
            job.on_token,
            cached=job.cached,
            should_continue=lambda: not job.cancelled,
            answer=job.answer,
            reader=job.reader,
            drafts=Drafts(Lookup()),
        )
        self.asked = following(self._run)

    @property
    def computes(self) -> bool:
        """Whether it needs a pass."""
        return bool(self.asked.tokens)

    @property
    def answers(self) -> bool:
        """Whether its prompt has run."""
        return self.job is not None and bool(self.job.answer.token_ids)

    def took(self, wires: Wires) -> None:
        """Go on after a pass over the first of what it asked for."""
        assert self._run is not None
        self.asked = following(self._run, wires)

    def end(self) -> None:
        """Leave the answer where it is."""
        self.asked = Asked([])
        if self._run is not None:
            self._run.close()
            self._run = None

    def drop(self, adapter: str) -> None:
        """Take an adapter out of the chip, and what was kept of its keys and values with it.

        Raises AdapterError if there is none of this name.
        """
        self.chip.drop(adapter)
        for session in [name for name, kept in self._kept.items() if kept.adapter == adapter]:
            del self._kept[session]

    def chip_seconds(self, job: Job, cached: int, token: int) -> float:
        """Paced time from a job's start to answer token 1, 2, .., or the last that fits."""
        assert self.pace is not None
        count = len(job.prompt)
        last = self.chip.context + 1 - count
        return self.pace.seconds(count, cached, max(1, min(token, last)))

    def _change_session(self, job: Job) -> None:
        """Put the job's session into the chip; keep the others' as far as its SRAM had room."""
        if job.session != self._session:
            if self._session:
                self._kept[self._session] = self.chip.kv_contents()
            self.chip.rewind(0)
            if (known := self._kept.pop(job.session, None)) is not None:
                self.chip.restore(known)
            self._session = job.session
        room = self.chip.context - (len(job.prompt) + job.max_tokens - 1)
        while self._kept and sum(len(kept.tokens) for kept in self._kept.values()) > room:
            self._kept.popitem(last=False)
