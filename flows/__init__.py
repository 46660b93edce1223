"""What runs, and in which order: the Prefect flows and the command line."""

from digits.cache.keys import project

# Snapshot the sources before the rest is imported, so that cache keys describe the code that
# runs, not later edits.
project()
