"""A prompt on its way through the queue and a card, and what its client is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from emulator.chat.answer import Answer
from emulator.chat.generate import Reader
from emulator.chat.text_stream import TextStream
from emulator.errors import EmulatorError
from emulator.serve.chances import Recorder, TokenChances


class Piece(NamedTuple):
    """What one token adds to an answer; its text may come with a later token."""

    text: str
    tokens: int  # of the answer so far
    chip_seconds: float  # of the answer so far, prompt included
    chances: list[TokenChances]  # of the tokens that the text is made of
    due: float = 0.0  # time.monotonic() before which the client must not have it


class Done(NamedTuple):
    """The last event of a job, with an `error` if it failed."""

    error: EmulatorError | None = None
    due: float = 0.0


class Job:
    """A prompt in the queue, then its answer. `tell` gets the events, in the host's thread.

    All times are those of time.monotonic(). Where the cards keep the chip's pace, `due` says when
    the chip would have given a token, and these are its times; else they are the host's.
    """

    def __init__(
        self,
        prompt: list[int],
        max_tokens: int,
        sampler: Recorder,
        stream: TextStream,
        tell: Callable[[Piece | Done], None],
        session: str = "",
        reader: Reader | None = None,
        client: str = "",
    ) -> None:
        self.prompt, self.max_tokens, self.sampler = prompt, max_tokens, sampler
        self.stream, self.tell = stream, tell
        self.reader = reader  # of every position of the prompt, which then runs as a whole
        self.session = session  # by which a sticky server finds its card
        self.client = client  # whose share of the queue it takes; "": the server's own
        self.paced = True  # False: a test of the chip, which takes none of its time
        self.adapter = ""  # name of the one that answers
        self.answer = Answer(len(prompt))
        self.card = 0  # number of the card that is at it, or was
        self.keeps = False  # whether the card keeps sessions apart
        self.cached = 0  # prompt tokens that were in the KV SRAM already
        self.cancelled = self.failed = False
        self.queued_at = self.started_at = self.first_token_at = self.done_at = 0.0
        self.now: Callable[[], float] = lambda: 0.0
        self.due: Callable[[int], float] = lambda token: 0.0  # of answer token 1, 2, ..
        self._unshown: list[TokenChances] = []

    @property
    def told_cached(self) -> int:
        """Cached prompt tokens, as the client may know them: those of its own named session.

        Others are of a prompt before this one, which may be somebody else's.
        """
        return self.cached if self.keeps and self.session else 0

    @property
    def tokens_to_go(self) -> int:
        """At most, prompt included."""
        return len(self.prompt) + self.max_tokens - len(self.answer.token_ids)

    def on_token(self, token: int) -> bool:
        """Pass one token on; return true at a stop text."""
        self.first_token_at = self.first_token_at or self._given_at()
        text = self.stream.feed(token)
        self._unshown += self.sampler.taken()
        if self.stream.stopped:
            self._unshown = []
        self._pass_on(text)
        return self.stream.stopped

    def finish(self, error: EmulatorError | None = None) -> None:
        """Send the rest of the text, then the end."""
        given = bool(self.answer.token_ids) and not self.cancelled and error is None
        self.done_at = self._given_at() if given else self.now()
        self.failed = error is not None
        if error is None:
            self._pass_on(self.stream.finish())
        self.tell(Done(error, self.done_at))

    def _given_at(self) -> float:
        """When the last token is given: as soon as it is there, but not before the chip's time."""
        return max(self.now(), self.due(len(self.answer.token_ids)))

    def _pass_on(self, text: str) -> None:
        chances, self._unshown = ([], self._unshown) if self.stream.holding else (self._unshown, [])
        answer = self.answer
        count = len(answer.token_ids)
        self.tell(Piece(text, count, answer.chip_seconds, chances, self.due(count)))
