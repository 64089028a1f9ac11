"""Rounding and scales learned end to end, by distance from the float model (docs/quality.md).

Needs torch, which the extra `learn` brings; what was learned is a file that applies without it
(`weights.learned_file`).
"""
