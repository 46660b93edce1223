"""One reader per file layout, and the checks that every row must pass."""
