"""Answers of an evaluation: which turns are asked for, which options are shown, which tokens they are."""
