"""Sweeps: many trainings side by side, and what they say about the variants that they try."""
