"""The notice that a model's licence requires in an image."""

from __future__ import annotations

import re

from weights.checkpoint import Provenance

LLAMA = re.compile(r"llama-?3(?:\.(\d))?", re.IGNORECASE)  # llama3.1, Llama-3.2-1B-Instruct, ..


def notice(provenance: Provenance, chat_style: str) -> str:
    """Text of the image's NOTICE file, or "" if none is known to be needed.

    We recognise a Llama 3 by the name of its licence or repository, else by its chat format.
    The Llama licences require the attribution line and "Built with Llama" in anything made from
    the weights, as an image is.
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
