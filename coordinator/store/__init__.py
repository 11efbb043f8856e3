"""What a shard keeps on disk: the seam (`kv`), RocksDB behind it (`rocks`), and what stands in each row
(`rows`)."""
