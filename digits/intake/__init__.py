"""New data: batches that are added or quarantined, and specs proposed from files."""
