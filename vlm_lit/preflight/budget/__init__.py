"""Budget: what a run will hold in memory and on disk, before anyone pays for it."""
