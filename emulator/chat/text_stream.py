"""Tokens to text as it is said: whole characters only, and nothing of a stop text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"  # what a decoder makes of the first bytes of a character


class TextStream:
    """The text of an answer, token by token; what was handed out is never taken back."""

    def __init__(self, decode: Callable[[list[int]], str], stops: Sequence[str] = ()) -> None:
        self.text = ""  # all that was handed out
        self.stopped = False  # a stop text came; it and what follows are left out
        self._decode = decode
        self._stops = tuple(stops)
        self._ids: list[int] = []  # tokens that end inside a character
        self._held = ""  # the beginning of a stop text, perhaps

    @property
    def holding(self) -> bool:
        """Whether something was fed that is not handed out yet."""
        return bool(self._ids or self._held)

    def feed(self, token: int) -> str:
        """What can be shown now that `token` came; often nothing yet."""
        self._ids.append(token)
        fresh = self._decode(self._ids)
        if fresh.endswith(UNFINISHED):
            return ""
        self._ids = []
        return self._hand_out(fresh)

    def finish(self) -> str:
        """What is left when no token follows."""
        shown = self._hand_out(self._decode(self._ids))
        held = "" if self.stopped else self._held
        self._ids, self._held = [], ""
        self.text += held
        return shown + held

    def _hand_out(self, fresh: str) -> str:
        """The part of held and fresh text that no stop text can claim any more.

        Character by character, so that the split of a text into tokens does not matter.
        """
        shown = ""
        for character in fresh:
            if self.stopped:
                break
            self._held += character
            whole = [stop for stop in self._stops if self._held.endswith(stop)]
            if whole:
                self.stopped = True
                shown += self._held[: -max(map(len, whole))]
            else:
                keep = self._claimed()
                shown += self._held[: len(self._held) - keep]
                self._held = self._held[len(self._held) - keep :]
        self.text += shown
        return shown

    def _claimed(self) -> int:
        """Length of the longest end of the held text that begins a stop text."""
        return max(
            (
                n
                for stop in self._stops
                for n in range(1, len(stop))
                if self._held.endswith(stop[:n])
            ),
            default=0,
        )
