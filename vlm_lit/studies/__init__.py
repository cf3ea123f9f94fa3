"""From many runs to one table."""
