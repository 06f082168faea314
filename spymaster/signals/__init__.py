"""What the engines begin with, from log and lake, and their signals, live."""
