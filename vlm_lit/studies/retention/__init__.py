"""Retention: what a tuned model gained and lost on general questions, against its base."""
