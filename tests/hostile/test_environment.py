"""Homes, streams and variables as they should not be: an answer, or one line and status 2."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.paths import ROOT

NO_HOME = (  # as for a user without an entry, in a container with any uid
    "import pathlib, runpy\n"
    "def home(): raise RuntimeError('Could not determine home directory.')\n"
    "pathlib.Path.home = home\n"
)
BACK, FORWARD = (f"import time\nt = time.time\ntime.time = lambda: t() {d} 86400\n" for d in "-+")


def emulator(*words: object, before: str = "", shell: str = "", **more: object):
    """The command in a process of its own; `shell` is what a shell appends, as `>/dev/full`."""
    program = f"{before}\nimport runpy; runpy.run_module('emulator', run_name='__main__')"
    command = [sys.executable, "-c", program, *map(str, words)]
    environment = {**os.environ, **more.pop("environment", {})}
    if shell:
        command = ["sh", "-c", f'exec "$0" "$@" {shell}', *command]
    options = {"capture_output": True, "text": True, "cwd": ROOT, "timeout": 120, **more}
    return subprocess.run(command, env=environment, check=False, **options)


def one_line(done, *words: str, status: int = 2) -> None:
    """Status 2 and one line of ours, never a traceback."""
    assert done.returncode == status, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line


@pytest.fixture(scope="module")
def image(tiny_checkpoint) -> Path:
    return tiny_checkpoint.with_name("image")


def test_without_a_home_the_variable_counts(image, tmp_path):
    environment = {"HARDWIRED_HOME": str(tmp_path), "XDG_CACHE_HOME": ""}
    done = emulator("models", before=NO_HOME, environment=environment)
    assert done.returncode == 0, done.stderr
    environment["HARDWIRED_HOME"] = ""
    one_line(emulator("models", before=NO_HOME, environment=environment), "HARDWIRED_HOME")


STREAMS = {
    "output to a full device": (["info"], "", ">/dev/full", 2),
    "JSON to a full device": (["info", "--json"], "", ">/dev/full", 2),
    "no output": (["info"], "", ">&-", 0),
    "no errors": (["info"], "", "2>&-", 0),
    "no input": (["info"], "", "<&-", 0),
    "none of the three": (["info"], "", "<&- >&- 2>&-", 0),
}


@pytest.mark.parametrize("name", STREAMS)
def test_streams(image, name):
    words, before, shell, status = STREAMS[name]
    done = emulator(words[0], image, *words[1:], before=before, shell=shell)
    assert done.returncode == status, done.stderr
    if status:
        one_line(done, "No space left on device")


def test_a_chat_without_input_ends(image):
    done = emulator("chat", "--image", image, "--max-tokens", 2, shell="<&-")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_a_narrow_terminal_sees_escapes(image):
    """The tiny model says bytes that ASCII has no letters for."""
    narrow = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    options = ["--image", image, "--max-tokens", 8]
    done = emulator("run", "é", *options, environment=narrow)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()


@pytest.mark.parametrize("threads", ["0", "-1", "1.5", "many", "", "٣"])
def test_numbers_of_threads(threads):
    """Before numba is imported, so it takes no time."""
    done = emulator("models", environment={"NUMBA_NUM_THREADS": threads})
    one_line(done, "NUMBA_NUM_THREADS must be a whole number from 1")


@pytest.mark.slow
@pytest.mark.parametrize("clock", [BACK, FORWARD], ids=["back", "forward"])
def test_a_clock_that_is_a_day_off(image, clock):
    done = emulator("run", "hi", "--image", image, "--max-tokens", 2, before=clock)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_second_interrupt_says_nothing(image):
    """While the program ends after the first."""
    program = (
        "import atexit, time, runpy\n"
        "atexit.register(lambda: (print('ending', flush=True), time.sleep(60)))\n"
        "import emulator.commands.info as info\n"
        "def interrupted(args): raise KeyboardInterrupt\n"
        "info._info = interrupted\n"
        f"import sys; sys.argv = ['emulator', 'info', {str(image)!r}]\n"
        "runpy.run_module('emulator', run_name='__main__')\n"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, **pipes)
    assert process.stdout.readline() == "ending\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == -signal.SIGINT
    assert process.stderr.read() == ""


@pytest.mark.slow
def test_no_memory_left(image):
    before = "import emulator.chip as c\ndef none(*a): raise MemoryError\nc.check_fits = none"
    words = ["run", "hi", "--image", image, "--max-tokens", 2]
    one_line(emulator(*words, before=before), "no memory left")


@pytest.mark.slow
def test_a_read_only_image_and_home(image, tmp_path):
    """Nothing of what is read needs to be written to."""
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o500)
    done = emulator("info", image, environment={"HARDWIRED_HOME": str(home)})
    home.chmod(0o700)
    assert done.returncode == 0, done.stderr
    assert list(home.iterdir()) == []


@pytest.mark.slow
def test_a_fifo_and_an_endless_device(image, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    begin = time.monotonic()
    for path in (fifo, "/dev/zero", tmp_path):
        one_line(emulator("eval", "--image", image, "--text", path), "cannot be read")
    assert time.monotonic() - begin < 60
