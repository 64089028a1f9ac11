"""The bytes that a compile gives are pinned to RECIPE, which names the images of the cache."""

from __future__ import annotations

import hashlib

from weights.compile import RECIPE
from weights.rom import FORMAT_VERSION, RomImage

# (FORMAT_VERSION, RECIPE) -> SHA-256 over the shards of the tied and the untied tiny image
PINNED = {(4, 4): "3b01d82535978f30da52130e17e8864acdbbdf81f35b8a3e19f22e6ef7d09e5a"}


def test_other_bytes_need_another_recipe(tiny_image: RomImage, untied_image: RomImage):
    """When this fails, compiling was changed: raise RECIPE, so that no cached image is stale."""
    digest = hashlib.sha256()
    for image in (tiny_image, untied_image):
        for file in image.manifest["files"]:
            if file["file"].endswith(".safetensors"):
                digest.update(file["sha256"].encode())
    assert {(FORMAT_VERSION, RECIPE): digest.hexdigest()} == PINNED
