"""Errors that a user's input causes: one line each, exit status 2."""

from __future__ import annotations


class EmulatorError(Exception):
    """Base of all errors that a user can cause and fix; the message says what to do.

    Names from a file may hold line breaks, so the message is joined to one line here.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


class CheckpointError(EmulatorError):
    """A checkpoint is missing, damaged or foreign."""


class ImageError(EmulatorError):
    """A ROM image is missing, damaged or from another format version."""


class ChipError(EmulatorError):
    """A chip description does not parse or holds an impossible value."""


class ContextError(EmulatorError):
    """Prompt and answer do not fit the chip's KV SRAM."""


class UnsupportedError(EmulatorError):
    """A model, tensor type or option that this chip cannot hold."""


class UsageError(EmulatorError):
    """An option outside its range."""


class InstallationError(EmulatorError):
    """One of our packages is foreign or damaged."""


class AdapterError(EmulatorError):
    """An adapter is missing, damaged, foreign or does not fit the model or the SRAM."""


class WorkersLostError(UsageError):
    """Workers went away in the middle; what was finished is kept for the next run."""
