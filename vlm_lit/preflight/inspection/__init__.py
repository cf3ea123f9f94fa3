"""Inspection: what a run would learn from, and whether it would learn. Nothing here writes a file."""
