"""Training: LightningModules, their callbacks, and what else a run consists of."""
