"""What lies on disk below DATA_ROOT, and nothing that decides."""
