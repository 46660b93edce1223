"""Which columns of CSV and Parquet files are labels and pixels."""
