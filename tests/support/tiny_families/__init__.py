"""A tiny model of every architecture."""
