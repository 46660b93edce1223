"""The cache key of a step: its inputs, its libraries, and the code that it reaches."""
