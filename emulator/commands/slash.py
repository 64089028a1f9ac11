"""Slash words of the chat: a line that begins with "/" is for the program, never for the model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from emulator.commands.talk import Talk
from emulator.errors import UsageError


def obey(talk: Talk, line: str) -> bool:
    """Do what the line says; false if it ends the chat.

    Raises UsageError for a word that does not exist, or an argument outside its range.
    """
    word, _, argument = line.partition(" ")
    if word not in WORDS:
        close = get_close_matches(word, WORDS, n=1)
        hint = f"did you mean {close[0]}?" if close else "/help lists what there is"
        raise UsageError(f"no {word}: {hint} A space before the slash sends it to the model.")
    _, _, act = WORDS[word]
    return act(talk, argument.strip()) is not False


def _help(talk: Talk, argument: str) -> None:
    for word, (value, what, _) in WORDS.items():
        print(f"  {f'{word} {value}':<16}  {what}")
    print('  """               begins and ends a message of several lines')


def _bye(talk: Talk, argument: str) -> bool:
    return False


def _new(talk: Talk, argument: str) -> None:
    talk.restart()


def _system(talk: Talk, argument: str) -> None:
    if argument:
        talk.conversation.system = argument
        talk.restart()
        talk.tell("a new conversation begins, with this system prompt")
    else:
        talk.tell(f"system prompt: {talk.conversation.system or 'the usual one of the model'}")


def _seed(talk: Talk, argument: str) -> None:
    _change(talk, "seed", argument, int)


def _temperature(talk: Talk, argument: str) -> None:
    _change(talk, "temperature", argument, float)


def _top_k(talk: Talk, argument: str) -> None:
    _change(talk, "top_k", argument, int)


def _change(talk: Talk, name: str, argument: str, kind: Callable[[str], Any]) -> None:
    """Set one value of the sampler if one is given; say how tokens are picked."""
    if argument:
        try:
            changed = replace(talk.sampling, **{name: kind(argument)})
        except ValueError:
            word = f"/{name.replace('_', '-')}"
            raise UsageError(f"{word} {argument}: write a number, such as {word} 1") from None
        talk.sample(changed)
    talk.tell(str(talk.sampling))


def _cycles(talk: Talk, argument: str) -> None:
    talk.cycles = not talk.cycles
    if talk.cycles and talk.last is not None:
        talk.print_cycles(talk.last)
    state = "under each answer from now on" if talk.cycles else "no more"
    talk.tell(f"cycles by block {state}")


def _save(talk: Talk, argument: str) -> None:
    """As JSON if the name says so, else as Markdown."""
    if not argument:
        raise UsageError("/save where? Name a file, such as /save chat.md or /save chat.json")
    path = Path(argument).expanduser()
    if path.exists():
        raise UsageError(f"/save {path}: exists already; choose another name")
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        part.write_text(_as_json(talk) if path.suffix == ".json" else _as_markdown(talk), "utf-8")
        part.replace(path)
    except OSError as error:
        raise UsageError(f"/save {path}: cannot be written: {error.strerror}") from None
    talk.tell(f"{len(talk.said)} messages written to {path}")


def _as_json(talk: Talk) -> str:
    messages = [{"role": message.role, "content": message.text} for message in talk.said]
    report = {"schema": 1, "model": talk.title, "digest": talk.image.digest}
    return json.dumps(report | {"sampler": str(talk.sampling), "messages": messages}, indent=1)


def _as_markdown(talk: Talk) -> str:
    turns = [f"**{message.role}**\n\n{message.text}\n" for message in talk.said]
    return "\n".join([f"# {talk.title}\n\n{talk.sampling}\n", *turns])


WORDS: dict[str, tuple[str, str, Callable[[Talk, str], bool | None]]] = {
    "/help": ("", "this list", _help),
    "/new": ("", "a new conversation", _new),
    "/system": ("TEXT", "another system prompt, and a new conversation", _system),
    "/seed": ("N", "for the sampler: the same seed, the same text", _seed),
    "/temperature": ("T", "0 to 2; 0 is greedy", _temperature),
    "/top-k": ("K", "pick from the K best, 1 to 8; 1 is greedy", _top_k),
    "/cycles": ("", "cycles by block under each answer, or no more", _cycles),
    "/save": ("FILE", "write the conversation, as JSON or Markdown by the file's name", _save),
    "/bye": ("", "end the chat, as Ctrl+D does", _bye),
}
