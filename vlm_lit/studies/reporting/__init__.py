"""A study's report, and a model's card."""
