"""What would a run learn from, and would it learn? One file a question; nothing here writes a file."""
