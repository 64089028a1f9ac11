"""Measurements of speed; each prints a table for people and, with --json, one for programs."""
