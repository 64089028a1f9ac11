"""Read the values of a parsed JSON object, each with a check of its type and range.

An error names the file and object, the key, and the expected value.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from emulator.errors import EmulatorError

PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}", re.ASCII)  # no folder, no ".."
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 60


def shown(value: Any) -> str:
    """The repr of an untrusted value, cut to a readable length for a message."""
    return _SHORT.repr(value)


def printable(text: str) -> str:
    """An untrusted text for a terminal, on one line: escapes for what moves the cursor."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def is_whole(value: Any) -> bool:
    """Whether the value is an int; True and 3.0 are not."""
    return type(value) is int


def is_real(value: Any) -> bool:
    """Whether a float can hold the number; not for NaN, infinity, True or False."""
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # an int beyond the largest float
        return False


@dataclass(frozen=True, slots=True)
class Fields:
    """One object of a file. Getters raise `error` for a value that is missing or does not fit."""

    where: str  # "folder/rom.json", "folder/rom.json: model"
    values: Mapping[str, Any]
    error: type[EmulatorError]

    def has(self, key: str) -> bool:
        """Whether the key is present and not null."""
        return self.values.get(key) is not None

    def whole(self, key: str, least: int, most: int) -> int:
        """A whole number from `least` to `most`."""
        expected = f"a whole number from {least} to {most}"
        return int(self._get(key, expected, lambda v: is_whole(v) and least <= v <= most))

    def wholes(self, key: str, least: int, most: int) -> tuple[int, ...]:
        """A list of whole numbers from `least` to `most`; one number alone counts as a list."""
        if isinstance(self.values.get(key), (list, tuple)):
            expected = f"whole numbers from {least} to {most}"
            return tuple(
                self._get(
                    key, expected, lambda v: all(is_whole(n) and least <= n <= most for n in v)
                )
            )
        return (self.whole(key, least, most),)

    def real(self, key: str, least: float, most: float) -> float:
        """A number from `least` to `most`, as a float."""
        expected = f"a number from {least:g} to {most:g}"
        return float(self._get(key, expected, lambda v: is_real(v) and least <= v <= most))

    def truth(self, key: str) -> bool:
        """true or false."""
        return bool(self._get(key, "true or false", lambda v: isinstance(v, bool)))

    def text(self, key: str) -> str:
        """A string."""
        return str(self._get(key, "text", lambda v: isinstance(v, str)))

    def texts(self, key: str) -> list[str]:
        """A list of strings."""
        return list(
            self._get(
                key,
                "a list of texts",
                lambda v: isinstance(v, list) and all(isinstance(t, str) for t in v),
            )
        )

    def file_name(self, key: str) -> str:
        """The plain name of a file in the same folder."""
        expected = "a plain file name"
        return str(
            self._get(key, expected, lambda v: isinstance(v, str) and bool(PLAIN_NAME.fullmatch(v)))
        )

    def object(self, key: str) -> Fields:
        """An object inside this one."""
        value = self._get(key, "an object", lambda v: isinstance(v, dict))
        return Fields(f"{self.where}: {key}", value, self.error)

    def objects(self, key: str) -> list[Fields]:
        """A list of objects."""
        values = self._get(
            key,
            "a list of objects",
            lambda v: isinstance(v, list) and all(isinstance(entry, dict) for entry in v),
        )
        return [Fields(f"{self.where}: {key}[{i}]", v, self.error) for i, v in enumerate(values)]

    def exactly(self, keys: set[str]) -> None:
        """Raise `error` unless the object has these keys and no others."""
        for key in sorted(keys - set(self.values)):
            raise self.error(f"{self.where} lacks {key!r}")
        for key in sorted(set(self.values) - keys):
            raise self.error(f"{self.where} has an unknown key {shown(key)}")

    def refuse(self, key: str, expected: str) -> NoReturn:
        """Raise `error`: `key` must be `expected`."""
        value = shown(self.values.get(key))
        raise self.error(f"{self.where}: {key} must be {expected}, not {value}")

    def _get(self, key: str, expected: str, fits: Callable[[Any], bool]) -> Any:
        if key not in self.values:
            raise self.error(f"{self.where} lacks {key!r}")
        value = self.values[key]
        if not fits(value):
            self.refuse(key, expected)
        return value


def parse_json(text: str | bytes) -> Any:
    """Parse JSON, but refuse an object with a duplicate key: two readers could disagree on it.

    Raises ValueError or RecursionError.
    """
    return json.loads(text, object_pairs_hook=_each_key_once)


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {shown(twice)} is there twice")
    return values


def read_object(path: Path, most_bytes: int, error: type[EmulatorError]) -> Fields:
    """Read the JSON object in a UTF-8 file of at most `most_bytes`. Raises `error`."""
    return object_in(path, read_bytes(path, most_bytes, error), error)


def read_bytes(path: Path, most_bytes: int, error: type[EmulatorError]) -> bytes:
    """Read a plain file of at most `most_bytes`. Raises `error`."""
    try:
        if not path.is_file():  # a folder, or a pipe that would never end
            raise error(f"{path}: cannot be read: no such file")
        if path.stat().st_size > most_bytes:
            raise error(f"{path}: larger than {most_bytes >> 20} MiB")
        return path.read_bytes()
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror}") from None


def object_in(path: Path, data: bytes, error: type[EmulatorError]) -> Fields:
    """Parse the JSON object in `data`, UTF-8 bytes read from `path`. Raises `error`."""
    try:
        values = parse_json(data.decode("utf-8"))
    except (ValueError, RecursionError) as problem:
        raise error(f"{path}: not JSON: {problem}") from None
    if not isinstance(values, dict):
        raise error(f"{path}: does not hold an object")
    return Fields(str(path), values, error)
