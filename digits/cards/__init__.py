"""Model cards: what a model version is, how good it is, and what it is not for."""
