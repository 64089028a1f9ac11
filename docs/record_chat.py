"""Record docs/chat.svg: a real chat on a terminal, its lines appearing as they came.

    PYTHONPATH=. python docs/record_chat.py [OUTPUT]

Starts `chat` on a pseudo-terminal, types the questions, and draws what came with rich. The picture
names no font of another host, and stands still where the reader wants no motion.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

OUTPUT = Path(__file__).with_name("chat.svg")
QUESTIONS = ("What is the capital of France?", "What is it famous for?")
COLUMNS, ROWS = 92, 40
PATIENCE_S = 600  # a first start compiles kernels and model
SHOWN_PAUSE_S = 0.9  # between lines, at most: a wait for the kernels is not shown
COMMAND = "python -m emulator chat --temperature 0"  # with a drawn seed each recording differs
PROMPT = b"> "
LINE_UP = "\x1b[1A"


def record(questions: tuple[str, ...]) -> list[tuple[float, bytes]]:
    """What the terminal got, as (seconds since the start, bytes). Raises TimeoutError."""
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, [sys.executable, *COMMAND.split()[1:]])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    begin, got, asked = time.monotonic(), [], 0
    whole = b""
    while True:
        if time.monotonic() - begin > PATIENCE_S:
            raise TimeoutError(f"no answer in {PATIENCE_S} s; so far: {whole[-500:]!r}")
        if not select.select([terminal], [], [], 0.3)[0]:  # quiet: it may wait for a question
            if whole.endswith(PROMPT):
                if asked == len(questions):
                    os.write(terminal, b"\x04")  # Ctrl+D ends the program
                    os.waitpid(process, 0)
                    return got
                os.write(terminal, questions[asked].encode() + b"\n")
                asked += 1
            continue
        data = os.read(terminal, 4096)
        got.append((time.monotonic() - begin, data))
        whole += data


def lines_of(got: list[tuple[float, bytes]]) -> list[tuple[float, str]]:
    """Finished lines with the time of their end; what a carriage return overwrote is left out."""
    lines, held = [], ""
    for seconds, data in got:
        held += data.decode("utf-8", "replace").replace("\r\n", "\n")
        *done, held = held.split("\n")
        for line in done:
            for _ in range(line.count(LINE_UP)):  # a bar that is drawn again over its last picture
                lines.pop()
            lines.append((seconds, _plain(line.split("\r")[-1])))
    return lines


def _plain(line: str) -> str:
    """Without control sequences other than colours."""
    return re.sub(r"\x1b\[[\d;?]*[A-Za-ln-z]", "", line)


def draw(lines: list[tuple[float, str]]) -> str:
    """An SVG in which every line appears in its turn."""
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    console.print(Text.from_ansi(f"\x1b[2m$\x1b[0m {COMMAND}"))
    appears = [0.0]
    now = last = 0.0
    for seconds, line in lines:
        text = Text.from_ansi(line)
        if line.startswith(PROMPT.decode()):
            text.stylize("bold")
        elif line.startswith("["):
            text.stylize("dim")
        console.print(text)
        now += min(seconds - last, SHOWN_PAUSE_S)
        last = seconds
        appears += [now] * len(text.wrap(console, COLUMNS))
    frame = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    frame = frame.replace("Fira Code", "ui-monospace, Menlo, Consolas")
    svg = console.export_svg(title="hardwired-llama", code_format=frame, unique_id="chat")
    return _animated(svg, appears)


def _animated(svg: str, appears: list[float]) -> str:
    motion = (
        "@media (prefers-reduced-motion: no-preference) { "
        ".late { animation: come 0.01s both } @keyframes come { from { opacity: 0 } } }"
    )
    svg = svg.replace("</style>", f"{motion}\n    </style>", 1)

    def late(text: re.Match[str]) -> str:
        delay = f"animation-delay:{appears[min(int(text['line']), len(appears) - 1)]:.2f}s"
        return f'<text class="late {text["colour"]}" style="{delay}" {text["rest"]}'

    pattern = r'<text class="(?P<colour>[^"]*)" (?P<rest>x=[^>]*url\(#chat-line-(?P<line>\d+)\)")'
    return re.sub(pattern, late, svg)


def main() -> None:
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    output.write_text(draw(lines_of(record(QUESTIONS))), "utf-8")
    print(output)


if __name__ == "__main__":
    main()
