"""Building, training, evaluating and scoring the models."""
