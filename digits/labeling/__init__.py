"""Labeling a user's own pictures with the champion."""
