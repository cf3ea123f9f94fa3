"""What a run left on disk, read strictly: predictions, scores, facts, curves, adapter."""
