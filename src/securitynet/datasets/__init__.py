"""Data sets: named sets, folders and parquet, decoded once to memory-mapped uint8. No torch."""
