"""What a checkpoint brings to the data: its processor and its chat template."""
