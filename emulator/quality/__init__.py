"""How good the chip's answers are: a float reference, and the distances to it."""
