"""The embedded default: a drawn world of tools, gauges and lamps, its questions, and a tiny base model."""
