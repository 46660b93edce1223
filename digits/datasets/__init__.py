"""Datasets: from source files to Parquet to arrays, and their versions."""
