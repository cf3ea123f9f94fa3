"""Check of all records of a run ahead of its first step."""
