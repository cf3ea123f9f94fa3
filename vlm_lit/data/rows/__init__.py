"""Rows: conversations as token ids, labels and pixels, padded, packed and put into micro-batches."""
