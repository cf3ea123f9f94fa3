"""An adapter merged into its base, and the check that both answer alike."""
