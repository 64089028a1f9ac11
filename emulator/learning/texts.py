"""What masks learn from: prose, code and the model's own words, as windows of tokens.

Prose is the calibration text. Code is this program's own sources, which every installation has.
The rest the model says itself: conversations from the bare head of a question, and what follows
the beginnings of the other two. All of it is there without a network, and none of it is a text
that this project measures with.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.chat.template import ChatFormat, Turns, chat_format
from emulator.errors import UsageError
from emulator.text import read_text
from weights.calibrate import DEFAULT_TEXT
from weights.checkpoint import Checkpoint
from weights.safetensors_file import SafetensorsFile

Windows = NDArray[np.int64]  # [windows, tokens]
HELD = 4  # windows of each kind, the last, that nothing is learned from
PASS = 192  # windows of each kind in a pass
PROGRAM = Path(__file__).parents[2]
SOURCES = ("emulator", "kernels", "weights")
DOCUMENTS = ("README.md", "docs/*.md")  # which a checkout has, and an installation has not
OWN = 192  # windows that the model says itself
BEGINNING = (4, 24)  # tokens of another text that it goes on from, from and to before
SEED = 5


@dataclass(frozen=True, slots=True)
class Texts:
    """Windows by kind, to learn from and to judge by."""

    learned: dict[str, Windows]
    held: dict[str, Windows]

    @classmethod
    def of(cls, kinds: dict[str, Windows]) -> Texts:
        kinds = {name: windows for name, windows in kinds.items() if len(windows) > HELD}
        return cls(
            {name: windows[:-HELD] for name, windows in kinds.items()},
            {name: windows[-HELD:] for name, windows in kinds.items()},
        )

    @property
    def digest(self) -> str:
        """SHA-256 of all tokens."""
        sums = hashlib.sha256()
        for part in (self.learned, self.held):
            for name in sorted(part):
                sums.update(f"{name} {part[name].shape} ".encode())
                sums.update(part[name].astype("<i8").tobytes())
        return sums.hexdigest()

    def order(self, seed: int) -> Windows:
        """A pass, [windows, tokens]: PASS windows of every kind, the kinds one after another.

        Each kind counts alike, however long its text: windows of a short one come several times,
        and of a long one others in the next pass.
        """
        random = np.random.default_rng(seed)
        kinds = []
        for name in sorted(self.learned):
            own = self.learned[name]
            rounds = [random.permutation(own) for _ in range(-(-PASS // len(own)))]
            kinds.append(np.concatenate(rounds)[:PASS])
        found: Windows = np.stack(kinds, 1).reshape(-1, kinds[0].shape[1])
        return found

    @property
    def windows(self) -> int:
        """How many a pass has."""
        return PASS * len(self.learned)


def texts_of(source: Checkpoint, own: Callable[[list[list[int]]], Windows], length: int) -> Texts:
    """The texts for a model. `own` makes windows of the model's words from their beginnings."""
    chat = chat_format(source.tokenizer_json, source.chat_style)
    kinds = {"prose": _windows(chat, read_text(DEFAULT_TEXT), length)}
    for name, files in (("code", _sources()), ("documents", _documents())):
        kinds[name] = _windows(chat, "".join(map(read_text, files)), length)
    prompts = _beginnings(np.concatenate([kinds["prose"], kinds["code"]]), OWN)
    if isinstance(chat, Turns):
        prompts[::2] = [[*chat.opening(None), *chat.head("user")]] * len(prompts[::2])
    kinds["own words"] = own(prompts)
    return Texts.of(kinds)


def _windows(chat: ChatFormat, text: str, length: int) -> Windows:
    ids = chat.encode(text)
    count = len(ids) // length
    return np.array(ids[: count * length], np.int64).reshape(count, length)


def _beginnings(windows: Windows, count: int) -> list[list[int]]:
    """A few tokens from anywhere in the windows."""
    random = np.random.default_rng(SEED)
    found = []
    for row, tokens in zip(
        random.integers(len(windows), size=count),
        random.integers(*BEGINNING, size=count),
        strict=True,
    ):
        at = random.integers(windows.shape[1] - tokens)
        found.append(windows[row, at : at + tokens].tolist())
    return found


def _sources() -> list[Path]:
    return [path for name in SOURCES for path in sorted((PROGRAM / name).rglob("*.py"))]


def _documents() -> list[Path]:
    return [path for pattern in DOCUMENTS for path in sorted(PROGRAM.glob(pattern))]


def save_texts(path: Path, texts: Texts) -> None:
    """Keep the texts for the next image of the same checkpoint. Raises UsageError."""
    parts = (("learned", texts.learned), ("held", texts.held))
    arrays = {
        f"{part}.{name}": np.ascontiguousarray(windows, np.int32)
        for part, kinds in parts
        for name, windows in kinds.items()
    }
    write_arrays(path, arrays)


def write_arrays(
    path: Path, arrays: dict[str, NDArray[Any]], about: dict[str, str] | None = None
) -> None:
    """Write a safetensors file under a temporary name, then rename it. Raises UsageError."""
    from safetensors.numpy import save_file

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(arrays, temporary, about)
        os.replace(temporary, path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)


def load_texts(path: Path) -> Texts | None:
    """Texts that were kept, if there are any. Raises UsageError for a damaged file."""
    if not path.exists():
        return None
    file, kinds = SafetensorsFile(path, UsageError), {}
    for part in ("learned", "held"):
        names = [name for name in file.names if name.startswith(part + ".")]
        kinds[part] = {n.partition(".")[2]: file.view(n).astype(np.int64) for n in names}
    return Texts(kinds["learned"], kinds["held"])
