"""VQA's own rules, which training targets and metrics share: how answers are normalised, and how far people agree."""
