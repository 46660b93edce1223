"""Building, training and evaluating models, and scoring images with them."""
