"""Checkpoints of the Hugging Face hub: found, downloaded, pinned to one commit.

The library `huggingface_hub` downloads, and behaves as usual: HF_TOKEN, HF_HOME, HF_HUB_OFFLINE
and HF_ENDPOINT, progress bars, a cache of whole files. It checks only sizes. We pass on the SHA-256
that the hub states for every large file, and compare it when the file is read.
"""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.errors import CheckpointError
from emulator.fields import PLAIN_NAME
from weights.checkpoint import Origin
from weights.safetensors_source import INDEX, TEMPLATE, TOKENIZER_CONFIG, SafetensorsCheckpoint

KNOWN = {  # short name -> repository
    "llama-3.1-8b": "meta-llama/Llama-3.1-8B-Instruct",
    "llama-3.2-1b": "meta-llama/Llama-3.2-1B-Instruct",
    "llama-3.2-3b": "meta-llama/Llama-3.2-3B-Instruct",
    "smollm2-360m": "HuggingFaceTB/SmolLM2-360M-Instruct",
    "smollm2-1.7b": "HuggingFaceTB/SmolLM2-1.7B-Instruct",
    "tinyllama-1.1b": "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
}
LAST = "tokenizer.json"  # downloaded last: if the cache has it, the download is complete
NEEDED = ("config.json", LAST)
WANTED = (*NEEDED, "generation_config.json", INDEX, TOKENIZER_CONFIG, TEMPLATE)
SHARD = re.compile(r"model[A-Za-z0-9_.-]*\.safetensors", re.ASCII)  # not consolidated.safetensors
SHA256 = re.compile(r"[0-9a-f]{64}")
# Names, since the HTTP library below `huggingface_hub` depends on its version.
NO_CONNECTION = {"ConnectError", "ConnectTimeout", "ProxyError", "ConnectionError"}
AGAIN = "run the same command again, which fetches only what is missing"


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository and one of its revisions: a branch, a tag or a commit."""

    name: str  # "owner/repo"
    revision: str = "main"

    @classmethod
    def named(cls, text: str) -> Repository | None:
        """Parse a short name of KNOWN or "owner/repo", with an optional "@revision"; else None."""
        name, _, revision = text.partition("@")
        name = KNOWN.get(name, name)
        parts = name.split("/")
        if len(parts) != 2 or not all(PLAIN_NAME.fullmatch(part) for part in parts):
            return None
        return cls(name, revision or "main")

    def __str__(self) -> str:
        return self.name if self.revision == "main" else f"{self.name}@{self.revision}"


def fetch(repository: Repository) -> SafetensorsCheckpoint:
    """Open the repository's checkpoint; download what the hub's cache lacks of it.

    If the hub cannot be reached, an earlier complete download serves. Only what a compile reads is
    downloaded. Raises CheckpointError, with one line that says what to do.
    """
    try:
        return _download(repository)
    except CheckpointError:
        raise
    except Exception as error:  # errors of its HTTP library, which changes, have no common base
        if cached := downloaded(repository):
            return cached
        raise explained(error, repository) from None


def downloaded(repository: Repository) -> SafetensorsCheckpoint | None:
    """The repository's checkpoint in the hub's cache, or None if it is not complete there."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repository.name, NEEDED[0], revision=repository.revision)
    if not isinstance(path, str):
        return None
    folder = Path(path).parent
    if not all((folder / name).is_file() for name in NEEDED):
        return None
    # A snapshot links to blobs; the cache names the blob of a large file by its SHA-256.
    blobs = {file.name: file.resolve().name for file in folder.iterdir()}
    stated = {name: blob for name, blob in blobs.items() if SHA256.fullmatch(blob)}
    try:
        return SafetensorsCheckpoint(folder, Origin(repository.name, folder.name, "", stated))
    except CheckpointError:  # a shard is missing
        return None


def _download(repository: Repository) -> SafetensorsCheckpoint:
    from huggingface_hub import HfApi, hf_hub_download

    info = HfApi().model_info(
        repository.name, revision=repository.revision, files_metadata=True, timeout=30
    )
    files = {file.rfilename: file for file in info.siblings or []}
    _check_kind(repository, files)
    names = [name for name in files if name in WANTED or SHARD.fullmatch(name)]
    names.sort(key=lambda name: name == LAST)  # else as the hub orders them
    _check_room(repository, [files[name] for name in names], str(info.sha))
    # The first by branch, so that the cache learns the branch's commit; the others by commit.
    first = Path(hf_hub_download(repository.name, NEEDED[0], revision=repository.revision))
    if first.parent.name != info.sha:
        raise CheckpointError(f"{repository}: changed on the hub just now; run the command again")
    for name in names:
        hf_hub_download(repository.name, name, revision=info.sha)
    stated = {name: lfs.sha256 for name in names if (lfs := files[name].lfs) is not None}
    card = info.card_data
    licence = str((card.get("license") if card is not None else None) or "")
    origin = Origin(repository.name, str(info.sha), licence, stated)
    return SafetensorsCheckpoint(first.parent, origin)


def _check_kind(repository: Repository, files: dict[str, Any]) -> None:
    """Check, before a large download, for a configuration, a tokenizer and safetensors."""
    for name in NEEDED:
        if name not in files:
            raise CheckpointError(f"{repository}: has no {name}; choose a repository that has one")
    if not any(SHARD.fullmatch(name) for name in files):
        raise CheckpointError(
            f"{repository}: holds no safetensors; choose a repository with model.safetensors, or "
            "compile a GGUF file that you download yourself"
        )


def _check_room(repository: Repository, files: list[Any], commit: str) -> None:
    """Raise CheckpointError if the missing files are larger than the free disk."""
    from huggingface_hub import constants, try_to_load_from_cache

    missing = sum(
        file.size or 0
        for file in files
        if not isinstance(
            try_to_load_from_cache(repository.name, file.rfilename, revision=commit), str
        )
    )
    place = Path(constants.HF_HUB_CACHE)
    while not place.exists():
        place = place.parent
    if missing > (free := shutil.disk_usage(place).free):
        raise CheckpointError(
            f"{repository}: {missing / 1e9:.1f} GB to download, but {constants.HF_HUB_CACHE} has "
            f"{free / 1e9:.1f} GB free; make room, or set HF_HOME to a folder with more"
        )


def explained(error: Exception, repository: Repository) -> CheckpointError:
    """Turn an error of the hub's library into one line that says what to do next."""
    from huggingface_hub import constants, errors, get_token

    hub, page = constants.ENDPOINT, f"{constants.ENDPOINT}/{repository.name}"
    cache = constants.HF_HUB_CACHE
    chain = list(_causes(error))
    kinds = {kind.__name__ for e in chain for kind in type(e).__mro__}
    answers = [e.response for e in chain if isinstance(e, errors.HfHubHTTPError)]
    status = next((a.status_code for a in answers if a is not None), 0)
    if get_token() is None:
        granted = "log in with `hf auth login`, or set HF_TOKEN"
    else:
        granted = "wait until it is granted, with the account of your token (HF_TOKEN)"
    text = " ".join(str(error).split())[:200] or type(error).__name__
    reasons = (  # the first true one counts
        (
            _disk_is_full(chain),
            f"{cache} is full; make room, or set HF_HOME to a folder with more; {AGAIN}",
        ),
        (
            "OfflineModeIsEnabled" in kinds,
            f"not whole in {cache}, and HF_HUB_OFFLINE forbids the network; unset HF_HUB_OFFLINE, "
            "or set HF_HOME to where it is",
        ),
        (
            "GatedRepoError" in kinds or status == 403,
            f"gated: accept its licence at {page}, then {granted}",
        ),
        (
            "RevisionNotFoundError" in kinds,
            f"the repository has no revision {repository.revision!r}; see {page}/commits/main",
        ),
        (
            "RepositoryNotFoundError" in kinds or status == 401,
            f"no such repository at {hub}; check the name, or set HF_TOKEN if it is private",
        ),
        ("HFValidationError" in kinds, "not the name of a repository; write owner/repo"),
        (status > 0, f"{hub} answered {status}; wait a little, then {AGAIN}"),
        (
            bool(kinds & NO_CONNECTION),
            f"no connection to {hub}; check the network, then {AGAIN}",
        ),
        (True, f"the download broke off ({text}); {AGAIN}"),
    )
    return CheckpointError(f"{repository}: {next(said for holds, said in reasons if holds)}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _disk_is_full(chain: list[BaseException]) -> bool:
    """Whether the disk is full, by error number or by text: the Rust part gives only text."""
    full = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
    return any(
        (isinstance(e, OSError) and e.errno in full) or "No space left on device" in str(e)
        for e in chain
    )
