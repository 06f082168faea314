"""Bronze -> Silver, and what is compacted to the archive."""
