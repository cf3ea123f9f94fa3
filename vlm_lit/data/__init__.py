"""From a file to a batch. Never knows an architecture: it is given a processor."""
