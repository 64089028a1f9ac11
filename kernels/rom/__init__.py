"""Packed codes: how they lie in memory, and products with them."""
