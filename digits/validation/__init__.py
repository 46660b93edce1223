"""Validation of a dataset with Great Expectations, before any training."""
