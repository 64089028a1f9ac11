"""A server as a user starts it: a process of its own, on a tiny image, asked over a real socket."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT
from tests.support.tiny_model import TINY_MIX, write_tiny_checkpoint
from weights.compile import CompileOptions, compile_image
from weights.mix import Mix
from weights.safetensors_source import SafetensorsCheckpoint

httpx = pytest.importorskip("httpx")
pytest.importorskip("llguidance")

CONTEXT = 256
MESSAGES = [{"role": "user", "content": "hi"}]


def compile_served(
    folder: Path,
    end_ids: int | list[int] = 257,
    tokenizer_json: str | None = None,
    context: int = CONTEXT,
    chat_template: str | None = None,
) -> Path:
    """The tiny model with room for a conversation."""
    checkpoint = write_tiny_checkpoint(folder / "checkpoint")
    if tokenizer_json is not None:
        (checkpoint / "tokenizer.json").write_text(tokenizer_json)
    if chat_template is not None:
        (checkpoint / "chat_template.jinja").write_text(chat_template)
    config = json.loads((checkpoint / "config.json").read_text())
    changed = {"eos_token_id": end_ids, "max_position_embeddings": context}
    (checkpoint / "config.json").write_text(json.dumps(config | changed))
    image = folder / "tiny"
    options = CompileOptions(Mix.parse(TINY_MIX), context=context)
    compile_image(SafetensorsCheckpoint(checkpoint), image, options)
    return image


class Server:
    """A running server and what it has logged. `before` is Python that runs in it first."""

    def __init__(self, image: Path, *options: str, before: str = "") -> None:
        program = f"{before}\nimport runpy; runpy.run_module('emulator', run_name='__main__')"
        arguments = ["serve", "--image", str(image), "--port", "0", *options]
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self.process.stderr is not None
        first = self.process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", first)
        if not found:
            self.process.kill()
            raise AssertionError(first + self.process.stderr.read())
        self.port = int(found[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        limits = httpx.Limits(keepalive_expiry=25)  # below the server's own 30 s
        self.http = httpx.Client(base_url=self.url, timeout=60, limits=limits)
        try:
            assert self.get("/health").json()["status"] == "ok"
        except BaseException:
            self.stop()  # nobody else will: the caller gets no server
            raise

    def _read(self) -> None:
        self.lines += iter(self.process.stderr.readline, "")

    def get(self, path: str, **more: Any) -> Any:
        return self.http.get(path, **more)

    def post(self, path: str, body: Any, **more: Any) -> Any:
        return self.http.post(path, json=body, **more)

    def chat(self, **fields: Any) -> dict[str, Any]:
        """A chat completion that succeeds."""
        reply = self.post("/v1/chat/completions", {"messages": MESSAGES, **fields})
        assert reply.status_code == 200, reply.text
        return reply.json()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def log(self) -> list[dict[str, Any]]:
        """The request log so far."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    def metric(self, name: str) -> float:
        """One sample of /metrics, by name and labels."""
        for line in self.get("/metrics").text.splitlines():
            if line.startswith(f"hardwired_{name} "):
                return float(line.split()[-1])
        return 0.0

    def files(self) -> int:
        """Open files, connections among them (Linux)."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def memory(self) -> int:
        """Resident bytes (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) << 10

    def stop(self) -> int:
        """Ask it to end; its exit status."""
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            self._reader.join(5)


def until(happened: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that the server does in its own time."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


@contextmanager
def serving(image: Path, *options: str, before: str = "") -> Iterator[Server]:
    server = Server(image, *options, before=before)
    try:
        yield server
    finally:
        server.stop()


def head(path: str, length: int | str) -> bytes:
    """The head of a POST request whose body is said to have this length."""
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()
