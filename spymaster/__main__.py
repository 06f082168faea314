"""`python -m spymaster` is the command line."""

from spymaster.cli import main

main()
