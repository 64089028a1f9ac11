"""The chip's blocks as registers and gates: equal to `blocks` in bits and in cycles."""
