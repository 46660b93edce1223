"""Storage between runs: content-addressed bundles, cache records, hash-chained files, locks."""
