"""docs/models.md: what is taken of the most used dense families, and why the others are refused."""

from __future__ import annotations

import re
from typing import Any

import pytest

from emulator.config import from_hub_config
from emulator.config.families import FAMILIES, NEUTRAL, NO_EFFECT, READ
from emulator.errors import UnsupportedError
from tests.support.dense_configs import CONFIGS
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "models.md").read_text("utf-8")
ROWS = dict(re.findall(r"^\| ([\w.-]+) \| `\w+` \| (.*) \|$", PAGE, re.MULTILINE))
TAKEN = "taken"


def verdict(config: dict[str, Any]) -> str:
    """As the table's third column says it."""
    try:
        found = from_hub_config(config, "")
    except UnsupportedError as error:
        return f"refused: {str(error).removeprefix(': ')}"
    more = []
    if found.biases:
        more.append(f"biases of {', '.join(found.biases)}")
    if found.head_norm:
        more.append("norms of q's and k's heads")
    if found.window:
        more.append(f"{len(found.windowed)} layers with a window of {found.window:,}")
    if found.activation != "silu":
        more.append(f"a gate of {found.activation}")
    if found.unrotated:
        more.append(f"{len(found.unrotated)} layers without RoPE")
    return ": ".join([TAKEN, *([", ".join(more)] if more else [])])


def test_the_table_has_every_family():
    assert set(ROWS) == set(CONFIGS)
    assert len({config["model_type"] for config in CONFIGS.values()}) >= 12
    assert len(CONFIGS) >= 20
    assert set(FAMILIES) - {"ministral"} <= {config["model_type"] for config in CONFIGS.values()}


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_taken_and_refused(name):
    """Each row says what the reader says, word by word."""
    assert ROWS[name].replace("\\|", "|") == verdict(CONFIGS[name])


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_key_is_understood_without_effect_or_refused(kind):
    """Of a family that is taken: every other key, with a value, is refused by its name."""
    config = {**CONFIGS["Llama-2-7b"], "model_type": kind}
    assert from_hub_config(config).hidden == 4096
    for key in ("altup_coef_clip", "hidden_activation", "num_local_experts", "logit_scale"):
        if key in FAMILIES[kind].reads:
            continue
        with pytest.raises(UnsupportedError, match=f"{key} = 7"):
            from_hub_config({**config, key: 7})
        assert from_hub_config({**config, key: None}) == from_hub_config(config)
    assert not READ & NO_EFFECT
    assert not READ & set(NEUTRAL)
    assert not NO_EFFECT & set(NEUTRAL)
