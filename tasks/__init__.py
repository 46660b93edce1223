"""One pipeline step per file: thin Prefect tasks and their common cache policy."""
