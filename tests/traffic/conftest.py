"""The default chip's service times, and a way to run commands."""

from __future__ import annotations

import pytest

from emulator.silicon.spec import load_spec
from emulator.timing.models import HC1_MIX, blank_stages, known_model
from emulator.traffic.service_times import service_times
from tests.support.command import Runner
from weights.mix import Mix


@pytest.fixture(scope="session")
def spec():
    return load_spec()


@pytest.fixture(scope="session")
def stages():
    return blank_stages(known_model("llama-3.1-8b"), Mix.parse(HC1_MIX))


@pytest.fixture(scope="session")
def times(stages, spec):
    """By hypothesis."""
    return service_times(stages, spec, ("serial", "pipelined"))


@pytest.fixture
def command(capfd) -> Runner:
    return Runner(capfd)
