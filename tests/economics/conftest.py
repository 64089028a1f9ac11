"""A way to run commands."""

from __future__ import annotations

import pytest

from tests.support.command import Runner


@pytest.fixture
def command(capfd) -> Runner:
    return Runner(capfd)
