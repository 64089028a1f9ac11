"""An answer as its parts: text, or a call of one of the client's functions."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import replace

from emulator.chat.tools import Call, CallForm
from emulator.serve.jobs import Piece
from emulator.serve.service import Choice


def call_in(text: str, form: CallForm | None) -> Call | None:
    """The call that an answer is, with an id of its own; None for text, or half a call."""
    call = form.read(text.lstrip()) if form is not None else None
    return None if call is None else replace(call, id=f"call_{secrets.token_hex(12)}")


async def parts(choice: Choice, form: CallForm | None) -> AsyncIterator[Piece | Call | None]:
    """Yield an answer's pieces as they come, and None while waiting.

    Text that may be the beginning of a call is held back; a call comes as one part, at its end.
    """
    held: list[Piece] | None = None if form is None else []
    async for piece in choice.pieces():
        if piece is None or held is None or form is None:
            yield piece
            continue
        held.append(piece)
        if not _may_be_call("".join(one.text for one in held), form):
            for one in held:
                yield one
            held = None
    if held:
        call = call_in("".join(one.text for one in held), form)
        if call is not None:
            yield call
        else:
            for one in held:
                yield one


def _may_be_call(text: str, form: CallForm) -> bool:
    begun = text.lstrip()
    return begun.startswith(form.mark) or form.mark.startswith(begun)
