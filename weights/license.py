"""What a model's licence asks an image to carry."""

from __future__ import annotations

import re

from weights.checkpoint import Provenance

LLAMA = re.compile(r"llama-?3(?:\.(\d))?", re.IGNORECASE)  # llama3.1, Llama-3.2-1B-Instruct, ..


def notice(provenance: Provenance, chat_style: str) -> str:
    """Text of the image's NOTICE file, or "" where none is known to be needed.

    A Llama 3 is told by its licence's or repository's name, else by its vocabulary's chat format.
    The Llama licences ask for the attribution line and for "Built with Llama" in what is made of
    the weights, and an image is.
    """
    told = (provenance.license, provenance.repository, provenance.name)
    match = next(filter(None, map(LLAMA.search, told)), None)
    if match is None and chat_style != "llama3":
        return ""
    version = f"3.{match[1]}" if match and match[1] else "3"
    community = f"Llama {version} Community License"
    return (
        f"Built with Llama.\n"
        f"Llama {version} is licensed under the {community}, "
        "Copyright (c) Meta Platforms, Inc. All Rights Reserved.\n"
        f"This image was made from the weights of {provenance.name}. The {community} and its "
        "Acceptable Use Policy apply to it as they do to the weights; "
        "see https://www.llama.com/license.\n"
    )
