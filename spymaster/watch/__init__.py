"""How the recording stands at this second, for people and for whoever alerts them."""
