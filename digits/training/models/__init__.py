"""Builders of the models that digits/models.py lists: one file each."""
