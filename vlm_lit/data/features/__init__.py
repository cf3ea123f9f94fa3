"""Vision features on disk, and rows made without pixels."""
