"""The command lines in README.md and on the pages of docs/, as somebody can run them.

A line of a code block that begins with one of STARTS is a command, and so is text between
backticks that begins with the name of one of our commands. Words in capitals stand for something
of the reader's: SAMPLES says what. What stands in [brackets] may be left out.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PYTHON = ".venv/bin/python"
STARTS = (PYTHON, "python ", "make ", "hardwired-llama ", "pipx ", "curl ", "llm ")
BLOCK = re.compile(r"^ {4}(\S(?:.*\\\n)*.*)$", re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
PLACEHOLDER = re.compile(r"\b[A-Z]+\b")
SAMPLES = {  # of a placeholder, or of one after an option
    "--text FILE": "weights/calibration.txt",
    "--chip FILE": "emulator/silicon/hc1.toml",
    "--trace FILE": "tests/fuzz/corpus/trace/azure",
    "CHECKPOINT": "smollm2-135m",
    "IMAGE": "smollm2-135m",
    "PROMPT": "Hello",
    "KIND": "stuck0",
    "LEVEL": "fast",
    "NAME": "rope",
    "FOLDER": "build/docs",
    "FILE": "build/docs/out.json",
    "FILE.svg": "build/docs/out.svg",
    "DIR": "build/docs/folder",
    "PATH": "build/docs/file",
    "IDS": "1,2,3",
    "R": "1e-4",
    "B": "4.0",
    "F": "free",
    "N": "2",
}


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """A command, and the page that it is printed on."""

    page: str
    text: str
    block: bool  # stands in a code block, not in a sentence

    @property
    def words(self) -> list[str]:
        """As the shell splits it, with samples for placeholders and all optional parts."""
        text = re.sub(r"[\[\]]", "", self.text).replace("|layer", "").replace(",R,..", "")
        for what, sample in SAMPLES.items():
            text = re.sub(rf"(?<![\w-]){re.escape(what)}(?![\w.])", _option(what) + sample, text)
        try:
            return shlex.split(text, comments=True)
        except ValueError:  # a quotation over several lines, such as curl's
            return text.split()

    @property
    def ours(self) -> list[str] | None:
        """The words after `python -m emulator` or its script, or None for another program."""
        words = self.words
        if words[0] == "hardwired-llama":
            return words[1:]
        head = [PYTHON, "-m", "emulator"]
        return words[3:] if words[:3] in (head, ["python", *head[1:]]) else None


def command_lines(commands: set[str]) -> Iterator[Line]:
    """Every command line; `commands` are the names of ours, which a page may print alone."""
    for path in PAGES:
        text, page = path.read_text("utf-8"), path.relative_to(ROOT).as_posix()
        for block in BLOCK.finditer(text):
            line = re.sub(r"\\\n\s*", "", block[1])
            if line.startswith(STARTS):
                yield Line(page, line, True)
        for inline in INLINE.finditer(text):
            name, _, rest = inline[1].partition(" ")
            if inline[1].startswith(("python -m emulator ", "make ")):
                yield Line(page, inline[1], False)
            elif name in commands and rest:
                yield Line(page, f"python -m emulator {inline[1]}", False)


def _option(what: str) -> str:
    """ "--text " of "--text FILE"."""
    return what.rpartition(" ")[0] + " " if " " in what else ""
