"""Proposes a spec for a new dataset by examining its files."""
