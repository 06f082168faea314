"""The long forms of everything that tries to lose a row: `make torture`. Their short ones are tests in their rooms."""
