"""Where a dataset's files are, found or downloaded, and verified by digest."""
