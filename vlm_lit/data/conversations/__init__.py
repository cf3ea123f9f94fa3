"""Conversations: a record in any accepted form as turns of text and images."""
