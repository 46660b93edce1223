"""`python -m flows`: the command line, for an interpreter whose scripts are not on the path."""

from flows.cli import main

main(prog_name="digits")
