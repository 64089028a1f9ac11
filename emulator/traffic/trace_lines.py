"""The lines of a trace, plain or gzip, one at a time: a file of any size takes no more memory."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

from emulator.errors import UsageError
from emulator.fields import is_real, is_whole, shown

GZIP = b"\x1f\x8b"
LONGEST = 4 << 20  # bytes of a line; a request with all its token ids takes less than 0.2 MB
MOST_TOKENS = 1 << 31
MOST_NS = 1 << 62  # 146 years


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, text without its line break) of every line that is not blank.

    Raises UsageError, naming file and line, for what cannot be read or is no text.
    """
    try:
        if path.exists() and not path.is_file():  # a folder, or a pipe that would never end
            raise UsageError(f"{path}: cannot be read: no such file")
        with path.open("rb") as raw:
            packed = raw.read(2) == GZIP
            raw.seek(0)
            file = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw
            yield from _lines(path, io.BufferedReader(cast(io.RawIOBase, file), 1 << 16))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{path}: a damaged gzip: {error}") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None


def _lines(path: Path, file: io.BufferedReader) -> Iterator[tuple[int, str]]:
    number = 0
    while data := file.readline(LONGEST):
        number += 1
        if len(data) == LONGEST:
            raise UsageError(f"{path}, line {number}: longer than {LONGEST >> 20} MiB")
        try:
            text = data.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
        except UnicodeDecodeError:
            raise UsageError(f"{path}, line {number}: not UTF-8 text") from None
        if text.strip():
            yield number, text


class Row:
    """One row of a trace; every getter raises UsageError that names file, line and field."""

    __slots__ = ("_inside", "_path", "_values", "line")

    def __init__(self, path: Path, line: int, values: dict[str, object], inside: str = "") -> None:
        self._path, self.line, self._values, self._inside = path, line, values, inside

    def inside(self, place: str, values: dict[str, object]) -> Row:
        """An object that this row holds at `place`."""
        return Row(self._path, self.line, values, f"{place}.")

    def has(self, field: str) -> bool:
        return field in self._values

    def only(self, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
        """These fields and no others."""
        for field in required:
            if field not in self._values:
                self.refuse(field, "is missing")
        for field in self._values:
            if field not in required and field not in optional:
                self.refuse(field, "is unknown")

    def tokens(self, field: str, least: int = 1) -> int:
        """A whole number of tokens."""
        value = self._values.get(field)
        if not is_whole(value) or not least <= cast(int, value) < MOST_TOKENS:
            self.refuse(field, f"must be a whole number from {least}, not {shown(value)}")
        return cast(int, value)

    def time_ns(self, field: str, unit_ns: int) -> int:
        """A time that is not negative, in units of `unit_ns`."""
        value = self._values.get(field)
        if not is_real(value) or not 0 <= cast(float, value) * unit_ns < MOST_NS:
            self.refuse(field, f"must be a time that is not negative, not {shown(value)}")
        return round(cast(float, value) * unit_ns)

    def text(self, field: str) -> str:
        value = self._values.get(field)
        if not isinstance(value, str) or not value:
            self.refuse(field, f"must be a text, not {shown(value)}")
        return value

    def cell(self, field: str) -> str:
        """What stands there, a number too, as text."""
        return str(self._values.get(field, ""))

    def list_of(self, field: str, what: str) -> list[object]:
        value = self._values.get(field)
        if not isinstance(value, list):
            self.refuse(field, f"must be a list of {what}, not {shown(value)}")
        return cast("list[object]", value)

    def refuse(self, field: str, complaint: str) -> NoReturn:
        raise UsageError(
            f"{self._path}, line {self.line}, {self._inside}{shown_field(field)}: {complaint}"
        )


def shown_field(field: str) -> str:
    """A field's name for a message: as it is, unless it is long or holds odd characters."""
    plain = len(field) <= 60 and field.isprintable() and field.strip() == field and field
    return field if plain else shown(field)
