"""A small hub on the loopback, which huggingface_hub itself talks to (HF_ENDPOINT).

It knows what the library asks for: a repository's files at a revision, a redirect from each large
file to where its bytes lie, ETags, ranges; and it can be gated, cut connections, or lie.
"""

from __future__ import annotations

import hashlib
import json
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from safetensors.numpy import load_file, save_file

from tests.support.tiny_model import write_tiny_checkpoint

REPOSITORY = "someone/Tiny-Llama"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PIECE_BYTES = 1 << 16  # of what is sent at once


def tiny_repository(folder: Path) -> Path:
    """A tiny checkpoint in two shards with an index, and files that nobody needs."""
    write_tiny_checkpoint(folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    where = {}
    for i in range(2):
        name = f"model-0000{i + 1}-of-00002.safetensors"
        part = {key: tensors[key] for key in sorted(tensors)[i::2]}
        save_file(part, folder / name)
        where |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    (folder / "generation_config.json").write_text('{"eos_token_id": [257, 9]}')
    (folder / "README.md").write_text("# Tiny")
    (folder / "consolidated.safetensors").write_bytes(b"another layout")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    return folder


def longer(shard: bytes, count: int, spare: str) -> bytes:
    """A safetensors file with one more tensor, of `count` zeros, which no model reads."""
    length = struct.unpack("<Q", shard[:8])[0]
    header, data = json.loads(shard[8 : 8 + length]), shard[8 + length :]
    offsets = [len(data), len(data) + count]
    header[spare] = {"dtype": "U8", "shape": [count], "data_offsets": offsets}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data + bytes(count)


class LocalHub(ThreadingHTTPServer):
    """One repository with the files of a folder; safetensors are large files."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        self.token = ""  # gated: without it nothing but the list of files is given
        self.cuts = 0  # answers with large files that end after half of what was asked
        self.lies = False  # a byte of each large file is another one
        self.sick = 0  # status of every answer, if not 0
        self.claimed_bytes = 0  # size of every large file, if not 0
        self.pause_s = 0.0  # after every piece of a file
        self.requests: list[tuple[str, str, str]] = []  # method, path, range

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def needed(self) -> dict[str, bytes]:
        """The files that a compile reads."""
        beginnings = ("model", "config", "tok", "gen")
        return {name: data for name, data in self.files.items() if name.startswith(beginnings)}

    def fetched(self) -> set[str]:
        """Names of the files whose bytes were asked for."""
        parts = [path.split("/") for method, path, _ in self.requests if method == "GET"]
        return {p[-1] for p in parts if (len(p) > 3 and "resolve" in p) or p[1] == "large"}


@contextmanager
def local_hub(folder: Path) -> Iterator[LocalHub]:
    """The hub at work, in a thread."""
    hub = LocalHub(folder)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: LocalHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        self.server.requests.append((self.command, path, self.headers.get("Range", "")))
        api = f"/api/models/{REPOSITORY}/revision/"
        if self.server.sick:
            self._send(self.server.sick, {}, b"")
        elif path.startswith(api):
            self._known(path.removeprefix(api)) and self._list()
        elif path.startswith("/large/"):
            self._large(path.removeprefix("/large/"))
        elif path.startswith(f"/{REPOSITORY}/resolve/"):
            revision, _, name = path.removeprefix(f"/{REPOSITORY}/resolve/").partition("/")
            self._known(revision) and self._resolve(name)
        else:
            self._send(404, {"X-Error-Code": "RepoNotFound"}, b"")

    def _known(self, revision: str) -> bool:
        if revision in ("main", COMMIT):
            return True
        self._send(404, {"X-Error-Code": "RevisionNotFound"}, b"")
        return False

    def _list(self) -> None:
        siblings = []
        for name, data in self.server.files.items():
            size = len(data)
            entry = {"rfilename": name, "size": size, "blobId": sha256(data)[:40]}
            if name.endswith(".safetensors"):
                entry["size"] = size = self.server.claimed_bytes or size
                entry["lfs"] = {"sha256": sha256(data), "size": size, "pointerSize": 134}
            siblings.append(entry)
        model = {"id": REPOSITORY, "sha": COMMIT, "siblings": siblings, "tags": []}
        model["cardData"] = {"license": "llama3.1"}
        self._send(200, {"Content-Type": "application/json"}, json.dumps(model).encode())

    def _resolve(self, name: str) -> None:
        token = self.server.token
        if token and self.headers.get("Authorization") != f"Bearer {token}":
            status = 403 if self.headers.get("Authorization") else 401
            self._send(status, {"X-Error-Code": "GatedRepo"}, b"")
            return
        data = self.server.files.get(name)
        if data is None:
            self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b"")
            return
        digest = sha256(data)
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{digest[:40]}"'}
        if not name.endswith(".safetensors"):
            self._send(200, headers, data)
            return
        headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))}
        elsewhere = f"http://localhost:{self.server.server_port}"  # another host, to a client
        headers["Location"] = f"{elsewhere}/large/{name}"
        self._send(302, headers, b"")

    def _large(self, name: str) -> None:
        data = self.server.files[name]
        if self.server.lies:
            data = data[:-1] + bytes([data[-1] ^ 1])
        asked, whole = self.headers.get("Range", ""), len(data)
        headers = {"Accept-Ranges": "bytes", "ETag": f'"{sha256(data)}"'}
        begin = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        if asked:
            headers["Content-Range"] = f"bytes {begin}-{whole - 1}/{whole}"
        part = data[begin:]
        if self.server.cuts and self.command == "GET":
            self.server.cuts -= 1
            self._send(206 if asked else 200, headers, part, len(part) // 2)
            self.close_connection = True
            return
        self._send(206 if asked else 200, headers, part)

    def _send(
        self, status: int, headers: dict[str, str], data: bytes, most: int | None = None
    ) -> None:
        """`data` in full, or only the first `most` bytes of it under the length of all."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            part = data[:most]
            for begin in range(0, len(part), PIECE_BYTES):
                self.wfile.write(part[begin : begin + PIECE_BYTES])
                time.sleep(self.server.pause_s)
