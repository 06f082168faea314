"""Log and lake -> SQL and frames. Reads only."""
