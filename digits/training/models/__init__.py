"""Builders of the models in digits/models.py, one file each."""
