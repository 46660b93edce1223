"""A dataset's source files: found or downloaded, and verified by digest."""
