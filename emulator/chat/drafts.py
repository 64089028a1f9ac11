"""Drafts: tokens that may come next, run in one pass with the token before them and verified.

A pass over T tokens has the bits of T passes over one, so what a draft's tokens are picked to be
followed by is exact; a wrong draft is forgotten again. It changes nothing but the host's time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from emulator.chat.sampler import Picker, Sampler
from emulator.chip import Chip
from emulator.errors import UsageError

MOST = 15  # tokens of a draft: with the one before it, a pass of 16
GRAMS = (4, 3, 2)  # tokens that a place must have in common with the end to be looked up
SHARE = 0.02  # of an answer's time that wrong drafts may cost
UNKNOWN = 0.25  # of a pass, that a token more is taken to cost until it was measured
KEPT = 8  # passes that right drafts have gained and wrong ones may lose again
SMOOTH = 0.25  # weight of the newest measurement
RECENT = 16  # passes over one token that say how long one takes


class Source(Protocol):
    """Where drafts come from, for one answer."""

    def propose(self, tokens: Sequence[int], most: int) -> list[int]:
        """What may follow these tokens, which only grow from call to call; at most so many."""


class Lookup:
    """What followed the same few tokens before, in the prompt or the answer."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, ...], int] = {}  # a gram -> the position after its last place
        self._count = 0  # tokens whose grams are known, but those that end at the last one

    def propose(self, tokens: Sequence[int], most: int) -> list[int]:
        for end in range(self._count, len(tokens)):
            for n in GRAMS:
                if end >= n:
                    self._seen[tuple(tokens[end - n : end])] = end
        self._count = len(tokens)
        for n in GRAMS:
            at = self._seen.get(tuple(tokens[-n:]))
            if at is not None:
                return list(tokens[at : at + most])
        return []


class DraftChip:
    """Another chip's greedy continuation, or its pick by the same random bits.

    Raises UsageError where the two vocabularies differ in size.
    """

    def __init__(self, chip: Chip, vocabulary: int, sampler: Picker | None = None) -> None:
        own = chip.image.config.vocabulary
        if own != vocabulary:
            raise UsageError(f"the draft image has {own} tokens, the model {vocabulary}")
        self._chip = chip
        self._sampler = sampler if isinstance(sampler, Sampler) else Sampler()  # stateless

    def propose(self, tokens: Sequence[int], most: int) -> list[int]:
        chip, found = self._chip, list[int]()
        most = min(most, chip.context - len(tokens))
        if most < 1:
            return found
        unfed = list(tokens[chip.resume(list(tokens)) :])
        while len(found) < most:
            found.append(self._sampler.pick(chip.forward(unfed)))
            unfed = found[-1:]
        return found


class Drafts:
    """How much to draft, by what drafts have brought so far and what passes have taken.

    Wrong drafts may cost SHARE of an answer's time: a draft is made only where its loss, were all
    of it wrong, still fits what is left of that share and what right drafts have gained.
    """

    def __init__(self, source: Source, share: float = SHARE) -> None:
        self._source, self._share = source, share
        self._length = 1  # of the next draft
        self._rests = False  # for one pass, after a draft of which nothing was right
        self._single: deque[float] = deque(maxlen=RECENT)  # seconds of passes over one token
        self._seconds: dict[int, float] = {}  # of a pass over more, by its tokens, smoothed
        self._total = self._gained = 0.0  # seconds, of all passes and by right drafts less wrong

    def propose(self, tokens: Sequence[int], most: int) -> list[int]:
        """The draft that is to follow these tokens; none where it could cost too much."""
        most = min(most, self._length)
        if most < 1 or self._rests or not (self._single or self._share >= 1):
            return []
        while most and self._loss(most) > self._share * self._total + self._gained:
            most //= 2
        return self._source.propose(tokens, most) if most else []

    def took(self, ran: int, right: int, seconds: float) -> None:
        """A pass of so many tokens, of whose draft so many were right, with making the draft."""
        self._total += seconds
        self._rests = ran > 1 and right == 0
        if ran == 1:
            self._single.append(seconds)
            return
        before = self._seconds.get(ran, seconds)
        self._seconds[ran] = before + SMOOTH * (seconds - before)
        gain = self._gained + (1 + right) * self._one - seconds
        self._gained = min(gain, KEPT * self._one)
        if right == ran - 1:
            self._length = min(2 * self._length, MOST)
        elif right < ran // 2:
            self._length = max(self._length // 2, 1)

    @property
    def _one(self) -> float:
        """Seconds of a pass over one token: the least of late, for others may have shared it."""
        return min(self._single, default=0.0)

    def _loss(self, drafted: int) -> float:
        """Seconds that a draft of so many tokens costs if none is right."""
        ran = max((n for n in self._seconds if n <= 1 + drafted), default=0)
        known = self._seconds.get(ran, self._one * (1 + UNKNOWN * drafted))
        return known * (1 + drafted) / (ran or 1 + drafted) - self._one
