"""Notice that an answer goes round in circles, as greedy answers of small models do."""

from __future__ import annotations

from dataclasses import dataclass, field

LONGEST = 64  # tokens of a phrase
TIMES = 3  # that a phrase is said in a row
LEAST = 24  # tokens that repeat what was said; "ha ha ha" is no loop


@dataclass(slots=True)
class RepeatGuard:
    """Tells when the last tokens say one phrase for the third time, a short one more often."""

    _tokens: list[int] = field(default_factory=list)
    # _run[n]: how many of the last tokens are each the one n tokens before.
    _run: list[int] = field(default_factory=lambda: [0] * (LONGEST + 1))

    def looped(self, token: int) -> bool:
        """Take the next token; whether it closes a loop."""
        self._tokens.append(token)
        closed = False
        for length in range(1, min(LONGEST, len(self._tokens) - 1) + 1):
            same = self._tokens[-1 - length] == token
            self._run[length] = self._run[length] + 1 if same else 0
            closed |= self._run[length] >= max((TIMES - 1) * length, LEAST)
        return closed
