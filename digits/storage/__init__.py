"""What is kept between runs: bundles named by content, cache records, chained lines, locks."""
