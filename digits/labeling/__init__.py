"""Labeling a user's own images with the champion."""
