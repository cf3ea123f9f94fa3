"""Data: from a file to a batch. It knows no architecture: it is given a processor."""
