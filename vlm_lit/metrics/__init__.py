"""Metrics: strings in, numbers out."""
