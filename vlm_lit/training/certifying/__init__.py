"""Certificates of runs: what a run was made of and what came of it, and the same done again from one of its steps."""
