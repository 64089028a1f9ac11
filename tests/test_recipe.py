"""The bytes that a compile gives are pinned to RECIPE, which names the images of the cache."""

from __future__ import annotations

import hashlib

import weights.compile
from weights.rom import RomImage

# RECIPE -> SHA-256 over the shards of the tied and the untied tiny image
PINNED = {3: "8e9efc99c1cfcba7d9170b9cb6b7158d90f3648d5d00c9c7796caaec7a069c14"}


def test_other_bytes_need_another_recipe(tiny_image: RomImage, untied_image: RomImage):
    """When this fails, compiling was changed: raise RECIPE, so that no cached image is stale."""
    digest = hashlib.sha256()
    for image in (tiny_image, untied_image):
        for file in image.manifest["files"]:
            if file["file"].endswith(".safetensors"):
                digest.update(file["sha256"].encode())
    assert {weights.compile.RECIPE: digest.hexdigest()} == PINNED
