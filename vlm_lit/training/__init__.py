"""LightningModules and callbacks: hooks only."""
