"""Callbacks: what a run does around its steps, one file a concern."""
