"""The same deliveries as `feeds` gives, from a simulated market."""
