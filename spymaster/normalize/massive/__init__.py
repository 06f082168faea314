"""The frames, pages and day files of Massive -> record batches."""
