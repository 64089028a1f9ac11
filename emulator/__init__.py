"""An emulator of a language model hardwired in silicon, after Taalas' HC1."""

__version__ = "0.1.0"
