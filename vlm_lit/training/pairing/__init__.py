"""Pairs of answers made from what a model says itself: sampled, kept, judged and chosen."""
