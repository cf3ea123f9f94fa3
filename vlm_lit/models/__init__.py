"""Models: from a checkpoint name to something trainable."""
