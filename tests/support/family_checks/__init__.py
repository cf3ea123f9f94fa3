"""Checks that every family passes."""
