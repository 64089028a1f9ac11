"""What goes into the next pass: a token of every answer, and pieces of prompts beside them.

While a prompt runs, the time between an answer's tokens may grow to LONGEST times what it is
without; the rest of the prompt waits for the next passes. Both times are measured as they go.
"""

from __future__ import annotations

from emulator.chat.generate import PASS, Asked
from emulator.serve.cards import Card

LONGEST = 1.8  # times: below the promised 2, since the next pass is only estimated
FIRST = 4  # tokens of prompts beside answers before anything was measured
FRESH = 32  # passes for which the answers' own time holds; the next one runs without prompts
SMOOTH = 0.3  # weight of the newest measurement


class Pieces:
    """Estimates from passes so far: answers' own seconds, and what a prompt's token adds."""

    def __init__(self) -> None:
        self._own: dict[int, float] = {}  # seconds of a pass over so many answers alone
        self._age: dict[int, int] = {}  # passes with prompts since that was measured
        self._each = 0.0  # seconds that a prompt's token adds
        self._room = FIRST
        self._pass = 0, 0  # answers in the pass, and tokens beside them

    def of(self, working: list[Card]) -> list[tuple[Card, Asked]]:
        """Cards that take part in the next pass, and what each runs.

        Drafts run only where a card works alone: they would hold others up.
        """
        answers = [card for card in working if card.answers]
        prompts = [card for card in working if not card.answers]
        chosen = [(card, card.asked.first(1 if len(working) > 1 else PASS)) for card in answers]
        share, more = divmod(self._beside(len(answers)) if answers else PASS, len(prompts) or 1)
        for i, card in enumerate(prompts):
            if most := share + (i < more):
                chosen.append((card, card.asked.first(most)))
        tokens = sum(len(asked.tokens) for _, asked in chosen)
        self._pass = len(answers), tokens - len(answers)
        return chosen

    def took(self, seconds: float) -> None:
        """The pass that `of` chose last."""
        answers, tokens = self._pass
        if tokens == 0:
            before = self._own.get(answers, seconds)
            self._own[answers] = before + SMOOTH * (seconds - before)
            self._age[answers] = 0
        elif answers in self._own:
            self._age[answers] += 1
            each = max(seconds - self._own[answers], 0.0) / tokens
            self._each += (SMOOTH if self._each else 1) * (each - self._each)

    def _beside(self, answers: int) -> int:
        """Tokens of prompts beside so many answers; 0 where these have to be measured alone."""
        if self._age.get(answers, FRESH) >= FRESH:
            return 0
        fit = PASS if self._each <= 0 else int((LONGEST - 1) * self._own[answers] / self._each)
        self._room = max(1, min(fit, 2 * self._room, PASS))
        return self._room
