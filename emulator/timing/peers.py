"""Llama 3.1 8B on other machines, as published: peers.toml, read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from emulator.errors import UsageError
from emulator.toml_file import read_toml

PEERS = Path(__file__).with_name("peers.toml")


@dataclass(frozen=True, slots=True)
class Peer:
    """One published figure; None where nothing was published."""

    name: str
    tokens_per_second: float  # one user
    date: str
    source: str
    rests_on: str  # measured, vendor, quoted or simulated
    power_w: float | None = None
    power_source: str | None = None
    price_in: float | None = None  # $ per million tokens
    price_out: float | None = None

    @property
    def joule_per_token(self) -> float | None:
        """All the device's power on one user's tokens: unfair to machines that batch."""
        return None if self.power_w is None else self.power_w / self.tokens_per_second


def peers() -> list[Peer]:
    """In the order of the file."""
    return [Peer(**row) for row in read_toml(PEERS, UsageError)[0]["peer"]]
