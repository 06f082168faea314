"""Is it all there, and is this machine fit? Reads, and starts daemons as processes."""
