"""Comparison of systems on the same items."""
