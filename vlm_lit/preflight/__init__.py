"""A run examined before anyone pays for it: inspection, budget, verification."""
