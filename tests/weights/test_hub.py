"""The hub's own client against a small hub on the loopback: downloads, and every way to fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernels.host import cache
from tests.support.local_hub import (
    COMMIT,
    REPOSITORY,
    LocalHub,
    local_hub,
    longer,
    sha256,
    tiny_repository,
)
from tests.support.paths import ROOT
from weights.hub import KNOWN, Repository

FETCH = (
    "import json, sys\n"
    "from emulator.errors import EmulatorError\n"
    "from weights.hub import Repository, fetch\n"
    "try:\n"
    "    source = fetch(Repository.named(sys.argv[1]))\n"
    "    print(json.dumps([source.digest, str(source.folder), source.provenance().files]))\n"
    "except EmulatorError as error:\n"
    "    sys.exit(f'error: {error}')\n"
)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    with local_hub(tiny_repository(tmp_path / "repository")) as hub:
        yield hub


class Client:
    """A process of ours with the hub's variables, and a cache of its own."""

    def __init__(self, hub: LocalHub, folder: Path) -> None:
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("HF_")},
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(folder / "hf"),
            "HARDWIRED_HOME": str(folder / "home"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NUMBA_CACHE_DIR": str(cache.folder().parent),
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def fetch(self, name: str = REPOSITORY, **variables: str) -> tuple[str, Path, list]:
        done = self.run("-c", FETCH, name, **variables)
        assert done.returncode == 0, done.stderr
        digest, folder, files = json.loads(done.stdout)
        return digest, Path(folder), files

    def refused(self, name: str = REPOSITORY, **variables: str) -> str:
        """The line that the failure says."""
        done = self.run("-c", FETCH, name, **variables)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        return done.stderr.splitlines()[-1].removeprefix("error: ")


@pytest.fixture
def client(hub: LocalHub, tmp_path: Path) -> Client:
    return Client(hub, tmp_path)


def test_names():
    """Short names and owner/repo, each with a revision; nothing else is a repository."""
    assert Repository.named("llama-3.1-8b") == Repository("meta-llama/Llama-3.1-8B-Instruct")
    assert Repository.named("llama-3.1-8b@0e9e39f") == Repository(KNOWN["llama-3.1-8b"], "0e9e39f")
    assert Repository.named("a/b@refs/pr/1") == Repository("a/b", "refs/pr/1")
    for text in ("a", "a/b/c", "/b", "a/", "../b", "./b", "a/..", "a b/c", "a/b\n", ""):
        assert Repository.named(text) is None


def test_only_what_is_needed_is_fetched(hub: LocalHub, client: Client):
    """The large files by way of a redirect; the same bytes; a second time none at all."""
    digest, folder, files = client.fetch()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == hub.needed()
    assert hub.fetched() == set(hub.needed())
    assert [name for name, _, _ in files] == sorted(n for n in hub.needed() if "-of-" in n)
    hub.requests.clear()
    assert client.fetch() == (digest, folder, files)
    assert hub.fetched() == set()


def test_the_tokenizer_comes_last(hub: LocalHub, client: Client):
    """However the hub orders its files: a cache that lacks it does not count as whole."""
    hub.files = dict(reversed(hub.files.items()))
    client.fetch()
    assert [path for method, path, _ in hub.requests if method == "GET"][-1].endswith(
        "tokenizer.json"
    )


@pytest.mark.parametrize("name", [REPOSITORY, f"{REPOSITORY}@{COMMIT}"])
def test_without_the_network_the_cache_serves(hub: LocalHub, client: Client, name):
    """HF_HUB_OFFLINE, a hub that cannot be reached, and one that is sick."""
    found = client.fetch(name)
    asked = len(hub.requests)
    assert client.fetch(name, HF_HUB_OFFLINE="1") == found
    assert client.fetch(name, HF_ENDPOINT="http://127.0.0.1:9") == found
    assert len(hub.requests) == asked
    hub.sick = 503
    assert client.fetch(name) == found


@pytest.mark.parametrize("cuts", [1, 2])
def test_a_cut_connection_goes_on(hub: LocalHub, client: Client, cuts):
    """The library keeps whole pieces of 10 MiB and asks for the rest, by range."""
    index = json.loads(hub.files["model.safetensors.index.json"])
    for name in hub.files:
        if "-of-" in name:
            hub.files[name] = longer(hub.files[name], 48 << 20, f"spare of {name}")
            index["weight_map"][f"spare of {name}"] = name
    hub.files["model.safetensors.index.json"] = json.dumps(index).encode()
    hub.cuts = cuts
    _, folder, _ = client.fetch()
    assert all((folder / name).read_bytes() == hub.files[name] for name in hub.fetched())
    ranges = [asked for _, _, asked in hub.requests if asked]
    assert len(ranges) == cuts
    assert "bytes=0-" not in ranges


def test_a_lie_about_a_hash(hub: LocalHub, client: Client):
    """Sizes agree, so the library is content; the hash is compared when the file is read."""
    hub.lies = True
    message = client.refused()
    assert message.startswith("model-00001-of-00002.safetensors: its SHA-256 is not the one that")
    blob = Path(message.split("delete ")[1].split(" and run")[0])
    assert blob.is_file()
    hub.lies = False
    for path in blob.parent.iterdir():
        path.unlink()
    client.fetch()
    hub.lies = True
    assert client.fetch(HF_HUB_OFFLINE="1")


def test_a_lie_is_found_offline_too(hub: LocalHub, client: Client):
    """The cache's own names state the hashes."""
    _, folder, _ = client.fetch()
    blob = (folder / "model-00002-of-00002.safetensors").resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"\1")
    assert "model-00002-of-00002.safetensors: its SHA-256" in client.refused(HF_HUB_OFFLINE="1")


FAILURES = {
    "gated, no token": ({"token": "hf_x"}, {}, REPOSITORY, "gated: accept its licence at .*"
        f"/{REPOSITORY}, then log in with `hf auth login`, or set HF_TOKEN$"),
    "gated, not granted": ({"token": "hf_x"}, {"HF_TOKEN": "hf_y"}, REPOSITORY,
        "gated: accept its licence at .*, then wait until it is granted"),
    "wrong id": ({}, {}, "someone/Else", "no such repository at .*; check the name, or set HF_TOK"),
    "wrong revision": ({}, {}, f"{REPOSITORY}@v9", "no revision 'v9'; see .*/commits/main"),
    "no network": ({}, {"HF_ENDPOINT": "http://127.0.0.1:9"}, REPOSITORY,
        "no connection to http://127.0.0.1:9; check the network, then run the same command again"),
    "offline, not cached": ({}, {"HF_HUB_OFFLINE": "1"}, REPOSITORY,
        "HF_HUB_OFFLINE forbids the network; unset HF_HUB_OFFLINE"),
    "a sick hub": ({"sick": 500}, {}, REPOSITORY, "answered 500; wait a little, then run the same"),
    "a small disk": ({"claimed_bytes": 1 << 60}, {}, REPOSITORY, "GB free; make room, or set HF_H"),
    "cut again and again": ({"cuts": 1000}, {}, REPOSITORY,
        "the download broke off .*; run the same command again, which fetches only what is m"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_failures_say_what_to_do(hub: LocalHub, client: Client, name):
    import re

    faults, variables, repository, message = FAILURES[name]
    for fault, value in faults.items():
        setattr(hub, fault, value)
    said = client.refused(repository, **variables)
    assert said.startswith(repository.partition("@")[0])
    assert re.search(message, said), said


@pytest.mark.parametrize(
    ("missing", "message"),
    [("tokenizer.json", "has no tokenizer.json"), (".safetensors", "holds no safetensors")],
)
def test_a_repository_of_another_kind(hub: LocalHub, client: Client, missing, message):
    """Said before anything is fetched."""
    hub.files = {name: data for name, data in hub.files.items() if not name.endswith(missing)}
    assert message in client.refused()
    assert hub.fetched() == set()


def test_a_full_disk(hub: LocalHub, client: Client, monkeypatch):
    """The system's error, wherever in the library it arises."""
    import errno

    from weights.hub import explained

    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for error in (full, RuntimeError(f"Data processing error: {full}")):
        said = str(explained(error, Repository(REPOSITORY)))
        assert "is full; make room, or set HF_HOME to a folder with more; run the same" in said


def test_a_granted_token(hub: LocalHub, client: Client):
    hub.token = "hf_x"
    assert client.fetch(HF_TOKEN="hf_x")


def test_compile_chat_and_models_by_name(hub: LocalHub, client: Client):
    """Downloaded and compiled on first use, pinned; afterwards the hub is not asked again."""
    emulator, options = ("-m", "emulator"), ("--max-tokens", "2", "--json")
    first = client.run(*emulator, "run", "hi", "--model", REPOSITORY, *options)
    assert first.returncode == 0, first.stderr
    assert hub.requests
    hub.requests.clear()
    second = client.run(*emulator, "run", "hi", "--model", REPOSITORY, *options)
    one, two = json.loads(first.stdout), json.loads(second.stdout)
    assert one["token_ids"] == two["token_ids"]
    assert one["logits_sha256"] == two["logits_sha256"]
    assert hub.requests == []
    (image,) = Path(client.environment["HARDWIRED_HOME"]).glob("Tiny-Llama-*")
    checkpoint = json.loads((image / "rom.json").read_text())["checkpoint"]
    assert (checkpoint["repository"], checkpoint["commit"]) == (REPOSITORY, COMMIT)
    assert checkpoint["license"] == "llama3.1"
    assert checkpoint["files"] == [
        [name, len(data), sha256(data)] for name, data in hub.files.items() if "-of-" in name
    ]
    facts = json.loads(client.run(*emulator, "info", REPOSITORY, "--json").stdout)
    assert facts["notice"].startswith(
        "Built with Llama.\nLlama 3.1 is licensed under the Llama 3.1"
    )
    assert facts["hashes_checked"] == 6  # two layers, tables, tokenizer, notice, rom.json
    assert "Copyright (c) Meta Platforms" in client.run(*emulator, "info", image.name).stdout
    again = client.run(*emulator, "compile", f"{REPOSITORY}@{COMMIT}", "--json")
    assert json.loads(again.stdout)["image"] == str(image)
    assert json.loads(again.stdout)["reused"]


def test_a_lie_leaves_no_image(hub: LocalHub, client: Client):
    hub.lies = True
    said = client.run("-m", "emulator", "compile", REPOSITORY, "--quantiser", "fast")
    assert said.returncode == 2
    assert "its SHA-256 is not the one that the hub states" in said.stderr.splitlines()[-1]
    assert list(Path(client.environment["HARDWIRED_HOME"]).iterdir()) == []
