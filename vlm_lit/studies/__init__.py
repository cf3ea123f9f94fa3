"""Studies: from many runs to one table."""
