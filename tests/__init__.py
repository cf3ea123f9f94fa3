"""Tests of vlm_lit; the folders mirror the package, `support/` holds what they share."""
