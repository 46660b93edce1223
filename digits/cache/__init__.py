"""Cache keys of steps: their inputs, their libraries, and the code that they reach."""
