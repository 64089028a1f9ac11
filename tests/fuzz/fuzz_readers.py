"""Coverage-guided fuzzing of the readers: whatever the bytes, an EmulatorError or a value.

    python tests/fuzz/fuzz_readers.py READER [libFuzzer options] [corpus folders]

Needs `atheris`; `make fuzz` installs it and runs each reader for a bounded time. The committed
corpus (tests/fuzz/corpus/READER) is also run by the ordinary tests, without atheris.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus")
ROOT = Path(__file__).parents[2]


@cache
def _readers() -> dict[str, Callable[[Path], object]]:
    from emulator.chat.template import chat_format
    from emulator.config import from_hub_config
    from emulator.economics.constants import load_economics
    from emulator.errors import CheckpointError, EmulatorError
    from emulator.fields import read_object
    from emulator.silicon.spec import load_spec
    from emulator.timing.telemetry import read_records
    from emulator.traffic.traces import read_trace
    from weights.gguf_source import GgufCheckpoint
    from weights.rom_files import checked_files, read_manifest, sealed
    from weights.safetensors_file import SafetensorsFile

    def safetensors(path: Path) -> None:
        file = SafetensorsFile(path)
        for name in file.names:
            file.view(name).sum()

    def gguf(path: Path) -> None:
        source = GgufCheckpoint(path)
        assert source.config.layers > 0
        assert source.chat_style
        assert source.tokenizer_json

    def config(path: Path) -> None:
        from_hub_config(read_object(path, 1 << 20, CheckpointError).values, "config.json")

    def tokenizer(path: Path) -> None:
        text = json.dumps(read_object(path, 1 << 20, CheckpointError).values)
        chat_format(text, "plain").encode("a b")

    def manifest(path: Path) -> None:
        for name in ("tokenizer.json", "tables.safetensors"):
            (path.parent / name).touch()
        as_it_is = path.read_bytes()
        try:
            opened(path.parent, as_it_is)
        except EmulatorError as error:
            _must_be_one_line(str(error))
            opened(path.parent, sealed_anew(as_it_is))

    def opened(folder: Path, data: bytes) -> None:
        (folder / "rom.json").write_bytes(data)
        checked_files(folder, read_manifest(folder), check_hashes=False)

    def sealed_anew(data: bytes) -> bytes:
        """So that the checks behind the hash are reached too."""
        with contextlib.suppress(ValueError, RecursionError):
            if isinstance(values := json.loads(data), dict):
                return sealed(values)
        return data

    return {
        "safetensors": safetensors,
        "gguf": gguf,
        "config": config,
        "tokenizer": tokenizer,
        "manifest": manifest,
        "chip": load_spec,
        "records": read_records,
        "trace": read_trace,
        "economics": load_economics,
    }


NAMES = (
    *("safetensors", "gguf", "config", "tokenizer", "manifest", "chip", "records"),
    *("trace", "economics"),
)


def try_bytes(reader: str, data: bytes, folder: Path) -> bool:
    """Whether the reader took the bytes; only an EmulatorError may say no, in one line."""
    from emulator.errors import EmulatorError

    path = folder / "input"
    path.write_bytes(data)
    try:
        _readers()[reader](path)
    except EmulatorError as error:
        return bool(str(error)) and _must_be_one_line(str(error))
    return True


def _must_be_one_line(message: str) -> bool:
    assert "\n" not in message
    return False


def main() -> None:
    import atheris

    sys.path.insert(0, str(ROOT))
    reader = sys.argv.pop(1)
    with atheris.instrument_imports(include=["emulator", "weights", "gguf", "json", "tomllib"]):
        _readers()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atheris.Setup(sys.argv, lambda data: try_bytes(reader, data, folder))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
