"""Raw bytes -> record batches; pure."""
