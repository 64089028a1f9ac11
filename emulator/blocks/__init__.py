"""The fixed-function blocks: each says what it computes and how many cycles that takes."""
