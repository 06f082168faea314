"""The DBN records of Databento -> record batches."""
