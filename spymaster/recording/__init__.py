"""One delivery -> log -> bus -> Bronze, in that order."""
