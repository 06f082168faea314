"""Record batch -> durable segment -> replay."""
