"""Estimates with their uncertainty: means, differences, bootstrap, tests."""
