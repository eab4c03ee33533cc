"""Many images into a folder of parquet files, by this process or by Ray workers: what is done stays done, whatever is killed and when."""
