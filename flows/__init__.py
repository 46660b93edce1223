"""What runs, in which order: Prefect flows, and the command line above them."""

from digits.cache.keys import project

# Before the rest is imported: what is edited from now on is not what runs, nor taken for it.
project()
