"""The hash that `rom.json` carries of itself: no byte of it changes unseen."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from emulator.errors import ImageError
from tests.support.paths import ROOT
from tests.support.refusals import refused
from tests.support.tiny_model import edit_manifest
from weights.rom import MANIFEST, RomImage, open_image
from weights.rom_files import SEAL, read_manifest, sealed

CHANGED = r"rom\.json: its content has changed \(SHA-256 differs\); delete the image and compile"


@pytest.fixture
def image(tmp_path: Path, tiny_image: RomImage) -> Path:
    return Path(shutil.copytree(tiny_image.folder, tmp_path / "image"))


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert text.count(old) == 1
        return text.replace(old, new)

    return change


def other_seal(change: Callable[[str], str]) -> Callable[[str], str]:
    """The seal's text, with its quotes, changed."""
    return lambda text: re.sub(r'(?<="manifest_sha256": )"\w+"', lambda m: change(m[0]), text)


def seal_also(key: str) -> Callable[[str], str]:
    """The seal's digits put in at a second place, where a careless reader takes out both."""
    return lambda text: text.replace(f'"{key}": "', f'"{key}": "{json.loads(text)[SEAL]}')


DIGITS = "must be 64 hexadecimal digits, not "
CASES: dict[str, tuple[Callable[[str], str], str]] = {
    "context": (replaced('"context": 256', '"context": 255'), CHANGED),
    "mix": (replaced('"mix": "3,v=6', '"mix": "3,k=6'), CHANGED),
    "end ids": (lambda text: re.sub(r'(?<="end_ids": \[)\s*257', " 25", text), CHANGED),
    "checkpoint name": (replaced('"name": "', '"name": "x'), CHANGED),
    "hash of a source": (lambda text: re.sub(r"[0-9a-f](?=\"\n   \])", "g", text), CHANGED),
    "space": (replaced('"mix": ', '"mix":  '), CHANGED),
    "no space": (replaced('"mix": ', '"mix":'), CHANGED),
    "line ends of another system": (lambda text: text.replace("\n", "\r\n"), CHANGED),
    "line break at the end": (lambda text: text + "\n", CHANGED),
    "other order": (
        lambda text: json.dumps(dict(reversed(json.loads(text).items())), indent=1),
        CHANGED,
    ),
    "one line": (lambda text: json.dumps(json.loads(text), sort_keys=True), CHANGED),
    "letter as an escape": (replaced('"tied"', '"\\u0074ied"'), CHANGED),
    "unknown key": (replaced('"mix"', '"note": 1, "mix"'), CHANGED),
    "seal also in the mix": (seal_also("mix"), CHANGED),
    "seal also in the chat style": (seal_also("chat_style"), CHANGED),
    "no seal": (lambda text: re.sub(r' "manifest_sha256": "\w+",\n', "", text), f"lacks '{SEAL}'"),
    "seal is null": (other_seal(lambda _: "null"), f"{SEAL} must be text, not None"),
    "seal is a number": (other_seal(lambda _: "1" * 64), f"{SEAL} must be text, not 1111"),
    "seal is a list": (other_seal(lambda seal: f"[{seal}]"), f"{SEAL} must be text, not .'"),
    "seal is empty": (other_seal(lambda _: '""'), DIGITS + "''"),
    "seal is short": (other_seal(lambda seal: seal[:-2] + '"'), DIGITS),
    "seal is long": (other_seal(lambda seal: seal[:-1] + '0"'), DIGITS),
    "seal in capitals": (other_seal(str.upper), DIGITS),
    "seal ends in a line break": (other_seal(lambda seal: seal[:-1] + '\\n"'), DIGITS),
    "seal of another": (other_seal(lambda seal: seal[::-1]), CHANGED),
    "seal as an escape": (other_seal(lambda s: f'"\\u{ord(s[1]):04x}{s[2:]}'), CHANGED),
}


@pytest.mark.parametrize(("change", "message"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("check_hashes", [True, False])
def test_edited(image, change, message, check_hashes):
    """By hand, as whoever does not know of the seal would; also where hashes are skipped."""
    text = (image / MANIFEST).read_text()
    edited = change(text)
    assert edited != text
    (image / MANIFEST).write_bytes(edited.encode())
    refused(ImageError, message, lambda: open_image(image, check_hashes))


def test_every_byte(image):
    """Each byte in turn changes, in one bit or in any: one line that names rom.json."""
    path, rng = image / MANIFEST, random.Random(4)
    data = path.read_bytes()
    read_manifest(image)
    for place, byte in enumerate(data):
        other = byte ^ (1 << rng.randrange(8) if place % 2 else rng.randrange(1, 256))
        path.write_bytes(data[:place] + bytes([other]) + data[place + 1 :])
        refused(ImageError, r"rom\.json", lambda: read_manifest(image))


def test_order_of_the_checks(image):
    """What is no manifest of this version is said to be that, not to be damaged."""
    path = image / MANIFEST
    text = path.read_text()
    for change, message in (
        (replaced('"format_version": 4', '"format_version": 5'), "format version 5, this program"),
        (replaced('"format_version": 4', '"format_version": 3'), "format version 3, this program"),
        (replaced('"hardwired-rom"', '"zip"'), "not a ROM image of this program"),
        (replaced('"mix"', '"tool"'), "key 'tool' is there twice"),
        (lambda text: text[:-1], r"rom\.json: not JSON"),
    ):
        path.write_text(change(text))
        refused(ImageError, message, lambda: open_image(image))
    path.write_text(replaced('"mix": "3', '"mix": "4')(text))
    (image / "layer-001.safetensors").unlink()  # a file that the damaged list names
    refused(ImageError, CHANGED, lambda: open_image(image))


def test_sealed_anew(image):
    """The product's own sealing makes an edited manifest whole, and another image of it."""
    before = open_image(image).digest
    edit_manifest(image, lambda m: m.update(tool="another"))
    after = open_image(image)
    assert after.manifest["tool"] == "another"
    assert after.digest != before
    assert sealed(after.manifest) == (image / MANIFEST).read_bytes()


def test_any_reader_can_check_it(tiny_image):
    """The lines of docs/rom-image.md."""
    page = (ROOT / "docs" / "rom-image.md").read_text()
    (lines,) = re.findall(r"\n\n((?:    .*\n)*    .*hashlib.*\n(?:    .*\n)+)", page)
    seen: list[bool] = []
    code = "\n".join(line[4:] for line in lines.splitlines())
    exec(code.replace("IMAGE", str(tiny_image.folder)), {"print": seen.append})
    assert seen == [True]
