"""`python -m twotower`: the command line."""

from twotower.cli import main

main()
