"""Proof that an image runs as it should: goldens, vectors for RTL, and faults put in on purpose."""
