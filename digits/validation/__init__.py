"""Validating a dataset with Great Expectations, before anything is trained on it."""
