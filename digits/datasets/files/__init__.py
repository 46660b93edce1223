"""What lies at a path: which files are read, ignored or not read, and what their names say."""
