"""From a checkpoint name to something trainable."""
