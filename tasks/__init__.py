"""One pipeline step per file: thin Prefect tasks, and the cache policy they share."""
