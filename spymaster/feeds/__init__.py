"""A vendor connection or file -> raw bytes."""
