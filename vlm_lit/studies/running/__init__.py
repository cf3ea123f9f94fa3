"""The running of a study: its file, its cells, its queue and workers."""
