"""What is made of whole sessions, a file for each, between Silver and whoever studies or trains on it."""
